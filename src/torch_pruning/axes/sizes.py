"""Integers with a source: size expressions, their polynomials, and the `int` subclass that carries them.

A *source* is where an integer came from: an attribute of a module, or a dimension of a value. Arithmetic on traced
integers keeps the expression; comparisons are logged as guards, and uses as a number (`/`, `float`, a negative power)
as value uses.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partialmethod
from typing import Any, Protocol

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


# ---------------------------------------------------------------- traced integers


class SizeLog(Protocol):
    """What a recorder offers to traced integers."""

    def guard(self, symbol: str, left: Expression, right: Expression, outcome: bool) -> None: ...

    def value_use(self, expression: Expression) -> int: ...

    def uneven(self, expression: Expression) -> None: ...

    def rounded(self, event: int) -> None: ...


class TracedInt(int):
    """An integer that remembers where it came from. It behaves as the plain number everywhere.

    What no subclass of `int` can notice: a float on the left (`1.0 / n`, `0.5 < n`), `math.log` and its kin,
    `range(n)`, the bitwise operators. Their results are plain numbers. Where they reach an op, the check of a plan
    finds that they changed.
    """

    expression: Expression
    log: SizeLog

    def __new__(cls, value: int, expression: Expression, log: SizeLog) -> TracedInt:
        self = super().__new__(cls, value)
        self.expression = expression
        self.log = log
        return self

    __hash__ = int.__hash__

    def __int__(self) -> int:
        """A use as a number, for what becomes of the plain one is out of sight."""
        self.log.value_use(self.expression)
        return int.__int__(self)

    def __float__(self) -> float:
        self.log.value_use(self.expression)
        return float(int.__int__(self))

    def __truediv__(self, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        return self._number(int.__int__(self) / _plain_number(other), other, 1.0)

    def __rtruediv__(self, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        return self._number(_plain_number(other) / int.__int__(self), other, -1.0)

    def _number(self, value: float, other: float, exponent: float) -> float:
        """The result of a use as a number. Of two sizes it has no simple form."""
        event = self.log.value_use(self.expression)
        if isinstance(other, TracedInt):
            other.log.value_use(other.expression)
        plain = isinstance(other, TracedInt | TracedFloat) or not isinstance(value, float)
        return value if plain else TracedFloat(value, event, exponent, self.log)

    def __deepcopy__(self, memo: Any) -> int:
        return int.__int__(self)

    def __copy__(self) -> int:
        return int.__int__(self)

    def __reduce__(self) -> Any:
        return int, (int.__int__(self),)

    def __divmod__(self, other: Any) -> Any:
        if isinstance(other, float):
            return _numbers(divmod(int.__int__(self), float(other)), self)
        return (self // other, self % other) if isinstance(other, int) else NotImplemented

    def __rdivmod__(self, other: Any) -> Any:
        return (other // self, other % self) if isinstance(other, int) else NotImplemented

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None or digits >= 0 else int.__round__(self, digits)

    def __pos__(self) -> TracedInt:
        return self

    __trunc__ = __floor__ = __ceil__ = __pos__

    def __neg__(self) -> Any:
        return 0 - self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << other) if _is_shift(other) else int.__lshift__(self, other)

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << other) if _is_shift(other) else int.__rshift__(self, other)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __format__(self, spec: str) -> str:
        return format(int.__int__(self), spec)  # text is no use as a number

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`numpy.sqrt(n)`: a use as a number, of each input that is traced."""
        for item in inputs:
            if isinstance(item, TracedInt):
                item.log.value_use(item.expression)
        plain = [int.__int__(item) if isinstance(item, TracedInt) else item for item in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)


def _is_shift(other: Any) -> bool:
    return isinstance(other, int) and not isinstance(other, TracedInt) and other >= 0


class TracedFloat(float):
    """A number `k * size ** exponent`, k whatever it was: `event` is the value use in which the size became a number.

    Multiplying and dividing by plain numbers keeps the form; anything else gives a plain float. Rounding is logged.
    """

    event: int
    exponent: float
    log: SizeLog

    def __new__(cls, value: float, event: int, exponent: float, log: SizeLog) -> TracedFloat:
        self = super().__new__(cls, value)
        self.event, self.exponent, self.log = event, exponent, log
        return self

    def __mul__(self, other: Any) -> Any:
        return self._with(float.__mul__(self, other), other, self.exponent)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._with(float.__truediv__(self, other), other, self.exponent)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(float.__rtruediv__(self, other), other, -self.exponent)

    def __neg__(self) -> Any:
        return TracedFloat(-float(self), self.event, self.exponent, self.log)

    def _with(self, value: Any, other: Any, exponent: float) -> Any:
        if isinstance(other, TracedInt):
            other.log.value_use(other.expression)
        plain = isinstance(other, int | float) and not isinstance(other, TracedInt | TracedFloat)
        return TracedFloat(value, self.event, exponent, self.log) if plain and value is not NotImplemented else value

    def __reduce__(self) -> Any:
        return float, (float(self),)

    def _rounded(self, name: str, *args: Any) -> Any:
        self.log.rounded(self.event)
        return getattr(float, name)(self, *args)


for _name in ("__int__", "__trunc__", "__floor__", "__ceil__", "__round__", "__floordiv__"):
    setattr(TracedFloat, _name, partialmethod(TracedFloat._rounded, _name))


def _plain_number(number: float) -> float:
    return int.__int__(number) if isinstance(number, int) else float(number)


def expression_of(number: int) -> Expression:
    """The source of an integer, or the plain number."""
    return number.expression if isinstance(number, TracedInt) else int(number)


def _install(symbol: str, name: str) -> None:
    compute = _ARITHMETIC[symbol]

    def combine(self: TracedInt, left: int, right: int, other: int) -> Any:
        a, b = int.__int__(left), int.__int__(right)
        value = compute(a, b)
        if not isinstance(value, int):  # a negative power
            return self._number(value, other, b) if left is self else _numbers(value, self, other)
        expression = Operation(symbol, expression_of(left), expression_of(right))
        if symbol == "//" and a % b:
            self.log.uneven(expression)
        return TracedInt(value, expression, self.log)

    def forward(self: TracedInt, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:
            return pow(int.__int__(self), other, modulus)
        if isinstance(other, int):
            return combine(self, self, other, other)
        if not isinstance(other, float | complex):
            return NotImplemented
        value = compute(int.__int__(self), complex(other) if isinstance(other, complex) else float(other))
        if symbol in ("*", "**") and isinstance(other, float):
            return self._number(value, other, 1.0 if symbol == "*" else float(other))
        return _numbers(value, self, other)

    def backward(self: TracedInt, other: Any, modulus: Any = None) -> Any:
        return combine(self, other, self, other) if isinstance(other, int) else NotImplemented

    setattr(TracedInt, f"__{name}__", forward)
    setattr(TracedInt, f"__r{name}__", backward)


def _numbers(value: Any, *operands: Any) -> Any:
    """The value, after logging that each traced operand was used as a number."""
    for operand in operands:
        if isinstance(operand, TracedInt):
            operand.log.value_use(operand.expression)
    return value


def _install_comparison(symbol: str, name: str) -> None:
    compute = _COMPARISONS[symbol]

    def compare(self: TracedInt, other: Any) -> Any:
        if isinstance(other, float):
            outcome = compute(int.__int__(self), float(other))
            bound = _integer_bound(symbol, float(other))
            if bound is not None:
                self.log.guard(symbol, self.expression, bound, outcome)
            return outcome
        if not isinstance(other, int):
            return NotImplemented
        outcome = compute(int.__int__(self), int.__int__(other))
        self.log.guard(symbol, self.expression, expression_of(other), outcome)
        return outcome

    setattr(TracedInt, f"__{name}__", compare)


def _integer_bound(symbol: str, number: float) -> int | None:
    """The integer that stands for a float in a comparison with sizes; None if all sizes compare alike.

    n < 2.5 is n < 3; n >= 2.5 is n >= 3; n == 2.5 is never true.
    """
    if not math.isfinite(number):
        return None
    if symbol in ("==", "!="):
        return int(number) if number.is_integer() else None
    return math.ceil(number) if symbol in ("<", ">=") else math.floor(number)


for _symbol, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod", "**": "pow"}.items():
    _install(_symbol, _name)
for _symbol, _name in {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}.items():
    _install_comparison(_symbol, _name)
