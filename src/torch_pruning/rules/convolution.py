"""Convolutions: sums over channels, and over taps at neighbouring positions."""

from __future__ import annotations

import math

from torch_pruning.axes.expression import Fixed, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import All, Along, AnyOf
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


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


@rule("aten.convolution", "aten._convolution")
def convolution(op: OpCall) -> Outcome:
    x, weight, bias = op.tensors()[0], op.arguments["weight"], op.arguments.get("bias")
    return _convolve(op, x, weight, bias, op.get("groups", 1), transposed=bool(op.get("transposed", False)))


def _convolve(op: OpCall, x: Operand, weight: Operand, bias: Operand | None, groups: int, transposed: bool) -> Outcome:
    shape = op.output_shapes[0]
    channel = x.rank - (weight.rank - 1)
    kernel_axes = weight.axes[2:]
    for axis in kernel_axes:
        op.freeze(axis, "convolution kernel")
    moved = [dim for dim in range(channel + 1, x.rank) if not _passes(op, x, dim, weight)]
    passed = {dim: x.axes[dim] for dim in range(channel + 1, x.rank) if dim not in moved}
    for dim in moved:
        op.freeze(x.axes[dim], "convolved positions")
    op.mixes(x, *moved)
    # One side of the weight's dim 0 is laid out in groups; its dim 1 is what lies within a group.
    if transposed:
        op.unify(x.axes[channel], weight.axes[0])
        group, inner = op.split(weight.axes[0], groups, "groups of a convolution")
        out_inner = weight.axes[1]
        op.within(out_inner, group)
        out_channels = product((group, out_inner))
    else:
        group, out_inner = op.split(weight.axes[0], groups, "groups of a convolution")
        x_group, inner = op.split(x.axes[channel], groups, "groups of a convolution")
        op.unify(group, x_group)
        op.unify(inner, weight.axes[1])
        out_channels = product((group, out_inner))
    if groups > 1:
        op.sized("groups", group)
    op.sums(inner, AnyOf(x, weight), "convolution")
    op.mixes(Operand(-1, (group, inner, *kernel_axes, *passed.values())), 1)
    op.role(weight, 0, CONTRACTED if transposed else PRODUCED)
    op.role(weight, 1, PRODUCED if transposed else CONTRACTED)
    if bias is not None:
        op.unify(out_channels, bias.axes[0])
        op.role(bias, 0, PRODUCED)
    pixels = math.prod((x.shape if transposed else shape)[dim] for dim in moved)
    taps = math.prod(kernel.size for kernel in kernel_axes)
    op.macs(*x.axes[:channel], out_channels, inner, *passed.values(), factor=taps * pixels)
    positions = [passed.get(dim, Fixed(shape[dim])) for dim in range(channel + 1, x.rank)]
    out = (*x.axes[:channel], out_channels, *positions)
    passing = Along(x, (*x.axes[:channel], group, *passed.values())), Along(weight, (group, out_inner))
    return op.outcome(out, zero=All(AnyOf(*passing), bias))


def _passes(op: OpCall, x: Operand, dim: int, weight: Operand) -> bool:
    """Whether each position of the result comes from the same position of `x` alone: one tap, no stride, no padding."""
    kernel = dim - x.rank  # the last dimensions of both
    stride = op.get("stride", 1)
    step = stride if isinstance(stride, int) else stride[kernel if len(stride) > 1 else 0]
    return weight.shape[kernel] == 1 and step == 1 and op.output_shapes[0][dim] == x.shape[dim]


@rule("torchvision.deform_conv2d")
def deformable_conv(op: OpCall) -> Outcome:
    """A convolution whose taps are moved by `offset`, in pixels: channels take part as in any other."""
    x, weight, bias = op.operands("input", "weight", "bias")
    for axis in x.axes[2:]:
        op.freeze(axis, "convolved positions")
    if op.get("offset_groups", 1) != 1:
        op.freeze(x.axes[1], "channels with offsets of their own")
    for name in ("offset", "mask"):
        moved = op.arguments.get(name)
        if moved is not None:
            op.unify(x.axes[0], moved.axes[0])
            for axis in moved.axes[1:]:
                op.freeze(axis, "taps that are moved")
    return _convolve(op, x, weight, bias, op.get("groups", 1), transposed=False)
