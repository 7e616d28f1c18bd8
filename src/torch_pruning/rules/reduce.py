"""Reductions and statistics over axes: sum, mean, variance, max, norms, softmax, scans, sorting."""

from __future__ import annotations

from collections.abc import Iterable

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import OpCall, Outcome, ScaleRepair
from torch_pruning.rules.laws import NOWHERE, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


def reduced_dims(op: OpCall, x: Operand) -> list[int]:
    dims = op.get("dim")
    if dims is None or dims == []:
        return list(range(x.rank))
    return [dim % x.rank for dim in (dims if isinstance(dims, list) else [dims])] if x.rank else []


def _reduced(op: OpCall, x: Operand, dims: Iterable[int], law: Law) -> Outcome:
    dims = set(dims)
    op.mixes(x, *dims)
    keep = any(len(shape) == x.rank for shape in op.output_shapes[:1]) and bool(dims)
    axes: list[Axis] = []
    for dim, axis in enumerate(x.axes):
        if dim not in dims:
            axes.append(axis)
        elif keep:
            axes.append(Fixed(1))
    return op.outcome(*(axes for _ in op.output_shapes), zero=law)


@rule("aten.sum", "aten.nansum", "aten.count_nonzero")
def sum_(op: OpCall) -> Outcome:
    """[A, B] over B -> [A]."""
    x = op.tensors()[0]
    for dim in reduced_dims(op, x):
        op.sums(x.axes[dim], x, "sum")
    return _reduced(op, x, reduced_dims(op, x), x)


@rule("aten.linalg_vector_norm", "aten.norm", "aten.linalg_norm", "aten.frobenius_norm")
def norm(op: OpCall) -> Outcome:
    """A p-norm: exact for p > 0, since zeros add nothing."""
    x = op.tensors()[0]
    order = op.get("ord", op.get("p", 2))
    for dim in reduced_dims(op, x):
        if isinstance(order, (int, float)) and order > 0:
            op.sums(x.axes[dim], x, "norm")
        else:
            op.statistic(x.axes[dim], f"norm of order {order}")
    return _reduced(op, x, reduced_dims(op, x), x)


@rule("aten.mean", "aten.nanmean")
def mean(op: OpCall) -> Outcome:
    x = op.tensors()[0]
    dims = reduced_dims(op, x)
    reduced = product(x.axes[dim] for dim in dims)
    for dim in dims:
        op.counts(x.axes[dim], x, "mean", ScaleRepair(x, 1.0, reduced, where=op.where))
    return _reduced(op, x, reduced_dims(op, x), x)


@rule("aten.var", "aten.std", "aten.var_mean", "aten.std_mean", "aten.amax", "aten.amin", "aten.prod", "aten.logsumexp",
      "aten.all", "aten.any", "aten.median", "aten.nanmedian", "aten.mode", "aten.logcumsumexp_", "aten.aminmax", "aten.quantile")  # fmt: skip
def statistic(op: OpCall) -> Outcome:
    x = op.tensors()[0]
    name = op.op.split(".")[1]
    for dim in reduced_dims(op, x):
        op.statistic(x.axes[dim], name)
    return _reduced(op, x, reduced_dims(op, x), NOWHERE)


@rule("aten.max", "aten.min", "aten.argmax", "aten.argmin", "aten.kthvalue")
def extremum(op: OpCall) -> Outcome:
    """With two tensors elementwise; positions of extrema name units, so their axis freezes."""
    from torch_pruning.rules.pointwise import elementwise

    if op.op.endswith(".other"):
        return elementwise(op)
    x = op.tensors()[0]
    dims = reduced_dims(op, x)
    name = op.op.split(".")[1]
    for dim in dims:
        if name.startswith("arg") or len(op.output_shapes) > 1:
            op.freeze(x.axes[dim], "positions of extrema are asked for")
        else:
            op.statistic(x.axes[dim], name)
    return _reduced(op, x, dims, NOWHERE)


@rule("aten.mse_loss", "aten.l1_loss", "aten.smooth_l1_loss", "aten.huber_loss", "aten.cross_entropy_loss", "aten.nll_loss",
      "aten.nll_loss_nd", "aten.binary_cross_entropy", "aten.binary_cross_entropy_with_logits", "aten.kl_div", "aten.cosine_embedding_loss",
      "aten.nll_loss2d", "aten.poisson_nll_loss", "aten.soft_margin_loss", "aten.multilabel_soft_margin_loss")  # fmt: skip
def loss(op: OpCall) -> Outcome:
    """What a loss compares is an output of the model."""
    for operand in op.tensors():
        op.freeze_all(operand, "enters a loss")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


@rule("aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax", "aten._safe_softmax", "aten.softmin")
def softmax(op: OpCall) -> Outcome:
    """Every unit takes its share, a zero too."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    op.statistic(x.axes[dim], "softmax") if x.rank else None
    op.mixes(x, dim) if x.rank else None
    return op.outcome(x.axes, zero=NOWHERE)


@rule("aten.cumsum", "aten.cumprod", "aten.cummax", "aten.cummin", "aten.logcumsumexp", "aten.diff", "aten.sort", "aten.argsort",
      "aten.topk", "aten.msort", "aten.renorm", "aten.unique_consecutive", "aten._fft_r2c", "aten._fft_c2c", "aten._fft_c2r")  # fmt: skip
def ordered(op: OpCall) -> Outcome:
    """The result depends on the order of positions along one dimension; other dimensions pass."""
    x = op.tensors()[0]
    dims = op.get("dim", -1)
    chosen = {dim % x.rank for dim in (dims if isinstance(dims, list) else [dims])} if x.rank else set()
    op.mixes(x, *chosen)
    for dim in chosen:
        op.freeze(x.axes[dim], "depends on the order of positions")
    outputs = []
    for shape in op.output_shapes:
        same = len(shape) == x.rank
        outputs.append([axis if same and axis.size == size else Fixed(size) for axis, size in zip(x.axes, shape, strict=False)]
                       if same else op.fixed(shape))  # fmt: skip
    return op.outcome(*outputs)
