"""What a group owns of one tensor: its entries, sorted by the units they belong to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from torch_pruning.axes.expression import concat, leaves, resolve
from torch_pruning.graph.groups import Group, Member
from torch_pruning.importance.tensors import ModelTensors, widened
from torch_pruning.importance.units import entry_slots, lane_count, lane_dimension, parts_with


class Share(ABC):
    """One tensor's part in a group. Scores that come from it are [lanes, units].

    `own` picks the entries of the group out of any tensor of the same shape (the weights, their gradients); `sums`,
    `rows` and `positions` bring them to their units.
    """

    name: str
    tensor: Tensor
    dim: int
    role: str
    layer: nn.Module | None
    is_parameter: bool  # or may be one: of a plain mapping of tensors, nothing more is known

    @property
    def is_bias(self) -> bool:
        """Whether it is what a layer adds: `bias`, `bias_ih_l0`, `in_proj_bias`."""
        last = self.name.rpartition(".")[2]
        return last.startswith("bias") or last.endswith("bias")

    @property
    def values(self) -> Tensor:
        """The group's entries of the tensor itself, at least in float32."""
        return widened(self.own(self.tensor))

    @abstractmethod
    def own(self, full: Tensor) -> Tensor:
        """The entries that belong to the group, of a tensor of the shape of this one. A view where possible."""

    @abstractmethod
    def sums(self, entries: Tensor) -> Tensor:
        """Entries, as `own` gives them, summed by unit: [lanes, units]."""

    def power_sums(self, p: float) -> Tensor:
        """|w|^p of the tensor's own entries, summed by unit: [lanes, units]."""
        return self.sums(_power(self.values, p))

    @abstractmethod
    def rows(self, entries: Tensor | None = None) -> Tensor:
        """Entries, as `own` gives them (the tensor's own, if none are given), by unit: [lanes, units, entries]."""

    @abstractmethod
    def positions(self, vector: Tensor) -> Tensor:
        """Numbers of the positions of the dimension ([G * I] for dim 1, [I], of a convolution in G groups) summed by
        unit: [lanes, units]."""


def spread(vector: Tensor, shape: Sequence[int], dim: int) -> Tensor:
    """Numbers of the positions of one dimension, as a tensor that broadcasts over `shape`.

    [I], dim 1 -> [1, I, 1, 1]. Of a convolution in groups a channel stands in the rows of its group alone:
    [G * I], dim 1 of [G * O, I, ...] -> [G * O, I, 1, 1].
    """
    groups = vector.shape[0] // shape[dim]
    if groups == 1:
        return vector.view([-1 if at == dim else 1 for at in range(len(shape))])
    rows = vector.view(groups, 1, shape[dim]).expand(groups, shape[0] // groups, shape[dim])
    return rows.reshape(shape[0], *(shape[dim] if at == dim else 1 for at in range(1, len(shape))))


class UnitShare(Share):
    """The share of a group of the graph. Units and lanes are found through the axis expression of the dimension."""

    def __init__(self, group: Group, member: Member, tensors: Mapping[str, Tensor]) -> None:
        self.group = group
        self.name, self.dim, self.role = member.tensor, member.dim, member.role
        self.tensor = tensors[member.tensor]
        known = isinstance(tensors, ModelTensors)
        self.layer = tensors.layer(member.tensor) if isinstance(tensors, ModelTensors) else None
        self.is_parameter = isinstance(self.tensor, nn.Parameter) or not known
        whole = resolve(member.axis)
        # Only what the group owns is read: a concatenation of many groups once, not once for each of them.
        parts = [(part.axis, start) for part, start in parts_with(member, group.axis)]
        complete = sum(part.size for part, _ in parts) == whole.size
        self.member = replace(member, axis=whole if complete else concat(part for part, _ in parts))
        self.lane_dim = lane_dimension(group, self.member)
        self._pieces = [] if complete else [(start, part.size) for part, start in parts]

    def own(self, full: Tensor) -> Tensor:
        pieces = [full.narrow(self.dim, start, size) for start, size in self._pieces]
        return torch.cat(pieces, self.dim) if len(pieces) > 1 else pieces[0] if pieces else full

    def sums(self, entries: Tensor) -> Tensor:
        return self._by_unit(lambda rest: _summed(entries, rest))

    def power_sums(self, p: float) -> Tensor:
        own = self.values

        def reduced(rest: list[int]) -> Tensor:
            if p == 2 and rest and 0 not in rest:  # along rows a norm is fast and needs no squares in memory
                return torch.linalg.vector_norm(own, 2, rest).square()
            return _summed(_power(own, p), rest)

        return self._by_unit(reduced)

    def _by_unit(self, reduced: Callable[[list[int]], Tensor]) -> Tensor:
        """What is left when the dimensions that do not tell units apart are reduced, summed by unit."""
        group = self.group
        if self.member.axis is group.axis and not group.lanes:
            return reduced([dim for dim in range(self.tensor.dim()) if dim != self.dim]).view(1, -1)
        slots = self._slots()
        summed = reduced([dim for dim, size in enumerate(slots.shape) if size == 1])
        # One slot more than there are units, for the entries of none.
        totals = summed.new_zeros(lane_count(group) * group.size + 1)
        totals.index_add_(0, slots.reshape(-1).to(summed.device), summed.reshape(-1))
        return totals[:-1].view(-1, group.size)

    def rows(self, entries: Tensor | None = None) -> Tensor:
        entries = self.values if entries is None else entries
        lanes, size = lane_count(self.group), self.group.size
        slots = self._slots()
        carrying = [dim for dim in range(entries.dim()) if dim in (self.dim, self.lane_dim)]
        leading = entries.movedim(carrying, tuple(range(len(carrying)))).flatten(0, len(carrying) - 1)
        # Every unit owns equally many entries, so they sort into a table.
        order = torch.argsort(slots.reshape(-1), stable=True)[: int((slots < lanes * size).sum())]
        table = leading if torch.equal(order, torch.arange(len(leading))) else leading[order.to(entries.device)]
        return table.reshape(lanes, size, -1)

    def positions(self, vector: Tensor) -> Tensor:
        shape = self.tensor.shape
        entries = spread(vector, shape, self.dim)
        lane_dim = self.lane_dim
        copies = 1
        if vector.shape[0] != shape[self.dim]:
            copies = shape[0] // (vector.shape[0] // shape[self.dim])
        elif lane_dim is not None:
            elsewhere = math.prod(lane.size for lane in self.group.lanes if lane not in leaves(self.member.axis))
            entries = entries.expand([shape[d] if d == lane_dim else size for d, size in enumerate(entries.shape)])
            copies = shape[lane_dim] // elsewhere
        return self.sums(self.own(entries)) / copies

    def _slots(self) -> Tensor:
        """See `entry_slots`."""
        return entry_slots(self.group, self.member)


def _power(entries: Tensor, p: float) -> Tensor:
    if p == 2 and not entries.is_complex():
        return entries.square()
    return entries.abs() if p == 1 else entries.abs().pow(p)


def _summed(entries: Tensor, dims: list[int]) -> Tensor:
    """The sum over some dimensions. The first goes by itself: of rows it is fast, of parts of rows not."""
    if 0 in dims:
        entries = entries.sum(0)
        dims = [dim - 1 for dim in dims if dim != 0]
    return entries.sum(dims) if dims else entries


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group of the graph together with the tensors it lies on: what a user's own criterion is given.

    Iterating yields its shares; `share.rows()` is [lanes, units, entries].
    """

    group: Group
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def size(self) -> int:
        """How many units it has."""
        return self.group.size

    @property
    def lanes(self) -> int:
        """In how many lanes units are chosen apart; 1 for most groups."""
        return lane_count(self.group)

    @property
    def members(self) -> tuple[Member, ...]:
        return self.group.members

    def __iter__(self) -> Iterator[Share]:
        for member in self.group.members:
            yield UnitShare(self.group, member, self.tensors)
