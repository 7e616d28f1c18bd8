"""Tests of the axis algebra against plain Python sets of positions."""
