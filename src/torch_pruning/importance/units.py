"""Which unit of a group each position of a dimension, and each entry of a tensor, belongs to; vectorised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, leaves, resolve
from torch_pruning.graph.groups import Group, Member


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


def lane_count(group: Group) -> int:
    return math.prod(lane.size for lane in group.lanes)


def parts_with(member: Member, leaf: Free) -> Iterator[tuple[Member, int]]:
    """The parts of a member's axis that carry the leaf, each as a member of its own, and where they start."""
    axis = resolve(member.axis)
    start = 0
    for part in axis.parts if isinstance(axis, Concat) else (axis,):
        if part is leaf or (not isinstance(part, Free) and leaf in leaves(part)):
            yield replace(member, axis=part), start
        start += part.size


def lane_dimension(group: Group, member: Member) -> int | None:
    """The other dimension on which lanes lie, as groups of a convolution do; None if all are on this one."""
    elsewhere = set(group.lanes).difference(leaves(member.axis))
    if not elsewhere:
        return None
    for dim, axis in enumerate(member.siblings):
        if dim != member.dim and elsewhere <= set(leaves(axis)):
            return dim
    raise AssertionError(f"lanes of {group.name} are not on {member.tensor}")


def entry_slots(group: Group, part: Member) -> Tensor:
    """lane * units + unit for every entry of a member, lanes * units where none owns it; one dimension per
    dimension of the tensor, of size 1 where the unit does not depend on it. The member's axis may be a part of it."""
    units = unit_index(part.axis, group.axis)
    own = set(leaves(part.axis))
    shape = [1] * len(part.siblings)
    shape[part.dim] = len(units)
    lanes = lane_index(part.axis, [lane for lane in group.lanes if lane in own]).clamp(min=0)
    lane_dim = lane_dimension(group, part)
    if lane_dim is None:
        slots = lanes * group.size + units
    else:
        shape[lane_dim] = part.siblings[lane_dim].size
        slots = _across(group, part, lane_dim, own) * group.size + units  # (lane dim, dim)
        units = units.expand(slots.shape)
        if lane_dim > part.dim:
            slots, units = slots.t(), units.t()
    return torch.where(units < 0, lane_count(group) * group.size, slots).reshape(shape)


def _across(group: Group, part: Member, lane_dim: int, own: set[Free]) -> Tensor:
    """The lane of every pair of positions: [lane dim, dim]. Lanes are numbered row-major over all of them."""
    lanes = torch.zeros(part.siblings[lane_dim].size, part.axis.size, dtype=torch.long)
    for lane in group.lanes:
        inside = lane in own
        positions = unit_index(part.axis if inside else part.siblings[lane_dim], lane).clamp(min=0)
        lanes = lanes * lane.size + (positions[None, :] if inside else positions[:, None])
    return lanes
