"""Deciding how many units go, and which."""
