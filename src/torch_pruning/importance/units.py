"""Which unit of a group each position of a dimension belongs to, vectorised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, resolve


def unit_index(axis: Axis, leaf: Free) -> Tensor:
    """For every position of `axis` the unit of `leaf` that owns it, -1 where none does: `[size]`.

    (H:2 * D:3), H -> [0, 0, 0, 1, 1, 1]; D -> [0, 1, 2, 0, 1, 2]; [A:2 + B:1], B -> [-1, -1, 0]
    """
    axis = resolve(axis)
    if axis is leaf:
        return torch.arange(leaf.size)
    if isinstance(axis, (Fixed, Free)):
        return torch.full((axis.size,), -1)
    if isinstance(axis, Concat):
        return torch.cat([unit_index(part, leaf) for part in axis.parts])
    assert isinstance(axis, Product)
    result = torch.full((1,), -1)
    for factor in axis.factors:
        inner = unit_index(factor, leaf)
        # A position belongs to the unit that either side names; a leaf stands in a product once.
        result = torch.maximum(result[:, None], inner[None, :]).reshape(-1)
    return result


def lane_index(axis: Axis, lanes: Sequence[Free]) -> Tensor:
    """For every position its lane, numbered row-major over `lanes`; -1 where it lies in none: `[size]`."""
    result = torch.zeros(axis.size, dtype=torch.long)
    for lane in lanes:
        inner = unit_index(axis, lane)
        result = torch.where((inner < 0) | (result < 0), torch.full_like(inner, -1), result * lane.size + inner)
    return result
