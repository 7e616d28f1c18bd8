"""Run a model once and record what it does."""
