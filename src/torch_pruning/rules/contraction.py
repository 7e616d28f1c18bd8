"""Sums of products: linear layers, matrix products, einsum, convolutions, attention."""

from __future__ import annotations

import math

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall, Outcome
from torch_pruning.rules.laws import NOWHERE, All, AnyOf
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


@rule("aten.linear")
def linear(op: OpCall) -> Outcome:
    """x [..., I], weight [O, I], bias [O] -> [..., O]."""
    x, weight, bias = op.operands("input", "weight", "bias")
    op.contract(x, -1, weight, -1)
    op.role(weight, -1, CONTRACTED)
    op.role(weight, 0, PRODUCED)
    out = (*x.axes[:-1], *weight.axes[:-1])
    if bias is not None:
        op.unify(out[-1], bias.axes[0])
        op.role(bias, 0, PRODUCED)
    op.macs(*out, x.axes[-1])
    return op.outcome(out, zero=All(AnyOf(x, weight), bias))


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "aten.vdot", "aten.linalg_matmul", "aten.inner_")
def matmul(op: OpCall) -> Outcome:
    """[..., A, B] @ [..., B, C] -> [..., A, C]; vectors lose their dimension."""
    x, y = op.tensors()
    return op.outcome(_matmul(op, x, y), zero=AnyOf(x, y))


def _matmul(op: OpCall, x: Operand, y: Operand) -> tuple[Axis, ...]:
    y_dim = -2 if y.rank > 1 else -1
    op.contract(x, -1, y, y_dim)
    op.role(x, -1, CONTRACTED)
    op.role(y, y_dim, CONTRACTED)
    batch = _batch(op, x.axes[:-2], y.axes[:-2])
    rows = x.axes[-2:-1]
    columns = y.axes[-1:] if y.rank > 1 else ()
    for operand, dim in ((x, -2), (y, -1)):
        if operand.rank > 1:
            op.role(operand, dim, PRODUCED)
    op.macs(*batch, *rows, *columns, x.axes[-1])
    return (*batch, *rows, *columns)


def _batch(op: OpCall, a: tuple[Axis, ...], b: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Leading dimensions broadcast against each other."""
    rank = max(len(a), len(b))
    a, b = (Fixed(1),) * (rank - len(a)) + a, (Fixed(1),) * (rank - len(b)) + b
    axes = []
    for left, right in zip(a, b, strict=True):
        if left.size != 1 and right.size != 1:
            op.unify(left, right)
        axes.append(left if left.size != 1 else right)
    return tuple(axes)


@rule("aten.addmm", "aten.baddbmm", "aten.addmv", "aten._addmm_activation")
def addmm(op: OpCall) -> Outcome:
    """bias + x @ y, the bias broadcast."""
    bias, x, y = op.tensors()
    out = _matmul(op, x, y)
    for dim in range(1, bias.rank + 1):
        if bias.axes[-dim].size != 1:
            op.unify(out[-dim], bias.axes[-dim])
    return op.outcome(out, zero=All(AnyOf(x, y), bias))


@rule("aten.outer", "aten.ger")
def outer(op: OpCall) -> Outcome:
    """[A], [B] -> [A, B]."""
    x, y = op.tensors()
    return op.outcome((*x.axes, *y.axes), zero=AnyOf(x, y))


@rule("aten.bilinear")
def bilinear(op: OpCall) -> Outcome:
    """x [..., I], y [..., J], weight [O, I, J] -> [..., O]."""
    x, y, weight, bias = op.operands("input1", "input2", "weight", "bias")
    for a, b in zip(x.axes[:-1], y.axes[:-1], strict=True):
        op.unify(a, b)
    op.contract(x, -1, weight, 1)
    op.contract(y, -1, weight, 2)
    for dim, role in enumerate((PRODUCED, CONTRACTED, CONTRACTED)):
        op.role(weight, dim, role)
    if bias is not None:
        op.unify(weight.axes[0], bias.axes[0])
        op.role(bias, 0, PRODUCED)
    out = (*x.axes[:-1], weight.axes[0])
    op.macs(*out, x.axes[-1], y.axes[-1])
    return op.outcome(out, zero=All(AnyOf(x, y, weight), bias))


@rule("aten.einsum")
def einsum(op: OpCall) -> Outcome:
    """Equal letters unify; letters missing on the right are summed."""
    operands = op.tensors()
    left, arrow, right = op.get("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    rank_of_dots = max(
        (o.rank - len(t.replace("...", "")) for o, t in zip(operands, terms, strict=True) if "..." in t), default=0
    )
    dots = [f".{i}" for i in range(rank_of_dots)]
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = ("..." if dots else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    axes: dict[str, Axis] = {}
    labelled: list[list[str]] = []
    for operand, term in zip(operands, terms, strict=True):
        labels = _labels(term, dots[rank_of_dots - (operand.rank - len(term.replace("...", ""))) :])
        labelled.append(labels)
        for label, axis in zip(labels, operand.axes, strict=True):
            if label not in axes or axes[label].size == 1:
                axes[label] = axis
            elif axis.size != 1:
                op.unify(axes[label], axis)
        for label in {label for label in labels if labels.count(label) > 1}:
            op.freeze(axes[label], "diagonal")
    out = _labels(right, dots)
    law = AnyOf(*operands)
    for label in axes:
        if label not in out:
            op.sums(axes[label], law, "contraction")
    for operand, labels in zip(operands, labelled, strict=True):
        summed = [dim for dim, label in enumerate(labels) if label not in out]
        op.mixes(operand, *summed)
        for dim, label in enumerate(labels):
            op.role(operand, dim, PRODUCED if label in out else CONTRACTED)
    if len(operands) > 1:
        op.macs(*axes.values())
    return op.outcome((axes[label] for label in out), zero=law)


def _labels(term: str, dots: list[str]) -> list[str]:
    before, ellipsis, after = term.partition("...")
    return [*before, *(dots if ellipsis else ()), *after]


# ---------------------------------------------------------------- convolution


@rule("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(op: OpCall) -> Outcome:
    """x [B, G * I, ...], weight [G * O, I, ...] -> [B, G * O, ...]. Depthwise: I has one unit."""
    x, weight, bias = op.operands("input", "weight", "bias")
    return _convolve(op, x, weight, bias, op.get("groups", 1), transposed=False)


@rule("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(op: OpCall) -> Outcome:
    """x [B, G * I, ...], weight [G * I, O, ...] -> [B, G * O, ...]."""
    x, weight, bias = op.operands("input", "weight", "bias")
    return _convolve(op, x, weight, bias, op.get("groups", 1), transposed=True)


@rule("aten.convolution", "aten._convolution", "aten.mkldnn_convolution", "aten.convolution_overrideable")
def convolution(op: OpCall) -> Outcome:
    x, weight, bias = op.tensors()[0], op.arguments["weight"], op.arguments.get("bias")
    return _convolve(op, x, weight, bias, op.get("groups", 1), transposed=bool(op.get("transposed", False)))


def _convolve(op: OpCall, x: Operand, weight: Operand, bias: Operand | None, groups: int, transposed: bool) -> Outcome:
    shape = op.output_shapes[0]
    channel = x.rank - (weight.rank - 1)
    kernel_axes = weight.axes[2:]
    for axis in kernel_axes:
        op.freeze(axis, "convolution kernel")
    for axis in x.axes[channel + 1 :]:
        op.freeze(axis, "convolved positions")
    op.mixes(x, *range(channel + 1, x.rank))
    grouped, within = (x.axes[channel], weight.axes[0]) if transposed else (weight.axes[0], x.axes[channel])
    # One side of the weight's dim 0 is laid out in groups; its dim 1 is what lies within a group.
    if transposed:
        op.unify(x.axes[channel], weight.axes[0])
        group, inner = op.split(weight.axes[0], groups, "groups of a convolution")
        out_channels = product((group, weight.axes[1]))
    else:
        group, out_inner = op.split(weight.axes[0], groups, "groups of a convolution")
        x_group, inner = op.split(x.axes[channel], groups, "groups of a convolution")
        op.unify(group, x_group)
        op.unify(inner, weight.axes[1])
        out_channels = product((group, out_inner))
    if groups > 1:
        op.sized("groups", group)
    op.sums(inner, AnyOf(x, weight), "convolution")
    op.mixes(Operand(-1, (group, inner, *kernel_axes)), 1)
    op.role(weight, 0, CONTRACTED if transposed else PRODUCED)
    op.role(weight, 1, PRODUCED if transposed else CONTRACTED)
    if bias is not None:
        op.unify(out_channels, bias.axes[0])
        op.role(bias, 0, PRODUCED)
    pixels = shape[channel + 1 :] if not transposed else x.shape[channel + 1 :]
    op.macs(
        *x.axes[:channel],
        out_channels,
        inner,
        factor=math.prod(kernel.size for kernel in kernel_axes) * math.prod(pixels),
    )
    out = (*x.axes[:channel], out_channels, *op.fixed(shape[channel + 1 :]))
    return op.outcome(out, zero=All(AnyOf(x, weight), bias))


# ---------------------------------------------------------------- attention


@rule(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_attention_math",
)
def attention(op: OpCall) -> Outcome:
    """q [B, H, T, D], k [B, H, S, D], v [B, H, S, E] -> [B, H, T, E]; with `enable_gqa` k and v have H / R heads."""
    q, k, v, mask = op.operands("query", "key", "value", "attn_mask")
    batch: list[Axis] = []
    repeated = bool(op.get("enable_gqa", False)) and q.axes[-3].size != k.axes[-3].size
    for dim in range(q.rank - 2):
        if repeated and dim == q.rank - 3:
            group, _ = op.split(q.axes[dim], k.axes[dim].size, "query heads of a key-value head")
            op.unify(group, k.axes[dim])
            op.unify(group, v.axes[dim])
            batch.append(q.axes[dim])
        else:
            axes = [o.axes[dim] for o in (q, k, v) if o.axes[dim].size != 1]
            batch.append(op.unify_all(axes) if axes else Fixed(1))
    op.unify(k.axes[-2], v.axes[-2])
    op.contract(q, -1, k, -1, "attention scores")
    op.statistic(v.axes[-2], "softmax")
    op.mixes(k, -2)
    op.mixes(v, -2)
    if op.get("scale") is None:
        op.counts(q.axes[-1], AnyOf(q, k), "default scale of attention")
    if mask is not None:
        for axis, other in zip(reversed(mask.axes), reversed((*batch, q.axes[-2], k.axes[-2])), strict=False):
            if axis.size != 1:
                op.unify(axis, other)
    op.macs(*batch, q.axes[-2], k.axes[-2], q.axes[-1])
    op.macs(*batch, q.axes[-2], k.axes[-2], v.axes[-1])
    out = (*batch, q.axes[-2], v.axes[-1])
    return op.outcome(out, *(op.fixed(shape) for shape in op.output_shapes[1:]), zero=v)


@rule("aten._grouped_mm", "aten._scaled_mm", "aten.kron", "aten.tensordot", "aten.chain_matmul", "aten.linalg_multi_dot", "aten.addbmm",
      "aten.addr", "aten.inner")  # fmt: skip
def contracted_otherwise(op: OpCall) -> Outcome:
    for operand in op.tensors():
        op.freeze_all(operand, "a contraction that is not modelled")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes), zero=NOWHERE)
