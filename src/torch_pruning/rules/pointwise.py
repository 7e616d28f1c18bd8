"""Elementwise ops: axes of equal size unify, a size of 1 broadcasts. What matters beyond that is whether f(0) = 0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import CARRIED, NORMALISED, OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule
from torch_pruning.rules.zero_at_zero import zero_law

# Arguments that work on values, and the ops whose scalar is a factor (1) or a divisor (-1).
_SCALARS = frozenset("other alpha beta value exponent min max min_val max_val weight end threshold".split())
_FACTORS = {"mul": 1.0, "multiply": 1.0, "div": -1.0, "divide": -1.0, "true_divide": -1.0}
_RANDOM = frozenset("bernoulli cauchy exponential geometric log_normal normal poisson random uniform".split())
# Elementwise ops that do not carry the tag in every overload.
_UNTAGGED = frozenset(
    """
    __and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __or__ __xor__ _prelu_kernel absolute alpha_dropout
    arccos arccosh arcsin arcsinh arctan arctan2 arctanh bernoulli cauchy clip complex copy divide dropout
    exponential fake_quantize_per_tensor_affine feature_alpha_dropout feature_dropout fill fix float_power
    floor_divide geometric greater greater_equal hardswish isclose isfinite less less_equal ldexp log_normal log_sigmoid
    log_sigmoid_forward masked_fill multiply native_dropout negative normal not_equal poisson polar positive
    random rsub special_expit subtract threshold true_divide uniform where zero
    """.split()
)


def is_pointwise(function: Any) -> bool:
    """Whether an op is elementwise: by its tag, or because it is listed."""
    if torch.Tag.pointwise in getattr(function, "tags", ()):
        return True
    schema = getattr(function, "_schema", None)
    if schema is None or not schema.name.startswith("aten::"):
        return False
    base = schema.name.removeprefix("aten::")
    if base in _UNTAGGED:
        return True
    if base.startswith("__") or not base.endswith("_"):
        return False
    # The in-place variant is what the op itself is, though not all of them carry the tag.
    of_place = getattr(torch.ops.aten, base[:-1], None)
    same = getattr(of_place, schema.overload_name or "default", None)
    return base[:-1] in _UNTAGGED or torch.Tag.pointwise in getattr(same, "tags", ())


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
    base = base if base.startswith("__") else base.rstrip("_")
    for name, argument in op.arguments.items():
        if isinstance(argument, int | float) and name in _SCALARS:
            op.number(name, operands[0], _power(op, base) if name == "other" and len(operands) == 1 else None)
    if base in _RANDOM:
        op.draws(axes)
    sizes = tuple(axis.size for axis in axes)
    outputs = [axes if shape == sizes else op.fixed(shape) for shape in op.output_shapes]
    return op.outcome(*outputs, zero=zero_law(base, op))


def _power(op: OpCall, base: str) -> float | None:
    """Of the only other operand, a number, in the result; a quotient that is rounded is no power."""
    return None if op.get("rounding_mode") is not None else _FACTORS.get(base)


@rule("aten.prelu")
def prelu(op: OpCall) -> Outcome:
    """[B, C, ...] with weight [C] or [1]."""
    x, weight = op.operands("self", "weight")
    if weight.rank and weight.axes[0].size != 1:
        op.unify(x.axes[1 if x.rank > 1 else 0], weight.axes[0])
        op.role(weight, 0, NORMALISED)
    return op.outcome(x.axes, zero=x)


@rule(
    "aten.contiguous",
    "aten.to",
    "aten._to_copy",
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten.lift",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.resolve_conj",
    "aten.resolve_neg",
    "aten._conj",
    "aten._neg_view",
    "aten.type_as",
    "aten.real",
    "aten.imag",
)
def identity(op: OpCall) -> Outcome:
    """The same tensor in another guise; further tensor arguments only lend their dtype or device."""
    x = op.tensors()[0]
    return op.outcome(x.axes, zero=x)


@rule("aten.view.dtype")
def view_dtype(op: OpCall) -> Outcome:
    """The same bytes: [A, B] of 8 bytes each -> [A, B * 2!] of 4, and back. All bits of a zero are zero."""
    (x,) = op.operands("self")
    size = op.output_shapes[0][-1] if x.rank else 1
    if not x.rank or size == x.axes[-1].size:
        return op.outcome(x.axes, zero=x)
    if size > x.axes[-1].size:
        return op.outcome((*x.axes[:-1], product((x.axes[-1], Fixed(size // x.axes[-1].size)))), zero=x)
    outer, bytes_ = op.split(x.axes[-1], size, "bytes of one number")
    op.freeze(bytes_, "bytes of one number")
    return op.outcome((*x.axes[:-1], outer), zero=x)


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
    op.even_strides(x)
    return op.outcome(x.axes[:-1], zero=x)
