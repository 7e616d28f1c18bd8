"""Plans as data, and the surgery that carries them out."""
