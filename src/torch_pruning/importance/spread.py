"""The way back from units to entries: a factor per unit, laid out over every tensor that the group touches.

A criterion sums entries by unit, `[lanes, units]`; here each entry is told which unit it belongs to, so that sums
stay differentiable and a factor per unit can be multiplied onto the entries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.graph.groups import Group
from torch_pruning.importance.base import Scores
from torch_pruning.importance.units import entry_slots, lane_count, parts_with


@dataclass(frozen=True, slots=True)
class OwnEntries:
    """The entries of one tensor that a group owns: positions `start` to `start + length` of `dim`.

    `slots` says to which unit each belongs, lane * units + unit, and one past the last where it belongs to none. It
    has one dimension per dimension of the tensor, of size 1 where the unit does not depend on it.
    """

    tensor: str
    dim: int
    start: int
    length: int
    role: str
    slots: Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """The entries, a view of the tensor."""
        return tensor.narrow(self.dim, self.start, self.length)


@dataclass(frozen=True, slots=True)
class GroupEntries:
    """A group as the entries it owns: sums over units, and factors of units spread over entries."""

    name: str
    lanes: int
    units: int
    parts: tuple[OwnEntries, ...]

    def sum(self, values: Mapping[int, Tensor]) -> Scores:
        """Sum by unit of one number for each entry of some parts, by index of the part: [lanes, units].

        Differentiable. Values are those of `parts[index].of(tensor)`, or anything of that shape.
        """
        first = next(iter(values.values()))
        total = first.new_zeros(self.lanes * self.units + 1)
        for index, entries in values.items():
            slots = self.parts[index].slots.to(entries.device)
            rest = [dim for dim in range(entries.dim()) if slots.shape[dim] == 1]
            matrix = entries.sum(rest, keepdim=True) if rest else entries
            total = total.index_add(0, slots.reshape(-1).to(total.device), matrix.reshape(-1).to(total.device))
        return total[:-1].view(self.lanes, self.units)

    def spread(self, factor: Scores, index: int, elsewhere: float = 0.0) -> Tensor:
        """The factor of its unit for each entry of a part, `elsewhere` for those of none: broadcasts over the entries.

        [lanes, units] -> [A, 1, 1, 1] for units along dim 0 of [A, B, kh, kw].
        """
        flat = torch.cat([factor.reshape(-1), factor.new_full((1,), elsewhere)])
        return flat[self.parts[index].slots.to(factor.device)]


def group_entries(group: Group) -> GroupEntries:
    """The entries of every member of a group, in the coordinates that the model has now."""
    parts = tuple(
        OwnEntries(part.tensor, part.dim, start, part.axis.size, part.role, entry_slots(group, part))
        for member in group.members
        for part, start in parts_with(member, group.axis)
    )
    return GroupEntries(group.name, lane_count(group), group.size, parts)
