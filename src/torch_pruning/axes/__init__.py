"""Axis expressions, their unification, kept positions and sizes. Knows nothing of torch."""
