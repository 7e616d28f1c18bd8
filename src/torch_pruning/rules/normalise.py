"""Normalisations: which axes they take statistics over, and which merely pass."""

from __future__ import annotations

from collections.abc import Sequence

from torch_pruning.axes.expression import product
from torch_pruning.rules.call import NORMALISED, OpCall
from torch_pruning.rules.facts import Outcome, ScaleRepair
from torch_pruning.rules.laws import NOWHERE, All, Along, AnyOf, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


def _affine(normalised: Law, weight: Operand | None, bias: Operand | None) -> Law:
    """weight * normalised + bias: a zero weight makes zeros, as do zeros that were not centred away."""
    return All(AnyOf(weight, normalised), bias)


@rule(
    "aten.batch_norm",
    "aten.native_batch_norm",
    "aten.cudnn_batch_norm",
    "aten._native_batch_norm_legit",
    "aten._native_batch_norm_legit_no_training",
    "aten._batch_norm_impl_index",
    "aten._batch_norm_with_update",
)
def batch_norm(op: OpCall) -> Outcome:
    """[B, C, ...]: statistics over all but C, so C passes, in either mode; in evaluation they are constants."""
    x, weight, bias, mean, variance = op.operands("input", "weight", "bias", "running_mean", "running_var")
    channels = x.axes[1]
    for vector in (weight, bias, mean, variance):
        if vector is not None:
            op.unify(channels, vector.axes[0])
            op.role(vector, 0, NORMALISED)
    computed = op.get("training", op.op.startswith("aten._batch_norm_with_update"))
    if computed:
        for dim in (0, *range(2, x.rank)):
            op.statistic(x.axes[dim], "batch norm")
        op.mixes(x, *(dim for dim in range(x.rank) if dim != 1))
    # (0 - 0) / sqrt(0 + eps) = 0: channels of zeros are their own mean.
    centred: Law = Along(x, (channels,)) if computed else All(x, mean)
    outputs = [
        x.axes if shape == x.shape else (channels,) if shape == (channels.size,) else op.fixed(shape)
        for shape in op.output_shapes
    ]
    return op.outcome(*outputs, zero=_first(_affine(centred, weight, bias), outputs))


def _first(law: Law, outputs: Sequence[object]) -> list[Law]:
    """The law of the first output; the others are statistics, such as 1 / sqrt(0 + eps), and zero nowhere."""
    return [law, *(NOWHERE for _ in outputs[1:])]


@rule("aten.layer_norm", "aten.native_layer_norm")
def layer_norm(op: OpCall) -> Outcome:
    """Statistics over the last dimensions: those axes are inexact."""
    x, weight, bias = op.operands("input", "weight", "bias")
    return _over_last(op, x, weight, bias, "layer norm", _affine(_before(x, op), weight, bias))


def _before(x: Operand, op: OpCall) -> Along:
    """Zero along the dimensions that are not normalised: a row of zeros is its own mean."""
    return Along(x, x.axes[: x.rank - len(op.get("normalized_shape"))])


@rule("aten.rms_norm", "aten._fused_rms_norm")
def rms_norm(op: OpCall) -> Outcome:
    """x / sqrt(mean(x^2) + eps) * weight: only the number of units enters the mean."""
    x, weight = op.operands("input", "weight")
    return _over_last(op, x, weight, None, "rms norm", _affine(x, weight, None))


def _over_last(op: OpCall, x: Operand, weight: Operand | None, bias: Operand | None, text: str, law: Law) -> Outcome:
    shape = op.get("normalized_shape")
    first = x.rank - len(shape)
    for index, axis in enumerate(x.axes[first:]):
        for vector in (weight, bias):
            if vector is not None:
                op.unify(axis, vector.axes[index])
                op.role(vector, index, NORMALISED)
        op.sized("normalized_shape", axis, index)
        if text == "rms norm":
            repair = None
            if weight is not None:
                repair = ScaleRepair(weight, -0.5, product(x.axes[first:]), attribute="eps", where=op.where)
            op.counts(axis, x, text, repair)
        else:
            op.statistic(axis, text)
    op.mixes(x, *range(first, x.rank))
    outputs = [x.axes if s == x.shape else (*x.axes[:first], *op.fixed(s[first:])) for s in op.output_shapes]
    return op.outcome(*outputs, zero=_first(law, outputs))


@rule("aten.group_norm", "aten.native_group_norm")
def group_norm(op: OpCall) -> Outcome:
    """[B, G * C, ...]: statistics over C within each group; the groups pass."""
    x, weight, bias = op.operands("input", "weight", "bias")
    name = "num_groups" if "num_groups" in op.arguments else "group"
    groups, within = op.split(x.axes[1], op.get(name), "groups of a group norm")
    op.sized(name, groups)
    if "C" in op.arguments and op.direct:  # when group_norm calls it, that reads the sizes off x
        for size, axis in (("N", x.axes[0]), ("C", x.axes[1]), ("HxW", product(x.axes[2:]))):
            op.sized(size, axis)
    op.statistic(within, "group norm")
    for dim in range(2, x.rank):
        op.statistic(x.axes[dim], "group norm")
    channels = product((groups, within))
    for vector in (weight, bias):
        if vector is not None:
            op.unify(channels, vector.axes[0])
            op.role(vector, 0, NORMALISED)
    op.mixes(Operand(-1, (x.axes[0], groups, within, *x.axes[2:])), *range(2, x.rank + 1))
    outputs = [x.axes if s == x.shape else op.fixed(s) for s in op.output_shapes]
    return op.outcome(*outputs, zero=_first(_affine(Along(x, (x.axes[0], groups)), weight, bias), outputs))


@rule("aten.instance_norm")
def instance_norm(op: OpCall) -> Outcome:
    """[B, C, ...]: statistics over pixels; batch and channels pass. Zero channels stay zero, being their own mean."""
    x, weight, bias, mean, variance = op.operands("input", "weight", "bias", "running_mean", "running_var")
    for vector in (weight, bias, mean, variance):
        if vector is not None:
            op.unify(x.axes[1], vector.axes[0])
            op.role(vector, 0, NORMALISED)
    computed = op.get("use_input_stats", True)
    if computed:
        for dim in range(2, x.rank):
            op.statistic(x.axes[dim], "instance norm")
        op.mixes(x, *range(2, x.rank))
    centred: Law = Along(x, x.axes[:2]) if computed else All(x, mean)
    return op.outcome(x.axes, zero=_affine(centred, weight, bias))


@rule("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(op: OpCall) -> Outcome:
    """v * (g / norm(v)), the norm over all dimensions but `dim`."""
    v, g = op.operands("v", "g")
    # -1 stands for no dimension at all, not for the last one.
    summed = [other for other in range(v.rank) if other != op.get("dim", 0)]
    if v.rank == g.rank:
        for a, b in zip(v.axes, g.axes, strict=True):
            if b.size != 1:
                op.unify(a, b)
    for other in summed:
        op.sums(v.axes[other], v, "weight norm")
    op.mixes(v, *summed)
    # A row of zeros divided by its norm is 0 / 0; only a zero of g makes it zero.
    law = AnyOf(g, Along(v, tuple(v.axes[other] for other in summed)))
    outputs = [v.axes if s == v.shape else g.axes for s in op.output_shapes]
    return op.outcome(*outputs, zero=[law, *(v for _ in outputs[1:])])
