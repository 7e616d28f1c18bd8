"""Where the result of an elementwise function is zero: a table by the function's name."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch_pruning.rules.call import OpCall
from torch_pruning.rules.laws import EVERYWHERE, NOWHERE, All, AnyOf, Law
from torch_pruning.rules.operand import Operand

# f(0) = 0, whatever the other arguments are.
ZERO_AT_ZERO = frozenset(
    """
    _prelu_kernel abs absolute angle arcsin arcsinh arctan arctanh asin asinh atan atanh bitwise_left_shift
    bitwise_right_shift ceil celu conj_physical copysign deg2rad divide div dropout elu erf erfinv expm1
    feature_dropout fix floor floor_divide fmod frac gelu hardshrink hardswish __ilshift__ __irshift__ isinf isnan
    ldexp leaky_relu log1p __lshift__
    mish nan_to_num native_dropout neg negative polar positive rad2deg relu relu6 remainder round rrelu
    __rshift__ selu sgn sign signbit silu sin sinh softshrink special_erf special_erfinv special_expm1 special_i1
    special_i1e special_log1p special_round sqrt square tan tanh true_divide trunc xlogy special_xlogy special_xlog1py
    """.split()
)

_SUMS = (
    "add subtract sub rsub max min maximum minimum fmax fmin hypot nextafter atan2 arctan2 heaviside logical_or "
    "logical_xor bitwise_or bitwise_xor __or__ __xor__ __ior__ __ixor__ complex where lerp"
).split()
_PRODUCTS = "mul multiply logical_and bitwise_and __and__ __iand__".split()
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "greater": operator.gt,
    "lt": operator.lt,
    "less": operator.lt,
    "ne": operator.ne,
    "not_equal": operator.ne,
    "ge": operator.ge,
    "greater_equal": operator.ge,
    "le": operator.le,
    "less_equal": operator.le,
    "eq": operator.eq,
}


def zero_law(base: str, op: OpCall) -> Law | Sequence[Law]:
    """Where f(operands) is zero, by the name of f without the underscore of the in-place variant."""
    if base in _LAWS:
        return _LAWS[base](op)
    first = next((argument for argument in op.arguments.values() if not isinstance(argument, bool)), None)
    if base in ZERO_AT_ZERO and isinstance(first, Operand):
        # A second output is a mask, which says what was kept.
        return [first, *(NOWHERE for _ in op.output_shapes[1:])]
    return NOWHERE


def _sum(op: OpCall) -> Law:
    """Zero where all operands are; a scalar other than zero spoils it."""
    summands = [op.arguments.get(name) for name in ("self", "other", "end", "real", "imag", "values")]
    if any(isinstance(summand, (int, float)) and summand != 0 for summand in summands):
        return NOWHERE
    return All(*(summand for summand in summands if isinstance(summand, Operand)))


def _product(op: OpCall) -> Law:
    return AnyOf(*op.tensors())


def _comparison(op: OpCall) -> Law:
    """False where 0 compares falsely: `x > 0`, but not `x >= 0`."""
    compare = _COMPARISONS[op.op.split(".")[1].rstrip("_")]
    x, other = op.arguments.get("self"), op.arguments.get("other")
    if isinstance(other, Operand):
        return All(x, other) if isinstance(x, Operand) and not compare(0, 0) else NOWHERE
    return x if isinstance(x, Operand) and not compare(0, other) else NOWHERE


def _power(op: OpCall) -> Law:
    x, exponent = op.arguments.get("self"), op.arguments.get("exponent")
    return x if isinstance(x, Operand) and isinstance(exponent, (int, float)) and exponent > 0 else NOWHERE


def _clamped(op: OpCall) -> Law:
    """Zero stays zero between bounds that lie around it. The bounds of `hardtanh` are -1 and 1 unless given."""
    hardtanh = op.op.startswith("aten.hardtanh")
    low = op.get("min", op.get("min_val", -1 if hardtanh else None))
    high = op.get("max", op.get("max_val", 1 if hardtanh else None))
    around = all(
        isinstance(bound, Operand) or bound is None or sign * bound >= 0 for bound, sign in ((low, -1), (high, 1))
    )
    return All(*op.tensors()) if around else NOWHERE  # bounds that are tensors are zero there as well


def _filled_with(op: OpCall) -> Law:
    return EVERYWHERE if not isinstance(op.arguments["value"], Operand) and op.arguments["value"] == 0 else NOWHERE


def _masked_fill(op: OpCall) -> Law:
    value = op.arguments.get("value")
    if isinstance(value, Operand):
        return All(op.arguments["self"], value)
    return op.arguments["self"] if value == 0 else NOWHERE


def _added_product(op: OpCall) -> Law:
    return All(op.arguments["self"], AnyOf(op.arguments["tensor1"], op.arguments["tensor2"]))


def _added_quotient(op: OpCall) -> Law:
    return All(op.arguments["self"], op.arguments["tensor1"])


_LAWS: dict[str, Callable[[OpCall], Law]] = {
    **dict.fromkeys(_SUMS, _sum),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(("pow", "float_power"), _power),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "hardtanh"), _clamped),
    "fill": _filled_with,
    "masked_fill": _masked_fill,
    "addcmul": _added_product,
    "addcdiv": _added_quotient,
    "copy": lambda op: op.arguments["src"],
    "zero": lambda op: EVERYWHERE,
    "threshold": lambda op: op.arguments["self"] if op.get("value") == 0 else NOWHERE,
}
