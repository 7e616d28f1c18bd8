"""Rules against reality: every rule's claims, compared with what the op really does."""
