"""The `int` subclass that carries a size expression through the code of a model, and numbers that are made of it.

Arithmetic on traced integers keeps the expression; comparisons are logged as guards, and uses as a number (`/`,
`float`, a negative power) as value uses.
"""

from __future__ import annotations

import math
from functools import partialmethod
from typing import Any, Protocol

from torch_pruning.axes.sizes import ARITHMETIC, COMPARISONS, Expression, Operation


class SizeLog(Protocol):
    """What a recorder offers to traced integers."""

    def guard(self, symbol: str, left: Expression, right: Expression, outcome: bool) -> None: ...

    def value_use(self, expression: Expression) -> int: ...

    def uneven(self, expression: Expression) -> None: ...

    def rounded(self, event: int) -> None: ...


class TracedInt(int):
    """An integer that remembers where it came from. It behaves as the plain number everywhere.

    What no subclass of `int` can notice: a float on the left (`1.0 / n`, `0.5 < n`), `math.log` and its kin, what
    `int(n)` gives (these `trace/mathematics.py` sees to), `range(n)`, the bitwise operators. Their results are plain
    numbers. Where they reach an op, the check of a plan finds that they changed.
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
        return self._number(
            int.__int__(self) / _plain_number(other), other, 1.0, _times((self, 1), *_ratio(other)[::-1])
        )

    def __rtruediv__(self, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        return self._number(_plain_number(other) / int.__int__(self), other, -1.0)

    def _number(self, value: float, other: float, exponent: float, quotient: Quotient | None = None) -> float:
        """The result of a use as a number. Of two sizes it has no simple form."""
        event = self.log.value_use(self.expression)
        if isinstance(other, TracedInt):
            other.log.value_use(other.expression)
        plain = isinstance(other, TracedInt | TracedFloat) or not isinstance(value, float)
        return value if plain else TracedFloat(value, event, exponent, self.log, quotient)

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


# (numerator, denominator) of a number. The numerator is a traced integer.
Quotient = tuple[int, int]
# The quotient of two integers below this is whole as a float only where it is whole.
_EXACT = 1 << 24


def _times(number: Quotient, over: int, under: int) -> Quotient | None:
    """number * over / under, if rounding a float to whole numbers does the same as `//`: nothing else was rounded.

    A denominator that is a power of two rounds nothing; any other has to be the last one.
    """
    numerator, denominator = number
    rounded = denominator & (denominator - 1)
    size = int.__int__(numerator)
    if rounded or size < 0 or not 0 < over < _EXACT or size * over >= _EXACT or not 0 < denominator * under < _EXACT:
        return None
    return numerator if over == 1 else numerator * over, denominator * under


def _ratio(factor: Any) -> tuple[int, int]:
    """A plain number as a quotient of integers; (0, 0) for anything else."""
    plain = isinstance(factor, int | float) and not isinstance(factor, TracedInt | TracedFloat)
    return factor.as_integer_ratio() if plain and math.isfinite(factor) else (0, 0)


class TracedFloat(float):
    """A number `k * size ** exponent`, k whatever it was: `event` is the value use in which the size became a number.

    Multiplying and dividing by plain numbers keeps the form; anything else gives a plain float. Rounding is logged,
    except for what is whole again, as the `quotient` says: `int(n / 0.5)` is `n * 2`, and `int(n / 2)` is `n // 2`.
    """

    event: int
    exponent: float
    log: SizeLog
    quotient: Quotient | None

    def __new__(
        cls, value: float, event: int, exponent: float, log: SizeLog, quotient: Quotient | None = None
    ) -> TracedFloat:
        self = super().__new__(cls, value)
        self.event, self.exponent, self.log, self.quotient = event, exponent, log, quotient
        return self

    def __mul__(self, other: Any) -> Any:
        over, under = _ratio(other)
        return self._with(float.__mul__(self, other), other, self.exponent, over, under)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        over, under = _ratio(other)
        return self._with(float.__truediv__(self, other), other, self.exponent, under, over)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(float.__rtruediv__(self, other), other, -self.exponent, 0, 0)

    def __neg__(self) -> Any:
        return TracedFloat(-float(self), self.event, self.exponent, self.log)

    def _with(self, value: Any, other: Any, exponent: float, over: int, under: int) -> Any:
        """The number as `value`, which is what it was * over / under; 0 and 0 if it has no such form."""
        if isinstance(other, TracedInt):
            other.log.value_use(other.expression)
        plain = isinstance(other, int | float) and not isinstance(other, TracedInt | TracedFloat)
        if not plain or value is NotImplemented:
            return value
        quotient = _times(self.quotient, over, under) if self.quotient is not None else None
        return TracedFloat(value, self.event, exponent, self.log, quotient)

    def __reduce__(self) -> Any:
        return float, (float(self),)

    def whole(self) -> int:
        """As `int(self)`, with its source where the quotient is known."""
        if self.quotient is None:
            return int(self)
        numerator, denominator = self.quotient
        return numerator if denominator == 1 else numerator // denominator

    __floor__ = whole

    def _rounded(self, name: str, *args: Any) -> Any:
        self.log.rounded(self.event)
        return getattr(float, name)(self, *args)


for _name in ("__int__", "__trunc__", "__ceil__", "__round__", "__floordiv__"):
    setattr(TracedFloat, _name, partialmethod(TracedFloat._rounded, _name))


def _plain_number(number: float) -> float:
    return int.__int__(number) if isinstance(number, int) else float(number)


def expression_of(number: int) -> Expression:
    """The source of an integer, or the plain number."""
    return number.expression if isinstance(number, TracedInt) else int(number)


def _install(symbol: str, name: str) -> None:
    compute = ARITHMETIC[symbol]

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
            return self._number(
                value,
                other,
                1.0 if symbol == "*" else float(other),
                _times((self, 1), *_ratio(other)) if symbol == "*" else None,
            )
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
    compute = COMPARISONS[symbol]

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
