"""What an importance criterion is, and how scores of members become scores of units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from torch_pruning.axes.expression import Concat, Free, leaves, resolve
from torch_pruning.graph.groups import Group, Member
from torch_pruning.importance.units import lane_index, unit_index

Scores: TypeAlias = Tensor  # [lanes, units]; one lane where the group has none


class Importance(Protocol):
    """A criterion: scores of a group's units, higher is more important. `tensors` are the model's, by name."""

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores: ...


@dataclass(frozen=True, slots=True)
class FunctionImportance:
    """A user's own function of a group, as an importance."""

    function: Callable[[Group], Tensor]

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        scores = torch.as_tensor(self.function(group))
        lanes = lane_count(group)
        if scores.shape not in ((group.size,), (lanes, group.size)):
            raise ValueError(
                f"an importance must give one score per unit, [{group.size}] or [{lanes}, {group.size}]; "
                f"found {list(scores.shape)} for {group.name}"
            )
        return scores.reshape(-1, group.size).expand(lanes, group.size)


def lane_count(group: Group) -> int:
    return math.prod(lane.size for lane in group.lanes)


def group_scores(
    group: Group,
    tensors: Mapping[str, Tensor],
    of_entries: Callable[[Tensor], Tensor],
    roles: frozenset[str] | None = None,
) -> Scores:
    """Sum of `of_entries(tensor)` over every entry that belongs to a unit, over all members: [lanes, units].

    `of_entries` maps the entries of a group in a tensor, as float32, to as many numbers (a square, say).
    `roles` restricts the members.
    """
    total = torch.zeros(lane_count(group), group.size, dtype=torch.float32)
    for member in group.members:
        if roles is None or member.role in roles:
            tensor = tensors[member.tensor].detach()
            for part, start in parts_with(member, group.axis):
                # Only the entries that the group owns: a concatenation of many groups is read once, not once for each.
                own = tensor.narrow(member.dim, start, part.axis.size)
                entries = of_entries(own.to(dtype=torch.promote_types(tensor.dtype, torch.float32)))
                total = total.to(entries.device, torch.promote_types(total.dtype, entries.dtype))
                total += member_scores(group, part, entries)
    return total


def parts_with(member: Member, leaf: Free) -> Iterator[tuple[Member, int]]:
    """The parts of a member's axis that carry the leaf, each as a member of its own, and where they start."""
    axis = resolve(member.axis)
    start = 0
    for part in axis.parts if isinstance(axis, Concat) else (axis,):
        if part is leaf or (not isinstance(part, Free) and leaf in leaves(part)):
            yield replace(member, axis=part), start
        start += part.size


def member_scores(group: Group, member: Member, entries: Tensor) -> Scores:
    """The entries of one member summed by unit (and lane): [lanes, units]."""
    if member.axis is group.axis and not group.lanes:
        rest = [dim for dim in range(entries.dim()) if dim != member.dim]
        return (entries.sum(rest) if rest else entries).view(1, -1)
    lanes = lane_count(group)
    matrix = entries.movedim(member.dim, -1)
    units = unit_index(member.axis, group.axis).to(entries.device)
    owned = units >= 0
    own_leaves = set(leaves(member.axis))
    if not group.lanes or all(lane in own_leaves for lane in group.lanes):
        vector = matrix.reshape(-1, matrix.shape[-1]).sum(0)
        slots = lane_index(member.axis, group.lanes).to(entries.device) * group.size + units
        return entries.new_zeros(lanes * group.size).index_add_(0, slots[owned], vector[owned]).view(lanes, group.size)
    return _across(group, member, entries, units, owned, lanes)


def _across(group: Group, member: Member, entries: Tensor, units: Tensor, owned: Tensor, lanes: int) -> Scores:
    """Lanes lie in another dimension of the tensor, as the groups of a grouped convolution do, or some of them."""
    own_leaves = set(leaves(member.axis))
    lane_dim = lane_dimension(group, member, own_leaves)
    rest = [dim for dim in range(entries.dim()) if dim not in (lane_dim, member.dim)]
    matrix = entries.sum(rest) if rest else entries  # (lane dim, dim) or the other way round
    if lane_dim > member.dim:
        matrix = matrix.t()
    slots = torch.zeros(matrix.shape, dtype=torch.long)
    for lane in group.lanes:  # row-major over all lanes
        inside = lane in own_leaves
        positions = unit_index(member.axis if inside else member.siblings[lane_dim], lane)
        slots = slots * lane.size + (positions[None, :] if inside else positions[:, None])
    slots = slots.to(entries.device) * group.size + units[None, :]
    totals = entries.new_zeros(lanes * group.size)
    return totals.index_add_(0, slots[:, owned].reshape(-1), matrix[:, owned].reshape(-1)).view(lanes, group.size)


def lane_dimension(group: Group, member: Member, own_leaves: set[Free]) -> int:
    elsewhere = set(group.lanes) - own_leaves
    for dim, axis in enumerate(member.siblings):
        if dim != member.dim and elsewhere <= set(leaves(axis)):
            return dim
    raise AssertionError(f"lanes of {group.name} are not on {member.tensor}")


def resolve_importance(importance: object, seed: int | None = None) -> Importance:
    """The criterion for a name ("magnitude", "random"), a function of a group, or an importance itself.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    from torch_pruning.importance.weight import MagnitudeScore, RandomScore

    known: dict[str, Callable[[], Importance]] = {
        "magnitude": MagnitudeScore,
        "l1": lambda: MagnitudeScore(p=1),
        "l2": MagnitudeScore,
        "random": lambda: RandomScore(seed or 0),
    }
    if isinstance(importance, str):
        if importance not in known:
            raise ValueError(
                f"importance must be one of {sorted(known)} or a function of a group, found {importance!r}"
            )
        return known[importance]()
    if isinstance(importance, (MagnitudeScore, RandomScore, FunctionImportance)):
        return importance
    if callable(importance):
        return FunctionImportance(importance)
    raise ValueError(f"importance must be a name or a function of a group, found {type(importance).__name__}")
