"""Sums of products: linear layers, matrix products, einsum, attention."""

from __future__ import annotations

from itertools import pairwise

import torch

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall
from torch_pruning.rules.facts import Outcome, ScaleRepair
from torch_pruning.rules.laws import NOWHERE, All, Along, AnyOf
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


@rule("aten.linear")
def linear(op: OpCall) -> Outcome:
    """x [..., I], weight [O, I], bias [O] -> [..., O]."""
    x, weight, bias = op.operands("input", "weight", "bias")
    op.contract(x, -1, weight, -1)
    op.role(weight, -1, CONTRACTED)
    if weight.rank > 1:
        op.role(weight, 0, PRODUCED)
    out = (*x.axes[:-1], *weight.axes[:-1])
    _add_bias(op, bias, out)
    if bias is not None and bias.rank:
        op.role(bias, 0, PRODUCED)
    op.macs(*out, x.axes[-1])
    return op.outcome(out, zero=All(AnyOf(_without(x, -1), _without(weight, -1)), bias))


def _without(operand: Operand, *dims: int) -> Along:
    """Where an operand makes the result zero: where it is zero itself, on the dimensions that the result still has."""
    gone = {dim % operand.rank for dim in dims}
    return Along(operand, tuple(axis for dim, axis in enumerate(operand.axes) if dim not in gone))


def _add_bias(op: OpCall, bias: Operand | None, out: tuple[Axis, ...]) -> None:
    """A bias that broadcasts against the result."""
    if bias is not None:
        for axis, other in zip(reversed(bias.axes), reversed(out), strict=False):
            if axis.size != 1:
                op.unify(other, axis)


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "aten.vdot", "aten.linalg_matmul")
def matmul(op: OpCall) -> Outcome:
    """[..., A, B] @ [..., B, C] -> [..., A, C]; vectors lose their dimension."""
    x, y = op.tensors()
    return op.outcome(_matmul(op, x, y), zero=_product_law(x, y))


def _contracted_dim(y: Operand) -> int:
    return -2 if y.rank > 1 else -1


def _product_law(x: Operand, y: Operand) -> AnyOf:
    return AnyOf(_without(x, -1), _without(y, _contracted_dim(y)))


def _matmul(op: OpCall, x: Operand, y: Operand) -> tuple[Axis, ...]:
    y_dim = _contracted_dim(y)
    op.contract(x, -1, y, y_dim, batched=2)
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
    _weighted(op, bias, x)
    out = _matmul(op, x, y)
    _add_bias(op, bias, out)
    return op.outcome(out, zero=All(_product_law(x, y), bias))


def _weighted(op: OpCall, bias: Operand, x: Operand) -> None:
    """beta * bias + alpha * x @ y: neither factor is one of the sum."""
    op.number("beta", bias, 1.0, linear=False)
    op.number("alpha", x, 1.0, linear=False)


@rule("aten.addbmm")
def addbmm(op: OpCall) -> Outcome:
    """bias + sum over the batch of [S, A, B] @ [S, B, C] -> [A, C]."""
    bias, x, y = op.tensors()
    _weighted(op, bias, x)
    _, *out = _matmul(op, x, y)
    op.sums(x.axes[0], AnyOf(x, y), "contraction")
    for operand, dim in ((x, 1), (y, 2)):
        op.mixes(operand, 0, 3 - dim)
        for summed in (operand.axes[0], operand.axes[3 - dim]):
            op.crosses(operand.axes[dim], summed)
    _add_bias(op, bias, tuple(out))
    return op.outcome(out, zero=All(AnyOf(_without(x, 0, 2), _without(y, 0, 1)), bias))


@rule("aten.outer", "aten.ger")
def outer(op: OpCall) -> Outcome:
    """[A], [B] -> [A, B]."""
    x, y = op.tensors()
    return op.outcome((*x.axes, *y.axes), zero=AnyOf(x, y))


@rule("aten.addr")
def addr(op: OpCall) -> Outcome:
    """bias + the outer product of [A] and [B]."""
    bias, x, y = op.tensors()
    _weighted(op, bias, x)
    out = (*x.axes, *y.axes)
    _add_bias(op, bias, out)
    return op.outcome(out, zero=All(AnyOf(x, y), bias))


@rule("aten.kron")
def kron(op: OpCall) -> Outcome:
    """[A, B], [C, D] -> [A * C, B * D]; missing leading dimensions count as ones."""
    x, y = op.tensors()
    rank = max(x.rank, y.rank)
    pairs = zip(*((Fixed(1),) * (rank - operand.rank) + operand.axes for operand in (x, y)), strict=True)
    return op.outcome((product(pair) for pair in pairs), zero=AnyOf(x, y))


@rule("aten.inner")
def inner(op: OpCall) -> Outcome:
    """[..., A], [..., A] -> [..., ...]; a scalar multiplies."""
    x, y = op.tensors()
    if not x.rank or not y.rank:
        return op.outcome((*x.axes, *y.axes), zero=AnyOf(x, y))
    return _tensordot(op, x, y, [x.rank - 1], [y.rank - 1])


@rule("aten.tensordot")
def tensordot(op: OpCall) -> Outcome:
    """Dimensions of the first against dimensions of the second, one by one; the others of both in order."""
    x, y = op.tensors()
    return _tensordot(op, x, y, [d % x.rank for d in op.get("dims_self")], [d % y.rank for d in op.get("dims_other")])


def _tensordot(op: OpCall, x: Operand, y: Operand, x_dims: list[int], y_dims: list[int]) -> Outcome:
    for x_dim, y_dim in zip(x_dims, y_dims, strict=True):
        if x.axes[x_dim].size == y.axes[y_dim].size:
            op.unify(x.axes[x_dim], y.axes[y_dim])
            op.sums(x.axes[x_dim], AnyOf(x, y), "contraction")
        else:  # one of them is 1: the other is summed by itself
            longer, dim = (x, x_dim) if y.axes[y_dim].size == 1 else (y, y_dim)
            op.sums(longer.axes[dim], longer, "contraction")
    for operand, dims in ((x, x_dims), (y, y_dims)):
        op.mixes(operand, *dims)
        for dim, axis in enumerate(operand.axes):
            op.role(operand, dim, CONTRACTED if dim in dims else PRODUCED)
            for summed in dims:
                op.crosses(axis, operand.axes[summed])
    out = tuple(axis for o, dims in ((x, x_dims), (y, y_dims)) for d, axis in enumerate(o.axes) if d not in dims)
    op.macs(*out, *(x.axes[dim] for dim in x_dims))
    return op.outcome(out, zero=AnyOf(_without(x, *x_dims), _without(y, *y_dims)))


@rule("aten.chain_matmul", "aten.linalg_multi_dot")
def chain(op: OpCall) -> Outcome:
    """[A, B] @ [B, C] @ ... @ [Y, Z] -> [A, Z]; the first and the last may be vectors."""
    operands = op.tensors()
    # Zero in any factor along the axis between two makes the terms of that sum zero.
    for x, y in pairwise(operands):
        op.contract(x, -1, y, _contracted_dim(y))
        op.macs(*x.axes, *y.axes[1:])
    first, last = operands[0], operands[-1]
    out = (*first.axes[:-1], *(last.axes[1:] if last.rank > 1 else ()))
    return op.outcome(out, zero=AnyOf(_without(first, -1), _without(last, _contracted_dim(last))))


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
    return op.outcome(out, zero=All(AnyOf(_without(x, -1), _without(y, -1), _without(weight, 1, 2)), bias))


@rule("aten.cdist", "aten._euclidean_dist")
def distances(op: OpCall) -> Outcome:
    """[..., P, I], [..., R, I] -> [..., P, R]: a p-norm of differences, to which zeros on both sides add nothing."""
    x, y = op.tensors()
    op.unify(x.axes[-1], y.axes[-1])
    op.sums(x.axes[-1], All(x, y), "distance")
    for operand in (x, y):
        op.mixes(operand, -1)
        op.role(operand, -1, CONTRACTED)
        op.crosses(operand.axes[-2], operand.axes[-1])
    batch = _batch(op, x.axes[:-2], y.axes[:-2])
    op.macs(*batch, x.axes[-2], y.axes[-2], x.axes[-1])
    return op.outcome((*batch, x.axes[-2], y.axes[-2]), zero=All(Along(x, batch), Along(y, batch)))


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
    for label in axes:
        if label not in out:
            carrying = [o for o, labels in zip(operands, labelled, strict=True) if label in labels]
            op.sums(axes[label], AnyOf(*carrying), "contraction")
    for operand, labels in zip(operands, labelled, strict=True):
        summed = [dim for dim, label in enumerate(labels) if label not in out]
        op.mixes(operand, *summed)
        for dim in summed:
            everywhere = set(labels).intersection(*(other for other in labelled if labels[dim] in other))
            for label in set(labels) - everywhere:
                op.crosses(axes[label], axes[labels[dim]])
        for dim, label in enumerate(labels):
            op.role(operand, dim, PRODUCED if label in out else CONTRACTED)
    if len(operands) > 1:
        op.macs(*axes.values())
    law = AnyOf(
        *(
            Along(operand, tuple(axis for axis, label in zip(operand.axes, labels, strict=True) if label in out))
            for operand, labels in zip(operands, labelled, strict=True)
        )
    )
    return op.outcome((axes[label] for label in out), zero=law)


def _labels(term: str, dots: list[str]) -> list[str]:
    before, ellipsis, after = term.partition("...")
    return [*before, *(dots if ellipsis else ()), *after]


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
    if op.get("is_causal", False):
        for operand in (q, k):
            op.freeze(operand.axes[-2], "numbers of tokens are compared")
    op.contract(q, -1, k, -1, "attention scores", batched=2)
    if op.op.startswith("aten._scaled_dot_product_flash"):
        op.equal_counts(q.axes[-1], v.axes[-1])  # the fused kernel takes one head size only
    op.statistic(v.axes[-2], "softmax")
    op.mixes(k, -2)
    op.mixes(v, -2)
    if op.get("scale") is None:
        repair = ScaleRepair(q, 0.5, q.axes[-1], where=op.where, linear=False)
        op.counts(q.axes[-1], AnyOf(q, k), "default scale of attention", repair)
    else:
        op.number("scale", q, 1.0, linear=False)
    if mask is not None:
        for axis, other in zip(reversed(mask.axes), reversed((*batch, q.axes[-2], k.axes[-2])), strict=False):
            if axis.size != 1:
                op.unify(axis, other)
    op.macs(*batch, q.axes[-2], k.axes[-2], q.axes[-1])
    op.macs(*batch, q.axes[-2], k.axes[-2], v.axes[-1])
    out = (*batch, q.axes[-2], v.axes[-1])
    # Beside the result there may be the logarithms of the sums [B, H, T] or the weights [B, H, T, S], and seeds.
    scores = (*batch, q.axes[-2], k.axes[-2])
    others = [scores[: len(s)] if len(s) >= q.rank - 1 else op.fixed(s) for s in op.output_shapes[1:]]
    return op.outcome(out, *others, zero=[_without(v, -2), *(NOWHERE for _ in others)])


@rule("aten._grouped_mm")
def grouped_mm(op: OpCall) -> Outcome:
    """x [T, I], weight [E, I, O], ends of the rows of each expert [E] -> [T, O]: experts and rows are numbered.

    x [T, I], weight [I, O], ends of the columns of each expert [E] -> [E, T, O]: its weight's gradient.
    """
    x, weight, offsets = op.operands("self", "mat2", "offs")
    if (x.rank, weight.rank) == (2, 2) and op.get("bias") is None:
        return _grouped_columns(op, x, weight, offsets)
    if (x.rank, weight.rank) != (2, 3) or op.get("bias") is not None:
        for operand in op.tensors():
            op.freeze_all(operand, "a grouped product that is not modelled")
        return op.outcome(op.fixed(op.output_shapes[0]))
    op.unify(x.axes[1], weight.axes[1])
    op.sums(x.axes[1], AnyOf(x, weight), "contraction")
    for axis in (x.axes[0], weight.axes[0], offsets.axes[0]):
        op.freeze(axis, "rows belong to experts by number")
    if isinstance(x.dtype, torch.dtype):
        for dim in (1, 2):  # its kernel loads rows of both in pieces of 16 bytes
            op.divisible(weight, dim, 16 // x.dtype.itemsize)
    op.role(weight, 1, CONTRACTED)
    op.role(weight, 2, PRODUCED)
    op.macs(x.axes[0], x.axes[1], weight.axes[2])
    return op.outcome((x.axes[0], weight.axes[2]), zero=Along(weight, (weight.axes[2],)))


def _grouped_columns(op: OpCall, x: Operand, weight: Operand, offsets: Operand) -> Outcome:
    for axis in (x.axes[1], weight.axes[0], offsets.axes[0]):
        op.freeze(axis, "columns belong to experts by number")
    op.role(weight, 0, CONTRACTED)
    op.role(weight, 1, PRODUCED)
    op.mixes(x, 1)
    op.mixes(weight, 0)
    op.macs(x.axes[0], x.axes[1], weight.axes[1])
    out = (Fixed(op.output_shapes[0][0]), x.axes[0], weight.axes[1])
    return op.outcome(out, zero=AnyOf(_without(x, 1), _without(weight, 0)))


@rule("aten._scaled_mm")
def contracted_otherwise(op: OpCall) -> Outcome:
    for operand in op.tensors():
        op.freeze_all(operand, "a contraction that is not modelled")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))
