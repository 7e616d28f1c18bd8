"""Reductions and statistics over axes: sum, mean, variance, max, norms, softmax, scans, sorting."""

from __future__ import annotations

from collections.abc import Iterable

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome, ScaleRepair
from torch_pruning.rules.laws import NOWHERE, All, Along, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.pointwise import elementwise
from torch_pruning.rules.registry import rule


def reduced_dims(op: OpCall, x: Operand) -> list[int]:
    dims = op.get("dim")
    if dims is None or dims == []:
        return list(range(x.rank))
    return [dim % x.rank for dim in (dims if isinstance(dims, list) else [dims])] if x.rank else []


def _reduced(op: OpCall, x: Operand, dims: Iterable[int], law: Law | list[Law], rank: int | None = None) -> Outcome:
    """All outputs without these dimensions, or with ones in their place if they have the rank of `x`."""
    dims = set(dims)
    op.mixes(x, *dims)
    keep = (len(op.output_shapes[0]) if rank is None else rank) == x.rank
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


@rule("aten.linalg_vector_norm", "aten.norm", "aten.frobenius_norm")
def norm(op: OpCall) -> Outcome:
    """A p-norm: exact for p >= 0, since zeros add nothing."""
    x = op.tensors()[0]
    order = op.get("ord", op.get("p", 2))
    return _norm(op, x, order, order >= 0)


@rule("aten.linalg_norm")
def linalg_norm(op: OpCall) -> Outcome:
    """A vector norm over one dimension, or over all if no order is given; otherwise a norm of matrices.

    Rows and columns of zeros add a singular value of 0 and sums of 0, which no norm notices but the smallest ones.
    """
    x = op.tensors()[0]
    order, dims = op.get("ord"), reduced_dims(op, x)
    if order is None or len(dims) < 2:
        return _norm(op, x, 2 if order is None else order, order is None or order >= 0)
    for dim in dims:
        op.mixes(x, dim)  # each row meets all columns
    return _norm(op, x, order, isinstance(order, str) or order > 0)


def _norm(op: OpCall, x: Operand, order: object, exact: bool) -> Outcome:
    for dim in reduced_dims(op, x):
        if exact:
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


@rule(
    "aten.var",
    "aten.std",
    "aten.var_mean",
    "aten.std_mean",
    "aten.amax",
    "aten.amin",
    "aten.aminmax",
    "aten.prod",
    "aten.all",
    "aten.median",
    "aten.nanmedian",
    "aten.mode",
)
def statistic(op: OpCall) -> Outcome:
    """Every unit takes part, a zero too; but of zeros alone they all are zero."""
    x = op.tensors()[0]
    if op.op.startswith(("aten.median.dim", "aten.nanmedian.dim", "aten.mode")):
        return _with_positions(op, x)
    name = op.op.split(".")[1]
    for dim in reduced_dims(op, x):
        op.statistic(x.axes[dim], name)
    return _reduced(op, x, reduced_dims(op, x), x)


@rule("aten.any")
def any_(op: OpCall) -> Outcome:
    """False takes no part."""
    x = op.tensors()[0]
    for dim in reduced_dims(op, x):
        op.sums(x.axes[dim], x, "any")
    return _reduced(op, x, reduced_dims(op, x), x)


@rule("aten.logsumexp")
def logsumexp(op: OpCall) -> Outcome:
    """The exponential of zero is one, so zeros count."""
    x = op.tensors()[0]
    for dim in reduced_dims(op, x):
        op.statistic(x.axes[dim], "logsumexp")
    return _reduced(op, x, reduced_dims(op, x), NOWHERE)


@rule("aten.quantile", "aten.nanquantile")
def quantile(op: OpCall) -> Outcome:
    """[A, B] over B at Q quantiles -> [Q, A]; at one -> [A]."""
    x, wanted = op.operands("self", "q")
    for dim in reduced_dims(op, x):
        op.statistic(x.axes[dim], "quantile")
    leading = wanted.axes if isinstance(wanted, Operand) else ()
    reduced = _reduced(op, x, reduced_dims(op, x), NOWHERE, rank=len(op.output_shapes[0]) - len(leading))
    return op.outcome((*leading, *reduced.axes[0]), zero=Along(x, reduced.axes[0]))


@rule("aten.max", "aten.min")
def extremum(op: OpCall) -> Outcome:
    """Of two tensors elementwise; with positions of extrema along a dimension; or the extremum alone."""
    if op.op.endswith(".other"):
        return elementwise(op)
    x = op.tensors()[0]
    if len(op.output_shapes) > 1:
        return _with_positions(op, x)
    for dim in range(x.rank):
        op.statistic(x.axes[dim], op.op.split(".")[1])
    return _reduced(op, x, range(x.rank), x)


@rule("aten.argmax", "aten.argmin", "aten.kthvalue")
def position(op: OpCall) -> Outcome:
    return _with_positions(op, op.tensors()[0])


def _with_positions(op: OpCall, x: Operand) -> Outcome:
    """Positions name units, so their axis freezes. The values, if there are any, come first."""
    dims = [op.dim(x, default=-1)] if op.get("dim") is not None or len(op.output_shapes) > 1 else range(x.rank)
    for dim in dims:
        op.freeze(x.axes[dim], "positions along it are asked for")
    only_positions = op.op.startswith("aten.arg")
    return _reduced(op, x, dims, [NOWHERE if only_positions else x, *(NOWHERE for _ in op.output_shapes[1:])])


@rule(
    "aten.mse_loss",
    "aten.l1_loss",
    "aten.smooth_l1_loss",
    "aten.huber_loss",
    "aten.cross_entropy_loss",
    "aten.nll_loss",
    "aten.nll_loss_nd",
    "aten.binary_cross_entropy",
    "aten.binary_cross_entropy_with_logits",
    "aten.kl_div",
    "aten.cosine_embedding_loss",
    "aten.nll_loss2d",
    "aten.poisson_nll_loss",
    "aten.soft_margin_loss",
)
def loss(op: OpCall) -> Outcome:
    """What a loss compares is an output of the model."""
    for operand in op.tensors():
        op.freeze_all(operand, "enters a loss")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


@rule("aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax(op: OpCall) -> Outcome:
    """Every unit takes its share, a zero too."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    if x.rank:
        op.statistic(x.axes[dim], "softmax")
        op.mixes(x, dim)
    return op.outcome(x.axes, zero=NOWHERE)


@rule(
    "aten.cumsum",
    "aten.cumprod",
    "aten.cummax",
    "aten.cummin",
    "aten.logcumsumexp",
    "aten.diff",
    "aten.sort",
    "aten.argsort",
    "aten.topk",
    "aten.msort",
    "aten._fft_r2c",
    "aten._fft_c2c",
    "aten._fft_c2r",
    "aten.fft_fft",
    "aten.fft_ifft",
    "aten.fft_rfft",
    "aten.fft_irfft",
    "aten.fft_fft2",
    "aten.fft_ifft2",
    "aten.fft_rfft2",
    "aten.fft_irfft2",
    "aten.fft_fftn",
)
def ordered(op: OpCall) -> Outcome:
    """The result depends on the order of positions along some dimensions; the others pass."""
    x, *joined = op.tensors()  # `diff` takes more to put before and behind
    chosen = _ordered_dims(op, x)
    for operand in (x, *joined):
        op.mixes(operand, *chosen)
        for dim, axis in enumerate(operand.axes):
            if dim in chosen:
                op.freeze(axis, "depends on the order of positions")
            else:
                op.unify(x.axes[dim], axis)
    outputs = [
        [Fixed(size) if dim in chosen else axis for dim, (axis, size) in enumerate(zip(x.axes, shape, strict=True))]
        for shape in op.output_shapes
    ]
    # Along the others zeros give zeros, but not as positions or logarithms of counts.
    zeros = op.op.split(".")[1] not in ("argsort", "logcumsumexp")
    passing = [axis for dim, axis in enumerate(x.axes) if dim not in chosen]
    law: Law = All(*(Along(operand, tuple(passing)) for operand in (x, *joined))) if zeros else NOWHERE
    return op.outcome(*outputs, zero=[law, *(NOWHERE for _ in outputs[1:])])


def _ordered_dims(op: OpCall, x: Operand) -> set[int]:
    base = op.op.split(".")[1]
    if base == "fft_fftn":  # without dimensions the last of as many as there are sizes, or all
        last = len(op.get("s", x.shape))
        default = list(range(x.rank - last, x.rank))
    else:
        default = [0] if base == "msort" else [-2, -1] if base.endswith("fft2") else [-1]
    dims = op.get("dim", default)
    return {dim % x.rank for dim in (dims if isinstance(dims, list) else [dims])} if x.rank else set()


@rule("aten.renorm")
def renorm(op: OpCall) -> Outcome:
    """Each position of one dimension is scaled down if the norm over all others is too large."""
    (x,) = op.operands("self")
    others = [dim for dim in range(x.rank) if dim != op.dim(x)]
    for dim in others:
        op.sums(x.axes[dim], x, "norm")
    op.mixes(x, *others)
    return op.outcome(x.axes, zero=x)
