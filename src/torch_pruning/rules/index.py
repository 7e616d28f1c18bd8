"""Look-ups by computed positions: embeddings pass their width, everything that is indexed freezes."""

from __future__ import annotations

from torch_pruning.axes.expression import Axis, Fixed
from torch_pruning.rules.call import LOOKED_UP, OpCall, Outcome
from torch_pruning.rules.laws import NOWHERE, All
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


@rule("aten.embedding", "aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding(op: OpCall) -> Outcome:
    """weight [V, D], indices [...] -> [..., D]. The vocabulary is fixed: its positions are data."""
    weight, *others = op.tensors()
    op.freeze(weight.axes[0], "vocabulary")
    op.role(weight, 0, LOOKED_UP)
    op.role(weight, 1, LOOKED_UP)
    for operand in others:
        op.freeze_all(operand, "indices")
    width = weight.axes[1]
    if op.op.startswith("aten.embedding."):
        (indices,) = op.operands("indices")
        return op.outcome((*indices.axes, width), zero=weight)
    op.mixes(weight, 0)
    first = (Fixed(op.output_shapes[0][0]), width)
    return op.outcome(first, *(op.fixed(shape) for shape in op.output_shapes[1:]), zero=weight)


@rule("aten.index_select", "aten.repeat_interleave.self_Tensor")
def index_select(op: OpCall) -> Outcome:
    x = op.tensors()[0]
    if op.get("dim") is None:
        op.freeze_all(x, "picked by computed positions")
        return op.outcome(op.fixed(op.output_shapes[0]))
    dim = op.dim(x)
    op.freeze(x.axes[dim], "picked by computed positions")
    op.mixes(x, dim)
    return op.outcome((*x.axes[:dim], Fixed(op.output_shapes[0][dim]), *x.axes[dim + 1 :]), zero=x)


@rule("aten.index", "aten._unsafe_index")
def index(op: OpCall) -> Outcome:
    """x[i, :, j]: indexed dimensions freeze and give way to those of the indices, the others pass."""
    x = op.arguments["self"]
    indices = op.arguments["indices"]
    given = [dim for dim, item in enumerate(indices) if item is not None]
    for item in indices:
        if item is not None:
            op.freeze_all(item, "computed positions")
    for dim in given:
        op.freeze(x.axes[dim], "picked by computed positions")
    op.mixes(x, *given)
    passing: list[Axis] = [axis for dim, axis in enumerate(x.axes) if dim not in given]
    shape = op.output_shapes[0]
    indexed = len(shape) - len(passing)
    adjacent = given == list(range(given[0], given[-1] + 1)) if given else True
    start = given[0] if given and adjacent else 0
    if indexed < 0 or [axis.size for axis in passing] != [*shape[:start], *shape[start + indexed :]]:
        op.freeze_all(x, "masked selection")
        return op.outcome(op.fixed(shape))
    return op.outcome((*passing[:start], *op.fixed(shape[start : start + indexed]), *passing[start:]), zero=x)


@rule("aten.gather", "aten.take_along_dim")
def gather(op: OpCall) -> Outcome:
    """x [A, B], index [A', C], dim 1: B freezes; where the other sizes agree they pass."""
    x, indices = op.tensors()[:2]
    dim = op.dim(x)
    op.freeze_all(indices, "computed positions")
    op.freeze(x.axes[dim], "picked by computed positions")
    op.mixes(x, dim)
    axes: list[Axis] = []
    for other, (axis, size) in enumerate(zip(x.axes, op.output_shapes[0], strict=True)):
        if other == dim or axis.size != size:
            op.freeze(axis, "picked by computed positions")
            axes.append(Fixed(size))
        else:
            # The index tensor has this dimension as well, and it does not shrink by itself.
            op.unify(axis, indices.axes[other])
            axes.append(axis)
    return op.outcome(axes, zero=x)


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce", "aten.index_put", "aten._index_put_impl_", "aten.index_add",
      "aten.index_copy", "aten.index_fill", "aten.masked_scatter", "aten.slice_scatter", "aten.select_scatter", "aten.put")  # fmt: skip
def scatter(op: OpCall) -> Outcome:
    """Written at computed positions. Dimensions that no index touches pass if every tensor agrees on them."""
    x = op.tensors()[0]
    base = op.op.split(".")[1]
    passing: set[int] = set()
    if base.startswith(("index_put", "_index_put")):
        indices = op.arguments.get("indices") or []
        values = op.arguments.get("values")
        touched = [dim for dim, item in enumerate(indices) if item is not None]
        boolean = sum(item.rank for item in indices if item is not None) if len(touched) == 1 else 1
        trailing = range(max(touched, default=0) + boolean, x.rank)
        for dim in trailing:
            offset = dim - x.rank
            if isinstance(values, Operand) and values.rank >= -offset and values.axes[offset].size == x.axes[dim].size:
                op.unify(x.axes[dim], values.axes[offset])
                passing.add(dim)
        for item in indices:
            if item is not None:
                op.freeze_all(item, "computed positions")
        if isinstance(values, Operand):
            for dim in range(values.rank):
                if x.rank + dim - values.rank not in passing:
                    op.freeze(values.axes[dim], "written at computed positions")
    elif base.startswith("index_add") or base.startswith("index_copy"):
        source = op.arguments["source"]
        dim = op.dim(x)
        for other in range(x.rank):
            if other != dim:
                op.unify(x.axes[other], source.axes[other])
                passing.add(other)
        op.freeze(source.axes[dim], "written at computed positions")
    else:
        for operand in op.tensors()[1:]:
            op.freeze_all(operand, "written at computed positions")
    for dim in range(x.rank):
        if dim not in passing:
            op.freeze(x.axes[dim], "written at computed positions")
    op.mixes(x, *(dim for dim in range(x.rank) if dim not in passing))
    sources = [
        operand
        for operand in op.tensors()
        if operand is op.arguments.get("values") or operand is op.arguments.get("source")
    ]
    return op.outcome(x.axes, zero=All(x, *sources) if sources else NOWHERE)


@rule("aten.one_hot", "aten.nonzero", "aten.nonzero_numpy", "aten.masked_select", "aten.where.default", "aten._unique2", "aten.unique_dim",
      "aten.bincount", "aten.histc", "aten.isin", "aten.bucketize", "aten.searchsorted", "aten.cdist", "aten._euclidean_dist",
      "aten.multinomial", "aten.linalg_solve_triangular", "aten.linalg_inv", "aten.linalg_qr", "aten.linalg_svd", "aten.take",
      "aten.linalg_cholesky_ex", "aten.linalg_eigh", "aten.linalg_solve", "aten.fft_fftn", "aten.fft_fft", "aten.fft_fft2", "aten.fft_rfft",
      "aten.fft_rfft2", "aten.fft_irfft", "aten.fft_irfft2", "aten.fft_ifft", "aten.fft_ifft2", "aten.stft", "aten.istft")  # fmt: skip
def data_dependent(op: OpCall) -> Outcome:
    """The result depends on which values stand where."""
    for operand in op.tensors():
        op.freeze_all(operand, "the result depends on which values stand where")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


@rule("aten.item", "aten._local_scalar_dense", "aten.is_nonzero", "aten._is_all_true", "aten.equal", "aten.allclose", "torch.leave",
      "aten.is_same_size", "aten._has_compatible_shallow_copy_type", "aten.record_stream")  # fmt: skip
def leaves_torch(op: OpCall) -> Outcome:
    """A value becomes a Python object: what the code does with it cannot be seen."""
    for operand in op.tensors():
        op.freeze_all(operand, "its data leave torch")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))
