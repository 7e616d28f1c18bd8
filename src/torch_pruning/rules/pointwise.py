"""Elementwise ops: axes of equal size unify, a size of 1 broadcasts. What matters beyond that is whether f(0) = 0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch

from torch_pruning.axes.expression import Axis, Fixed
from torch_pruning.rules.call import CARRIED, NORMALISED, OpCall, Outcome
from torch_pruning.rules.laws import EVERYWHERE, NOWHERE, All, AnyOf, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule

# Functions of one tensor with f(0) = 0, whatever their other arguments.
_ZERO_AT_ZERO = frozenset(
    ["relu", "gelu", "silu", "mish", "tanh", "elu", "celu", "selu", "leaky_relu", "relu6", "hardswish", "hardshrink", "softshrink", "tanhshrink", "softsign", "abs", "neg", "sqrt", "square", "sin", "sinh", "tan", "atan", "arctan", "asin", "arcsin", "asinh", "arcsinh", "atanh", "arctanh", "erf", "erfinv", "expm1", "log1p", "sign", "sgn", "floor", "ceil", "round", "trunc", "fix", "frac", "nan_to_num", "deg2rad", "rad2deg", "negative", "positive", "absolute", "rrelu", "real", "imag", "conj_physical", "to_copy", "type_as", "float_power_", "__lshift__", "__rshift__", "clone"]
)
# Elementwise ops that do not carry the tag.
_UNTAGGED = (
    ["square", "multiply", "divide", "true_divide", "subtract", "floor_divide", "clip", "masked_fill", "where", "dropout", "dropout_", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "rrelu", "hardtanh", "hardswish", "silu", "gelu", "selu", "celu", "threshold", "log_sigmoid", "softplus", "logit", "fake_quantize_per_tensor_affine", "isin", "type_as", "add", "sub", "mul", "div", "rsub", "where", "relu", "relu6", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "__and__", "__or__", "__xor__", "__ior__", "__iand__", "logical_and", "logical_or", "logical_not", "logical_xor", "greater", "less", "greater_equal", "less_equal", "not_equal", "isnan", "isinf", "isfinite", "isclose", "nan_to_num", "float_power", "polar", "complex", "masked_fill_", "fill", "copy", "uniform", "normal", "bernoulli", "exponential", "random", "zero", "absolute", "negative", "arctan2", "atan2", "hypot", "log_normal", "cauchy", "geometric", "native_dropout", "bucketize", "searchsorted_", "positive", "fmod", "remainder", "lerp", "addcmul", "addcdiv", "copysign", "nextafter", "xlogy", "special_expit", "erfinv", "mish", "hardsigmoid", "sigmoid", "softsign", "tanhshrink", "hardshrink", "softshrink", "threshold_", "log_sigmoid_forward", "value_selecting_reduction_", "cos", "sin", "exp", "log", "pow"]
)


def is_pointwise(function: Any) -> bool:
    """Whether an op is elementwise: by its tag, or because it is listed."""
    if torch.Tag.pointwise in getattr(function, "tags", ()):
        return True
    schema = getattr(function, "_schema", None)
    if schema is None or not schema.name.startswith("aten::"):
        return False
    base = schema.name.removeprefix("aten::")
    return base in _UNTAGGED or base.rstrip("_") in _UNTAGGED


def broadcast(op: OpCall, operands: Sequence[Operand]) -> tuple[Axis, ...]:
    """The axes of the broadcast operands: [A, B], [B], [1, B] -> [A, B]."""
    axes: list[Axis] = []
    for dims in zip_longest(*(reversed(operand.axes) for operand in operands)):
        wide = [axis for axis in dims if axis is not None and axis.size != 1]
        narrow = [axis for axis in dims if axis is not None]
        axes.append(op.unify_all(wide) if wide else narrow[0])
    return tuple(reversed(axes))


def elementwise(op: OpCall) -> Outcome:
    """The rule for every op recognised by `is_pointwise`."""
    operands = op.tensors()
    if not operands:
        return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))
    axes = broadcast(op, operands)
    for operand in operands:
        for dim in range(operand.rank):
            op.role(operand, dim, CARRIED)
    base = op.op.split(".")[1]
    law = zero_law(base if base.startswith("__") else base.rstrip("_"), op)
    outputs = [axes if len(shape) == len(axes) else op.fixed(shape) for shape in op.output_shapes]
    return op.outcome(*outputs, zero=law)


def zero_law(base: str, op: OpCall) -> Law:
    """Where f(operands) is zero, by the name of f."""
    tensors = op.tensors()
    first = tensors[0]
    scalars = [
        value for name, value in op.arguments.items() if isinstance(value, (int, float)) and name in ("other", "value")
    ]
    match base:
        case "add" | "sub" | "subtract" | "rsub" | "maximum" | "minimum" | "fmax" | "fmin" | "lerp" | "hypot" | "where":
            constants = [v for n, v in op.arguments.items() if n in ("other", "self") and isinstance(v, (int, float))]
            law = All(*(tensor for tensor in tensors if tensor is not op.arguments.get("condition")))
            return law if all(value == 0 for value in constants) else NOWHERE
        case "mul" | "multiply" | "__and__" | "logical_and" | "bitwise_and":
            return AnyOf(*tensors)
        case (
            "div"
            | "divide"
            | "true_divide"
            | "floor_divide"
            | "fmod"
            | "remainder"
            | "masked_fill"
            | "copysign"
            | "float_power"
        ):
            if base == "masked_fill" and scalars and any(scalars):
                return NOWHERE
            return first if isinstance(op.arguments.get("self"), Operand) else NOWHERE
        case "addcmul":
            return All(first, AnyOf(*tensors[1:]))
        case "addcdiv":
            return All(first, tensors[1])
        case "pow":
            exponent = op.arguments.get("exponent")
            return first if isinstance(exponent, (int, float)) and exponent > 0 else NOWHERE
        case "clamp" | "clip" | "clamp_min" | "clamp_max" | "hardtanh":
            return first if _clamps_around_zero(op) else NOWHERE
        case "copy":
            return op.arguments.get("src")
        case "fill" | "full_like":
            return EVERYWHERE if op.arguments.get("value") == 0 else NOWHERE
        case "zero":
            return EVERYWHERE
        case "dropout" | "feature_dropout" | "native_dropout":
            return first
        case "threshold":
            return first if op.get("value") == 0 else NOWHERE
        case _:
            return first if base in _ZERO_AT_ZERO else NOWHERE


def _clamps_around_zero(op: OpCall) -> bool:
    low = next((op.arguments[name] for name in ("min", "min_val") if name in op.arguments), None)
    high = next((op.arguments[name] for name in ("max", "max_val") if name in op.arguments), None)
    if isinstance(low, Operand) or isinstance(high, Operand):
        return False
    low, high = (-1 if op.op.startswith("aten.hardtanh") and low is None else low), high
    return (low is None or low <= 0) and (high is None or high >= 0)


@rule("aten.prelu")
def prelu(op: OpCall) -> Outcome:
    """[B, C, ...] with weight [C] or [1]."""
    x, weight = op.operands("self", "weight")
    if weight.rank and weight.axes[0].size != 1:
        op.unify(x.axes[1 if x.rank > 1 else 0], weight.axes[0])
        op.role(weight, 0, NORMALISED)
    return op.outcome(x.axes, zero=x)


@rule(
    "aten.contiguous", "aten.to", "aten._to_copy", "aten.clone", "aten.detach", "aten.detach_", "aten.alias",
    "aten.lift_fresh", "aten.lift_fresh_copy", "aten.lift", "aten.resolve_conj", "aten.resolve_neg", "aten.requires_grad_",
    "aten._conj", "aten._unsafe_view.same", "aten.type_as", "aten.cpu", "aten.cuda", "aten.float", "aten.half", "aten.view.dtype",
    "aten.view_as_real_copy", "aten.rename", "aten.pin_memory", "aten._nested_tensor_from_mask", "aten.set_data", "aten.real",
)  # fmt: skip
def identity(op: OpCall) -> Outcome:
    """The same tensor in another guise; further tensor arguments only lend their dtype or device."""
    x = op.tensors()[0]
    if len(op.output_shapes) == 1 and op.output_shapes[0] != x.shape:
        op.freeze_all(x, "changes the shape of what it reinterprets")
        return op.outcome(op.fixed(op.output_shapes[0]))
    return op.outcome(*(x.axes for _ in op.output_shapes), zero=x)


@rule("aten.view_as_real")
def view_as_real(op: OpCall) -> Outcome:
    """[..., A] complex -> [..., A, 2]."""
    (x,) = op.operands("self")
    return op.outcome((*x.axes, Fixed(2)), zero=x)


@rule("aten.view_as_complex")
def view_as_complex(op: OpCall) -> Outcome:
    """[..., A, 2] -> [..., A] complex."""
    (x,) = op.operands("self")
    op.freeze(x.axes[-1], "real and imaginary part")
    return op.outcome(x.axes[:-1], zero=x)
