"""Groups: the free axes that lie on tensors of the model, with everything they touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.graph.exactness import Mark
from torch_pruning.rules.call import CARRIED, CONTRACTED, LOOKED_UP, NORMALISED, PRODUCED
from torch_pruning.rules.facts import Role

_ROLE_ORDER = (PRODUCED, LOOKED_UP, NORMALISED, CONTRACTED, CARRIED)


@dataclass(frozen=True, slots=True)
class Member:
    """One dimension of one tensor of the model on which a group lies. `axis` is the whole expression there."""

    tensor: str
    dim: int
    axis: Axis
    role: str
    siblings: tuple[Axis, ...] = ()  # the axes of all dimensions of the tensor

    def __str__(self) -> str:
        return f"{self.tensor} dim {self.dim} ({self.role}) = {self.axis!r}"


@dataclass(eq=False, slots=True)
class Group:
    """One free axis and all its members.

    `lanes` are the axes over which it may keep different units. `marks` say why removal is not exact, if it is not.
    """

    name: str
    axis: Free
    members: tuple[Member, ...]
    marks: tuple[Mark, ...]
    lanes: tuple[Free, ...] = ()
    minimum: int = 1
    tied: list[str] = field(default_factory=list)  # names of groups whose counts follow this one's

    @property
    def size(self) -> int:
        """How many units it has now."""
        return self.axis.size

    @property
    def units(self) -> int:
        return self.axis.size

    @property
    def exact(self) -> bool:
        """Whether removing units equals zeroing them."""
        return not self.marks

    @property
    def reason(self) -> str | None:
        """What makes removal inexact."""
        return str(self.marks[0]) if self.marks else None

    def __repr__(self) -> str:
        exact = "exact" if self.exact else f"inexact: {self.reason}"
        return f"Group({self.name}, {self.size} units, {len(self.members)} members, {exact})"


def find_groups(
    of_state: Mapping[str, tuple[Axis, ...]],
    roles: Iterable[Role],
    marks: Mapping[Free, list[Mark]],
    lanes: Mapping[Free, tuple[Free, ...]],
    at_least_two: Iterable[Free],
) -> list[Group]:
    """Every free axis that has more than one unit and lies on a tensor of the model, in the model's order."""
    role_of: dict[tuple[str, int], str] = {}
    for role in roles:
        key = (role.tensor, role.dim)
        if key not in role_of or _ROLE_ORDER.index(role.role) < _ROLE_ORDER.index(role_of[key]):
            role_of[key] = role.role
    members: dict[Free, list[Member]] = {}
    for tensor, axes in of_state.items():
        for dim, axis in enumerate(axes):
            for leaf in dict.fromkeys(leaves(axis)):
                if leaf.reason is None and leaf.size > 1:
                    members.setdefault(leaf, []).append(
                        Member(tensor, dim, axis, role_of.get((tensor, dim), CARRIED), axes)
                    )
    two = set(at_least_two)
    groups = []
    taken: dict[str, int] = {}
    for leaf, found in members.items():
        base = _name(found)
        taken[base] = taken.get(base, 0) + 1
        name = base if taken[base] == 1 else f"{base}#{taken[base]}"
        unique = tuple(dict.fromkeys(marks.get(leaf, ())))
        groups.append(Group(name, leaf, tuple(found), unique, lanes.get(leaf, ()), 2 if leaf in two else 1))
    return groups


def _name(members: list[Member]) -> str:
    """The module (or tensor) that produces the axis, else the first member."""
    produced = next((m for m in members if m.role == PRODUCED), None) or members[0]
    path, _, last = produced.tensor.rpartition(".")
    return path if path and last in ("weight", "bias") else produced.tensor
