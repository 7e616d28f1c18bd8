"""Size expressions over the sources of integers, and their polynomials.

A *source* is where an integer came from: an attribute of a module, or a dimension of a value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, resolve
from torch_pruning.axes.polynomials import Polynomial


def size_polynomial(axis: Axis) -> Polynomial:
    """The size of an axis as a polynomial in the counts of its Free axes: [A + (B * 3)] -> a + 3b."""
    axis = resolve(axis)
    if isinstance(axis, Fixed):
        return Polynomial.constant(axis.size)
    if isinstance(axis, Free):
        return Polynomial.symbol(axis)
    if isinstance(axis, Concat):
        total = Polynomial({})
        for part in axis.parts:
            total = total + size_polynomial(part)
        return total
    assert isinstance(axis, Product)
    result = Polynomial.constant(1)
    for factor in axis.factors:
        result = result * size_polynomial(factor)
    return result


# ---------------------------------------------------------------- size expressions


@dataclass(frozen=True, slots=True)
class AttributeSource:
    """An integer found on a module, or in a container or config object on it.

    `steps` lead there from the module: ("attribute", name) or ("item", key).
    """

    module: str
    steps: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        steps = "".join(f"[{key!r}]" if kind == "item" else f".{key}" for kind, key in self.steps)
        return (self.module + steps).lstrip(".")


@dataclass(frozen=True, slots=True)
class DimensionSource:
    """The size of one dimension of one recorded value."""

    value: int
    dim: int


@dataclass(frozen=True, slots=True)
class Operation:
    """`left symbol right`, each side an expression or a plain number."""

    symbol: str
    left: Expression
    right: Expression


Expression = int | AttributeSource | DimensionSource | Operation

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(expression: Expression, lookup: Callable[[AttributeSource | DimensionSource], int]) -> int:
    """The number an expression has when its sources have the values that `lookup` gives."""
    if isinstance(expression, int):
        return int(expression)
    if isinstance(expression, Operation):
        result: int = ARITHMETIC[expression.symbol](
            evaluate(expression.left, lookup), evaluate(expression.right, lookup)
        )
        return result
    return lookup(expression)


def holds(symbol: str, left: int, right: int) -> bool:
    """The truth of `left symbol right`."""
    return bool(COMPARISONS[symbol](left, right))


def sources(expression: Expression) -> list[AttributeSource | DimensionSource]:
    """The sources in an expression, left to right."""
    if isinstance(expression, int):
        return []
    if isinstance(expression, Operation):
        return sources(expression.left) + sources(expression.right)
    return [expression]


Ratio = tuple[Polynomial, Polynomial]


def to_ratio(
    expression: Expression, polynomial_of: Callable[[AttributeSource | DimensionSource], Polynomial | Ratio]
) -> Ratio | None:
    """The expression as numerator / denominator; None for what is no rational function (`%`, powers of sizes).

    `a // b` becomes a / b: it is exact in the run that was recorded, or the caller has frozen its axes.
    """
    one = Polynomial.constant(1)
    if isinstance(expression, int):
        return Polynomial.constant(int(expression)), one
    if not isinstance(expression, Operation):
        found = polynomial_of(expression)
        return (found, one) if isinstance(found, Polynomial) else found
    left, right = to_ratio(expression.left, polynomial_of), to_ratio(expression.right, polynomial_of)
    if left is None or right is None:
        return None
    (a, b), (c, d) = left, right
    match expression.symbol:
        case "+":
            return a * d + c * b, b * d
        case "-":
            return a * d - c * b, b * d
        case "*":
            return a * c, b * d
        case "//":
            return a * d, b * c
        case "**" if isinstance(expression.right, int) and expression.right >= 0:
            return _power(a, int(expression.right)), _power(b, int(expression.right))
        case _:
            return None


def divides(
    expression: Expression,
    polynomial_of: Callable[[AttributeSource | DimensionSource], Polynomial | Ratio],
    equations: Sequence[Polynomial] = (),
) -> bool:
    """Whether no `//` in an expression ever leaves a remainder, where the equations (polynomial == 0) hold.

    (h * d) // h does not, and neither does c // h where c == h * d; c // 2 may.
    """
    if not isinstance(expression, Operation):
        return True
    if not all(divides(side, polynomial_of, equations) for side in (expression.left, expression.right)):
        return False
    if expression.symbol != "//":
        return True
    ratio = to_ratio(expression, polynomial_of)
    if ratio is None:
        return False
    numerator, denominator = ratio
    solved = [numerator.substitute(*solution) for equation in equations for solution in equation.solutions()]
    return any(each.is_multiple_of(denominator) for each in (numerator, *solved))


def _power(base: Polynomial, exponent: int) -> Polynomial:
    result = Polynomial.constant(1)
    for _ in range(exponent):
        result = result * base
    return result
