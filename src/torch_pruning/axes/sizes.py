"""Integers with a source: size expressions, their polynomials, and the `int` subclass that carries them.

A *source* is where an integer came from: an attribute of a module, or a dimension of a value. Arithmetic on traced
integers keeps the expression; comparisons are logged as guards, and uses as a number (`/`, `float`, a negative power)
as value uses.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, resolve

# ---------------------------------------------------------------- polynomials

Symbol = Hashable
Monomial = tuple[Symbol, ...]


class Polynomial:
    """A polynomial with integer coefficients: `{(): 3, (a, b): 2}` is 3 + 2ab. Monomials are sorted by identity."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        return cls({(): value})

    @classmethod
    def symbol(cls, symbol: Symbol) -> Polynomial:
        return cls({(symbol,): 1})

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return Polynomial({monomial: -factor for monomial, factor in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for a, x in self.terms.items():
            for b, y in other.terms.items():
                monomial = tuple(sorted(a + b, key=id))
                terms[monomial] = terms.get(monomial, 0) + x * y
        return Polynomial(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    @property
    def symbols(self) -> list[Symbol]:
        """The symbols that occur, each once, in order of first appearance."""
        return list(dict.fromkeys(symbol for monomial in self.terms for symbol in monomial))

    @property
    def value(self) -> int | None:
        """The number, if the polynomial is constant; None otherwise."""
        return None if any(self.terms) else self.terms.get((), 0)

    def evaluate(self, counts: Callable[[Symbol], int]) -> int:
        total = 0
        for monomial, factor in self.terms.items():
            for symbol in monomial:
                factor *= counts(symbol)
            total += factor
        return total

    def substitute(self, symbol: Symbol, replacement: Polynomial) -> Polynomial:
        result = Polynomial({})
        for monomial, factor in self.terms.items():
            term = Polynomial({tuple(s for s in monomial if s != symbol): factor})
            for _ in range(monomial.count(symbol)):
                term = term * replacement
            result = result + term
        return result

    def __repr__(self) -> str:
        def show(monomial: Monomial, factor: int) -> str:
            names = "*".join(getattr(s, "name", "") or str(s) for s in monomial)
            return names if factor == 1 and names else f"{factor}*{names}" if names else str(factor)

        return " + ".join(show(*item) for item in self.terms.items()) or "0"


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

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
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
        result: int = _ARITHMETIC[expression.symbol](
            evaluate(expression.left, lookup), evaluate(expression.right, lookup)
        )
        return result
    return lookup(expression)


def holds(symbol: str, left: int, right: int) -> bool:
    """The truth of `left symbol right`."""
    return bool(_COMPARISONS[symbol](left, right))


def sources(expression: Expression) -> list[AttributeSource | DimensionSource]:
    """The sources in an expression, left to right."""
    if isinstance(expression, int):
        return []
    if isinstance(expression, Operation):
        return sources(expression.left) + sources(expression.right)
    return [expression]


Ratio = tuple[Polynomial, Polynomial]


def to_ratio(
    expression: Expression, polynomial_of: Callable[[AttributeSource | DimensionSource], Polynomial]
) -> Ratio | None:
    """The expression as numerator / denominator; None for what is no rational function (`%`, powers of sizes).

    `a // b` becomes a / b: it is exact in the run that was recorded, or the caller has frozen its axes.
    """
    one = Polynomial.constant(1)
    if isinstance(expression, int):
        return Polynomial.constant(int(expression)), one
    if not isinstance(expression, Operation):
        return polynomial_of(expression), one
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


def _power(base: Polynomial, exponent: int) -> Polynomial:
    result = Polynomial.constant(1)
    for _ in range(exponent):
        result = result * base
    return result


# ---------------------------------------------------------------- traced integers


class SizeLog(Protocol):
    """What a recorder offers to traced integers."""

    def guard(self, symbol: str, left: Expression, right: Expression, outcome: bool) -> None: ...

    def value_use(self, expression: Expression) -> None: ...

    def uneven(self, expression: Expression) -> None: ...


class TracedInt(int):
    """An integer that remembers where it came from. It behaves as the plain number everywhere."""

    expression: Expression
    log: SizeLog

    def __new__(cls, value: int, expression: Expression, log: SizeLog) -> TracedInt:
        self = super().__new__(cls, value)
        self.expression = expression
        self.log = log
        return self

    __hash__ = int.__hash__

    def __float__(self) -> float:
        self.log.value_use(self.expression)
        return float(int.__int__(self))

    def __truediv__(self, other: Any) -> Any:
        self.log.value_use(self.expression)
        return int.__truediv__(self, other) if isinstance(other, int) else NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        self.log.value_use(self.expression)
        return int.__rtruediv__(self, other) if isinstance(other, int) else NotImplemented

    def __deepcopy__(self, memo: Any) -> int:
        return int.__int__(self)

    def __copy__(self) -> int:
        return int.__int__(self)

    def __reduce__(self) -> Any:
        return int, (int.__int__(self),)

    def __divmod__(self, other: Any) -> Any:
        return (self // other, self % other)

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __pos__(self) -> Any:
        return self

    def __neg__(self) -> Any:
        return 0 - self

    def __bool__(self) -> bool:
        return bool(self != 0)


def expression_of(number: int) -> Expression:
    """The source of an integer, or the plain number."""
    return number.expression if isinstance(number, TracedInt) else int(number)


def _install(symbol: str, name: str) -> None:
    compute = _ARITHMETIC[symbol]

    def combine(self: TracedInt, left: Any, right: Any) -> Any:
        a, b = int(_plain(left)), int(_plain(right))
        value = compute(a, b)
        if not isinstance(value, int):  # a negative power
            self.log.value_use(self.expression)
            return value
        expression = Operation(symbol, expression_of(left), expression_of(right))
        if symbol == "//" and a % b:
            self.log.uneven(expression)
        return TracedInt(value, expression, self.log)

    def forward(self: TracedInt, other: Any) -> Any:
        if isinstance(other, int):
            return combine(self, self, other)
        if isinstance(other, float):
            self.log.value_use(self.expression)
        return getattr(int, f"__{name}__")(self, other)

    def backward(self: TracedInt, other: Any) -> Any:
        if isinstance(other, int):
            return combine(self, other, self)
        if isinstance(other, float):
            self.log.value_use(self.expression)
        return getattr(int, f"__r{name}__")(self, other)

    setattr(TracedInt, f"__{name}__", forward)
    setattr(TracedInt, f"__r{name}__", backward)


def _install_comparison(symbol: str, name: str) -> None:
    compute = _COMPARISONS[symbol]

    def compare(self: TracedInt, other: Any) -> Any:
        if isinstance(other, float):
            self.log.value_use(self.expression)
        if not isinstance(other, int):
            return getattr(int, f"__{name}__")(self, other)
        outcome = compute(_plain(self), _plain(other))
        self.log.guard(symbol, self.expression, expression_of(other), outcome)
        return outcome

    setattr(TracedInt, f"__{name}__", compare)


def _plain(number: int) -> int:
    return int.__int__(number)


for _symbol, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod", "**": "pow"}.items():
    _install(_symbol, _name)
for _symbol, _name in {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}.items():
    _install_comparison(_symbol, _name)
