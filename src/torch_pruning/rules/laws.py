"""Where a value is zero if units are zeroed: small expressions over operands, evaluated once all axes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.rules.operand import Operand

ZeroSet = frozenset[Free]


@dataclass(frozen=True, slots=True)
class All:
    """Zero where every operand is: sums. Absent operands (None) do not count; a `Nowhere` spoils it."""

    items: tuple[Law, ...]

    def __init__(self, *items: Law) -> None:
        object.__setattr__(self, "items", items)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Zero where one of the operands is: products. On an axis that lies on several dimensions of the product, as in
    [A, 1] * [1, A], every operand must be.
    """

    items: tuple[Law, ...]

    def __init__(self, *items: Law) -> None:
        object.__setattr__(self, "items", items)


@dataclass(frozen=True, slots=True)
class Each:
    """Zero where every operand *that carries the axis* is: concatenations."""

    items: tuple[Operand, ...]

    def __init__(self, *items: Operand) -> None:
        object.__setattr__(self, "items", items)


@dataclass(frozen=True, slots=True)
class Along:
    """Zero where the operand is, on these of its axes only: those that a contraction leaves."""

    item: Operand
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Not zero anywhere, as far as is known."""


@dataclass(frozen=True, slots=True)
class Everywhere:
    """Zero on all axes, as of a tensor of zeros."""


Law: TypeAlias = All | AnyOf | Each | Along | Nowhere | Everywhere | Operand | None
NOWHERE = Nowhere()
EVERYWHERE = Everywhere()


def zero_set(
    law: Law,
    zero_of: Callable[[Operand], ZeroSet],
    carried_by: Callable[[Operand], ZeroSet],
    everything: ZeroSet,
    repeated: ZeroSet = frozenset(),
) -> ZeroSet:
    """The Free axes on which a value with this law is zero where units are removed.

    `everything` is the set of axes in question; `repeated` are those that lie on several dimensions of the value.
    """
    match law:
        case None | Everywhere():
            return everything
        case Nowhere():
            return frozenset()
        case Operand():
            return zero_of(law)
        case Along():
            return zero_of(law.item) & frozenset(leaf for axis in law.axes for leaf in leaves(axis))
        case All():
            result = everything
            for item in law.items:
                if item is not None:
                    result &= zero_set(item, zero_of, carried_by, everything, repeated)
            return result
        case AnyOf():
            factors = [
                zero_set(item, zero_of, carried_by, everything, repeated) for item in law.items if item is not None
            ]
            if not factors:
                return frozenset()
            return (frozenset().union(*factors) - repeated) | repeated.intersection(*factors)
        case Each():
            # Each axis need only be zero on the items that carry it.
            return everything.difference(*(carried_by(item) - zero_of(item) for item in law.items))
