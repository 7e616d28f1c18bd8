"""Counts of units: what a choice says, or all there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch_pruning.axes.expression import Axis, Free
from torch_pruning.axes.sizes import size_polynomial

Counts = Mapping[Free, int]


def counted(counts: Counts) -> Callable[[object], int]:
    """The count of a Free axis under these counts; one that they do not name keeps all its units."""

    def count(symbol: object) -> int:
        assert isinstance(symbol, Free), f"{symbol} is no axis"
        return counts.get(symbol, symbol.size)

    return count


def size_under(axis: Axis, counts: Counts) -> int:
    """The size that an axis expression has under these counts."""
    return size_polynomial(axis).evaluate(counted(counts))
