"""Latency as a cost: measured times of ops on the user's device, interpolated over widths."""
