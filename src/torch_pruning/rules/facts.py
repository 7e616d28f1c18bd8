"""What rules say about a program, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch_pruning.axes.expression import Axis
from torch_pruning.axes.sizes import Expression
from torch_pruning.rules.laws import Law
from torch_pruning.rules.operand import Operand


@dataclass(frozen=True, slots=True)
class SizeEquation:
    """`expression == size of axis`, as the code at `where` asks for it. A plain integer is a literal."""

    expression: Expression
    axis: Axis
    where: Any


@dataclass(frozen=True, slots=True)
class Statistic:
    """Something computed over an axis. kind "sum": exact where the law gives zeros; "count": only the number of units
    enters; "all": every unit enters, removed or not."""

    axis: Axis
    kind: str
    law: Law
    text: str
    where: Any
    repair: ScaleRepair | None = None


@dataclass(frozen=True, slots=True)
class ScaleRepair:
    """Scaling `operand` by (new size / old size) ** `power` makes up for a number that the size enters.

    The size is that of `axis`, or of the value use `event`. With an `attribute` the operand is a weight that is
    scaled itself, and that attribute of the module by the power -1. Where the result is `linear` in the operand, it can
    be set right behind the op as well.
    """

    operand: Operand
    power: float
    axis: Axis | None = None
    event: int | None = None
    attribute: str = ""
    where: Any = None
    linear: bool = True


@dataclass(frozen=True, slots=True)
class Mixing:
    """Positions of `axis` are related to each other while `carried` axes ride along: no lanes of those over `axis`."""

    axis: Axis
    carried: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """What an op does with one dimension of a tensor of the model."""

    tensor: str
    dim: int
    role: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-accumulates: `factor` times the product of the sizes of `axes`."""

    axes: tuple[Axis, ...]
    factor: float
    module: str
    op: str


@dataclass(frozen=True, slots=True)
class Divisible:
    """Dimension `dim` of value number `value` must stay a multiple of `divisor`: the kernel takes nothing else."""

    value: int
    dim: int
    divisor: int
    where: Any


@dataclass(frozen=True, slots=True)
class EvenStrides:
    """Value number `value` is read two numbers at a time: its strides must stay even, whatever it is a view of."""

    value: int
    where: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """Axes of every output tensor, in order, and for each where it is zero."""

    axes: tuple[tuple[Axis, ...], ...]
    zeros: tuple[Law, ...]


@dataclass(frozen=True, slots=True)
class CustomizedCall:
    """A layer that its user prunes, and the axes of its inputs and outputs, one and the same if `coupled`."""

    path: str
    entering: Axis
    leaving: Axis
    coupled: bool


@dataclass(slots=True)
class Facts:
    """Everything the rules said about one program."""

    equations: list[SizeEquation] = field(default_factory=list)
    statistics: list[Statistic] = field(default_factory=list)
    mixings: list[Mixing] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    equal_counts: list[tuple[Axis, Axis, Any]] = field(default_factory=list)
    at_least_two: list[Axis] = field(default_factory=list)
    divisible: list[Divisible] = field(default_factory=list)
    even_strides: list[EvenStrides] = field(default_factory=list)
    number_repairs: list[ScaleRepair] = field(default_factory=list)
    scalar_uses: list[tuple[Expression, Any, ScaleRepair | None]] = field(default_factory=list)
    replaced_modules: dict[str, list[Axis]] = field(default_factory=dict)
    customized: dict[str, CustomizedCall] = field(default_factory=dict)
