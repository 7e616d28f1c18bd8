"""Axis expressions: what a tensor dimension *is*, not how large it is.

    Axis ::= Free(size)              a variable; may be bound to another axis; may be frozen, with a reason
           | Fixed(size)             never free: batch, tokens, pixels; every axis of size 1
           | Product(a1, ..., ak)    row-major: position = (i1 * size(a2) + i2) * ...
           | Concat(a1, ..., ak)     the parts one after another

`product` and `concat` keep the normal form: no Product in a Product, no Concat in a Concat, no `Fixed(1)`
factor, no empty part, neighbouring Fixed merged, a single part stands for itself.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable
from typing import Any

_serials = itertools.count()


class Reason:
    """Why an axis is frozen: a sentence, and where in the user's code it was decided (or None)."""

    __slots__ = ("text", "where")

    yields = False

    def __init__(self, text: str, where: Any = None) -> None:
        self.text = text
        self.where = where

    def __str__(self) -> str:
        return self.text if self.where is None else f"{self.text} at {self.where}"

    __repr__ = __str__


class OutputReason(Reason):
    """Frozen only because somebody reads the model's outputs: any other reason takes its place."""

    __slots__ = ()

    yields = True


class Axis:
    """Base of the four kinds of expression."""

    __slots__ = ()

    @property
    def size(self) -> int:
        raise AssertionError("abstract")


class Fixed(Axis):
    """An axis that was never free."""

    __slots__ = ("size",)

    size: int

    def __init__(self, size: int) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"{self.size}!"


class Free(Axis):
    """A variable: one identity, `size` units.

    `reason` is set when it is frozen. `temporary` marks inference variables that no tensor of the model owns:
    they may vanish into a Fixed. `outers` are axes beside which this one came to be as the inner factor of a
    split: the candidates for lanes. `depth` counts the cuts that led to it.
    """

    __slots__ = ("bound", "depth", "name", "outers", "reason", "serial", "size", "temporary")

    size: int

    def __init__(self, size: int, *, name: str = "", temporary: bool = False) -> None:
        self.size = size
        self.name = name
        self.temporary = temporary
        self.bound: Axis | None = None
        self.reason: Reason | None = None
        self.outers: tuple[Axis, ...] = ()
        self.depth = 0
        self.serial = next(_serials)

    def shrink(self, size: int) -> None:
        """Set the number of units that are left after surgery."""
        self.size = size

    def __repr__(self) -> str:
        if self.bound is not None:
            return repr(resolve(self))
        return f"{self.name or f'x{self.serial}'}:{self.size}{'!' if self.reason else ''}"


class Product(Axis):
    """Row-major product of at least two factors. Build with `product`."""

    __slots__ = ("factors", "variables")

    def __init__(self, factors: tuple[Axis, ...]) -> None:
        self.factors = factors
        self.variables = _variables(factors)

    @property
    def size(self) -> int:
        return math.prod([factor.size for factor in self.factors])

    def __repr__(self) -> str:
        return "(" + " * ".join(map(repr, self.factors)) + ")"


class Concat(Axis):
    """At least two parts, one after another. Build with `concat`."""

    __slots__ = ("parts", "variables")

    def __init__(self, parts: tuple[Axis, ...]) -> None:
        self.parts = parts
        self.variables = _variables(parts)

    @property
    def size(self) -> int:
        return sum([part.size for part in self.parts])

    def __repr__(self) -> str:
        return "[" + " + ".join(map(repr, self.parts)) + "]"


def _variables(children: tuple[Axis, ...]) -> tuple[Free, ...]:
    """The Free axes of an expression when it was built. As long as none of them is bound it is in normal form."""
    found: list[Free] = []
    for child in children:
        if isinstance(child, Free):
            found.append(child)
        elif isinstance(child, (Product, Concat)):
            found += child.variables
    return tuple(found)


ONE = Fixed(1)


def product(axes: Iterable[Axis]) -> Axis:
    """The row-major product in normal form; the product of nothing is `Fixed(1)`."""
    factors: list[Axis] = []
    for axis in axes:
        axis = resolve(axis)
        for factor in axis.factors if isinstance(axis, Product) else (axis,):
            if _is_one(factor):
                continue
            if isinstance(factor, Fixed) and factors and isinstance(factors[-1], Fixed):
                factors[-1] = Fixed(factors[-1].size * factor.size)
            else:
                factors.append(factor)
    if not factors:
        return ONE
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _is_one(factor: Axis) -> bool:
    """Whether a factor is a single unit that stays: Fixed, or frozen as what a cut leaves over."""
    if isinstance(factor, Fixed):
        return factor.size == 1
    return isinstance(factor, Free) and factor.size == 1 and factor.reason is not None


def concat(axes: Iterable[Axis]) -> Axis:
    """The concatenation in normal form; the concatenation of nothing is `Fixed(0)`."""
    parts: list[Axis] = []
    for axis in axes:
        axis = resolve(axis)
        for part in axis.parts if isinstance(axis, Concat) else (axis,):
            if not isinstance(part, Fixed):
                parts.append(part)
            elif part.size == 0:
                continue
            elif parts and isinstance(parts[-1], Fixed):
                parts[-1] = Fixed(parts[-1].size + part.size)
            else:
                parts.append(part)
    if not parts:
        return Fixed(0)
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def resolve(axis: Axis) -> Axis:
    """The axis with all bindings followed, in normal form. Compresses the paths it walks.

    Chains of variables are walked in a loop, for they grow with the network. Nesting does not: it is bounded by the
    number of splits (each divides a size) and of cuts (limited by `unify`), so it may recurse.
    """
    if isinstance(axis, Free):
        return axis if axis.bound is None else _follow(axis)
    if isinstance(axis, Product):
        for leaf in axis.variables:
            if leaf.bound is not None:
                return product(axis.factors)
    elif isinstance(axis, Concat):
        for leaf in axis.variables:
            if leaf.bound is not None:
                return concat(axis.parts)
    return axis


def _follow(axis: Free) -> Axis:
    chain = []
    end: Axis = axis
    while isinstance(end, Free) and end.bound is not None:
        chain.append(end)
        end = end.bound
    end = resolve(end)
    for link in chain:
        link.bound = end
    return end


def alike(a: Axis, b: Axis) -> bool:
    """Whether two resolved axes are seen at once to be the same: one object, or made of the same objects."""
    if a is b:
        return True
    if isinstance(a, Fixed):
        return isinstance(b, Fixed) and a.size == b.size
    if isinstance(a, Concat) and isinstance(b, Concat):
        return _same_objects(a.parts, b.parts)
    return isinstance(a, Product) and isinstance(b, Product) and _same_objects(a.factors, b.factors)


def _same_objects(left: tuple[Axis, ...], right: tuple[Axis, ...]) -> bool:
    return len(left) == len(right) and all(map(operator.is_, left, right))


def leaves(axis: Axis) -> tuple[Free, ...]:
    """The Free axes of the resolved expression, left to right, repeated as often as they occur."""
    axis = resolve(axis)
    if isinstance(axis, Free):
        return (axis,)
    return axis.variables if isinstance(axis, (Product, Concat)) else ()


def freeze(axis: Axis, reason: Reason) -> None:
    """Freeze every Free axis of the expression. The first reason stays, unless it yields; identities stay too."""
    for leaf in leaves(axis):
        if leaf.reason is None or leaf.reason.yields:
            leaf.reason = reason
