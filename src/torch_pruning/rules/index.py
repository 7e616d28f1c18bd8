"""Look-ups by computed positions: embeddings pass their width; dimensions that are indexed freeze, the others pass."""

from __future__ import annotations

from typing import Any

import torch

from torch_pruning.axes.expression import Axis, Fixed
from torch_pruning.rules.call import LOOKED_UP, OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import NOWHERE, All, Along, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule

_PICKED, _WRITTEN = "picked by computed positions", "written at computed positions"


@rule("aten.embedding", "aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding(op: OpCall) -> Outcome:
    """weight [V, D], indices [...] -> [..., D]. The vocabulary is fixed: its positions are data."""
    weight, *others = op.tensors()
    op.freeze(weight.axes[0], "vocabulary")
    op.role(weight, 0, LOOKED_UP)
    op.role(weight, 1, LOOKED_UP)
    for operand in others:
        op.freeze_all(operand, "indices")
    op.mixes(weight, 0)
    width = weight.axes[1]
    rows, *tables = [op.fixed(shape) for shape in op.output_shapes]
    if op.op.startswith("aten.embedding."):
        (indices,) = op.operands("indices")
        rows = (*indices.axes, width)
    else:
        rows = (rows[0], width)
        # Of a maximum there is a table that says where it was.
        tables = [(Fixed(table[0].size), width) if len(table) == 2 else table for table in tables]
    return op.outcome(rows, *tables, zero=[Along(weight, (width,)), *(NOWHERE for _ in tables)])


@rule("aten.index_select", "aten.repeat_interleave.self_Tensor")
def index_select(op: OpCall) -> Outcome:
    """x [A, B], index [C], dim 1 -> [A, C]."""
    x, *indices = op.tensors()
    for item in indices:
        op.freeze_all(item, "computed positions")
    if op.get("dim") is None:
        op.freeze_all(x, _PICKED)
        return op.outcome(op.fixed(op.output_shapes[0]))
    dim = op.dim(x)
    op.freeze(x.axes[dim], _PICKED)
    op.mixes(x, dim)
    before, after = x.axes[:dim], x.axes[dim + 1 :]
    return op.outcome((*before, Fixed(op.output_shapes[0][dim]), *after), zero=Along(x, (*before, *after)))


def _touched(op: OpCall, indices: list[Operand | None]) -> tuple[list[int], bool]:
    """The dimensions that the entries of an index stand for, and whether they lie side by side.

    A mask stands for as many dimensions as it has itself.
    """
    dims: list[int] = []
    position = 0
    for item in indices:
        width = item.rank if item is not None and item.dtype in (torch.bool, torch.uint8) else 1
        if item is not None:
            dims += range(position, position + width)
            op.freeze_all(item, "computed positions")
        position += width
    return dims, not dims or dims == list(range(dims[0], dims[-1] + 1))


def _indexed(x: Operand, dims: list[int], adjacent: bool, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of `x[indices]`, of which `shape` gives the sizes: what is looked up takes the place of the first of its
    dimensions, or comes first of all if these do not lie side by side."""
    passing = [axis for dim, axis in enumerate(x.axes) if dim not in dims]
    start = dims[0] if dims and adjacent else 0
    looked_up = (Fixed(size) for size in shape[start : start + len(shape) - len(passing)])
    return (*passing[:start], *looked_up, *passing[start:])


@rule("aten.index", "aten._unsafe_index")
def index(op: OpCall) -> Outcome:
    """x[i, :, j]: indexed dimensions freeze and give way to those of the indices, the others pass."""
    x = op.arguments["self"]
    dims, adjacent = _touched(op, op.arguments["indices"])
    for dim in dims:
        op.freeze(x.axes[dim], _PICKED)
    op.mixes(x, *dims)
    passing = tuple(axis for dim, axis in enumerate(x.axes) if dim not in dims)
    return op.outcome(_indexed(x, dims, adjacent, op.output_shapes[0]), zero=Along(x, passing))


@rule("aten.index_put", "aten._index_put_impl_")
def index_put(op: OpCall) -> Outcome:
    """x[i, :, j] = values: the values broadcast against x[i, :, j]; dimensions that are not indexed pass."""
    x, values = op.operands("self", "values")
    indices = op.arguments["indices"]
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype == torch.bool and all(axis.size == 1 for axis in values.axes):
        # One number wherever the mask says so: no position depends on another.
        for axis, masked in zip(x.axes, mask.axes, strict=False):
            op.unify(axis, masked)
        return op.outcome(x.axes, zero=All(x, values))
    dims, adjacent = _touched(op, indices)
    for dim in dims:
        op.freeze(x.axes[dim], _WRITTEN)
    op.mixes(x, *dims)
    # Of x[indices] only its layout matters; how many positions are looked up does not show in any output.
    looked_up = 1 if dims else 0
    if adjacent is False or values.rank > x.rank - len(dims) + looked_up:
        looked_up = max(looked_up, values.rank - (x.rank - len(dims)))
    sizes = [axis.size for dim, axis in enumerate(x.axes) if dim not in dims]
    start = dims[0] if dims and adjacent else 0
    layout = _indexed(x, dims, adjacent, (*sizes[:start], *(0 for _ in range(looked_up)), *sizes[start:]))
    for axis, target in zip(reversed(values.axes), reversed(layout), strict=False):
        if target.size != axis.size and axis.size != 1:
            op.freeze(axis, _WRITTEN)
        elif axis.size != 1:
            op.unify(axis, target)
    return op.outcome(x.axes, zero=All(x, values))


@rule("aten.gather", "aten.take_along_dim")
def gather(op: OpCall) -> Outcome:
    """x [A, B], index [A, C], dim 1 -> [A, C]: B freezes; other dimensions pass where they are of one size."""
    x, indices = op.tensors()
    if op.get("dim") is None:
        op.freeze_all(x, _PICKED)
        op.freeze_all(indices, "computed positions")
        return op.outcome(op.fixed(op.output_shapes[0]))
    dim = op.dim(x)
    passing = _shared(op, [x, indices], dim, op.output_shapes[0], _PICKED)
    axes = (x.axes[d] if d in passing else Fixed(size) for d, size in enumerate(op.output_shapes[0]))
    return op.outcome(axes, zero=Along(x, tuple(x.axes[d] for d in passing)))


def _shared(op: OpCall, operands: list[Operand], dim: int, shape: tuple[int, ...], text: str) -> list[int]:
    """The dimensions but `dim` in which all operands (and the result) have one size are unified, others freeze."""
    passing = []
    for other in range(operands[0].rank):
        axes = [operand.axes[other] for operand in operands]
        if other != dim and all(axis.size == shape[other] for axis in axes):
            op.unify_all(axes)
            passing.append(other)
        else:
            for axis in axes:
                op.freeze(axis, text)
    op.mixes(operands[0], *(other for other in range(operands[0].rank) if other not in passing))
    return passing


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(op: OpCall) -> Outcome:
    """x [A, B], index [A, C], source [A, C], dim 1: B and C freeze, others pass if all three agree on their size."""
    x, source = op.operands("self", "src")
    value = op.get("value", 0)
    _shared(op, op.tensors(), op.dim(x), x.shape, _WRITTEN)
    return op.outcome(x.axes, zero=All(x, source) if source is not None or value == 0 else NOWHERE)


@rule("aten.index_add", "aten.index_copy", "aten.index_reduce")
def index_add(op: OpCall) -> Outcome:
    """x [A, B], index [C], source [A, C], dim 1: B and C freeze."""
    x, indices, source = op.operands("self", "index", "source")
    op.freeze_all(indices, "computed positions")
    return _written_along(op, x, source, op.dim(x))


@rule("aten.slice_scatter")
def slice_scatter(op: OpCall) -> Outcome:
    """x [A, B], source [A, C], dim 1: B and C freeze."""
    x, source = op.operands("self", "src")
    return _written_along(op, x, source, op.dim(x))


def _written_along(op: OpCall, x: Operand, source: Operand, dim: int) -> Outcome:
    for other in range(x.rank):
        if other != dim:
            op.unify(x.axes[other], source.axes[other])
    op.freeze(x.axes[dim], _WRITTEN)
    op.freeze(source.axes[dim], _WRITTEN)
    op.mixes(x, dim)
    op.mixes(source, dim)
    return op.outcome(x.axes, zero=All(x, source))


@rule("aten.select_scatter")
def select_scatter(op: OpCall) -> Outcome:
    """x [A, B], source [A], dim 1: B freezes."""
    x, source = op.operands("self", "src")
    dim = op.dim(x)
    for axis, other in zip((*x.axes[:dim], *x.axes[dim + 1 :]), source.axes, strict=True):
        op.unify(axis, other)
    op.freeze(x.axes[dim], _WRITTEN)
    op.mixes(x, dim)
    return op.outcome(x.axes, zero=All(x, source))


@rule("aten.masked_scatter")
def masked_scatter(op: OpCall) -> Outcome:
    """x [A, B], mask [A, 1] or the same for all of B, source [C, B] -> [A, B]: whole rows are written, one by one.

    Dimensions in which the mask differs freeze, and those before them, since entries are counted over them.
    """
    x, mask, source = op.operands("self", "mask", "source")
    passing = 0
    while passing < min(x.rank, source.rank) - 1 and _row_by_row(x, mask, source, -1 - passing):
        passing += 1
    for dim in range(1, passing + 1):
        op.unify(x.axes[-dim], source.axes[-dim])
        if mask.rank >= dim and mask.axes[-dim].size != 1:
            op.unify(x.axes[-dim], mask.axes[-dim])
    for operand in (x, mask, source):
        for axis in operand.axes[: max(0, operand.rank - passing)]:
            op.freeze(axis, "entries are counted by a mask")
    op.mixes(x, *range(x.rank - passing))
    op.mixes(source, *range(source.rank - passing))
    rows = x.axes[x.rank - passing :]
    return op.outcome(x.axes, zero=All(Along(x, rows), Along(source, rows)))


def _row_by_row(x: Operand, mask: Operand, source: Operand, dim: int) -> bool:
    return x.axes[dim].size == source.axes[dim].size and (mask.rank < -dim or mask.repeats(dim))


@rule("aten.index_fill")
def index_fill(op: OpCall) -> Outcome:
    """x [A, B], index [C], dim 1, a value: B freezes."""
    x, indices = op.operands("self", "index")
    dim = op.dim(x)
    op.freeze(x.axes[dim], _WRITTEN)
    op.freeze_all(indices, "computed positions")
    op.mixes(x, dim)
    law: Law = x if op.get("value", 1) == 0 else NOWHERE
    return op.outcome(x.axes, zero=law)


@rule("aten.isin", "aten.bucketize", "aten.searchsorted")
def compared_with_all(op: OpCall) -> Outcome:
    """Each entry against all of a list: the entries pass, the list freezes. Rows of lists go with rows of entries."""
    entries: Any = op.arguments.get("elements", op.arguments.get("self"))
    lists = op.arguments.get("sorted_sequence")
    if lists is not None and lists.rank > 1:
        for axis, other in zip(entries.axes[:-1], lists.axes[:-1], strict=True):
            op.unify(axis, other)
        op.freeze(lists.axes[-1], "every entry is compared with all of it")
        op.mixes(lists, -1)
        return op.outcome(entries.axes)
    for operand in op.tensors():
        if operand is not entries:
            op.freeze_all(operand, "every entry is compared with all of it")
    return op.outcome(entries.axes if isinstance(entries, Operand) else ())


@rule(
    "aten.put",
    "aten.one_hot",
    "aten.nonzero",
    "aten.nonzero_numpy",
    "aten.masked_select",
    "aten.where.default",
    "aten._unique2",
    "aten.unique_dim",
    "aten.unique_consecutive",
    "aten.bincount",
    "aten.histc",
    "aten.multinomial",
    "aten.take",
    "aten.linalg_solve_triangular",
    "aten.linalg_inv",
    "aten.linalg_qr",
    "aten.linalg_svd",
    "aten.linalg_cholesky_ex",
    "aten.linalg_eigh",
    "aten.linalg_solve",
    "aten.stft",
    "aten.istft",
)
def data_dependent(op: OpCall) -> Outcome:
    """The result depends on which values stand where."""
    for operand in op.tensors():
        op.freeze_all(operand, "the result depends on which values stand where")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


@rule(
    "aten.item",
    "aten._local_scalar_dense",
    "aten.is_nonzero",
    "aten._is_all_true",
    "aten.equal",
    "aten.allclose",
    "torch.leave",
)
def leaves_torch(op: OpCall) -> Outcome:
    """A value becomes a Python object: what the code does with it cannot be seen."""
    for operand in op.tensors():
        op.freeze_all(operand, "its data leave torch")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


@rule(
    "aten._assert_async", "aten._assert_tensor_metadata", "aten._has_compatible_shallow_copy_type", "aten.is_same_size"
)
def only_checked(op: OpCall) -> Outcome:
    """Nothing comes out that the run goes on with."""
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))
