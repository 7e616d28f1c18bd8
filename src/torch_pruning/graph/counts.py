"""Counts of units: what a choice says, or all there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch_pruning.axes.expression import Axis, Concat, Free, Product, resolve

Counts = Mapping[Free, int]


def counted(counts: Counts) -> Callable[[object], int]:
    """The count of a Free axis under these counts; one that they do not name keeps all its units."""

    def count(symbol: object) -> int:
        assert isinstance(symbol, Free), f"{symbol} is no axis"
        return counts.get(symbol, symbol.size)

    return count


def size_under(axis: Axis, counts: Counts) -> int:
    """The size that an axis expression has under these counts."""
    axis = resolve(axis)
    if isinstance(axis, Free):
        return counts.get(axis, axis.size)
    if isinstance(axis, Product):
        return math.prod([size_under(factor, counts) for factor in axis.factors])
    if isinstance(axis, Concat):
        return sum([size_under(part, counts) for part in axis.parts])
    return axis.size
