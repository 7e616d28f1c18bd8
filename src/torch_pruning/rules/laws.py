"""Where a value is zero if units are zeroed: small expressions over operands, evaluated once all axes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch_pruning.axes.expression import Free
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
    """Zero where one of the operands is: products."""

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
class Nowhere:
    """Not zero anywhere, as far as is known."""


@dataclass(frozen=True, slots=True)
class Everywhere:
    """Zero on all axes, as of a tensor of zeros."""


Law: TypeAlias = All | AnyOf | Each | Nowhere | Everywhere | Operand | None
NOWHERE = Nowhere()
EVERYWHERE = Everywhere()


def zero_set(
    law: Law, zero_of: Callable[[Operand], ZeroSet], carried_by: Callable[[Operand], ZeroSet], everything: ZeroSet
) -> ZeroSet:
    """The Free axes on which a value with this law is zero where units are removed.

    `everything` is the set of axes in question (all that the result carries, and those it was contracted over).
    """
    match law:
        case None | Everywhere():
            return everything
        case Nowhere():
            return frozenset()
        case Operand():
            return zero_of(law)
        case All():
            result = everything
            for item in law.items:
                if item is not None:
                    result &= zero_set(item, zero_of, carried_by, everything)
            return result
        case AnyOf():
            result = frozenset()
            for item in law.items:
                if item is not None:
                    result |= zero_set(item, zero_of, carried_by, everything)
            return result
        case Each():
            return frozenset(
                axis
                for axis in everything
                if all(axis in zero_of(item) for item in law.items if axis in carried_by(item))
            )
