"""Parts of axes: cat, stack, split, chunk, slices, select, pad, glu."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch_pruning.axes.expression import Axis, Fixed, concat
from torch_pruning.axes.sizes import Expression, Operation
from torch_pruning.axes.traced import expression_of
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import NOWHERE, Each
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule
from torch_pruning.rules.shape import is_free


@rule("aten.cat", "aten.concat", "aten.concatenate")
def cat(op: OpCall) -> Outcome:
    """[A, B], [A, C], dim 1 -> [A, B + C]. Empty one-dimensional tensors are skipped, as torch does."""
    rank = len(op.output_shapes[0])
    operands = [t for t in op.tensors() if t.rank == rank and not (t.rank == 1 and t.shape == (0,))]
    dim = op.get("dim", 0) % rank
    axes: list[Axis] = [op.unify_all(o.axes[d] for o in operands) if d != dim else Fixed(0) for d in range(rank)]
    axes[dim] = concat(o.axes[dim] for o in operands)
    return op.outcome(axes, zero=Each(*operands))


@rule("aten.stack")
def stack(op: OpCall) -> Outcome:
    """[A, B] twice, dim 0 -> [2!, A, B]."""
    operands = op.tensors()
    dim = op.get("dim", 0) % (operands[0].rank + 1)
    axes = [op.unify_all(o.axes[d] for o in operands) for d in range(operands[0].rank)]
    axes.insert(dim, Fixed(len(operands)))
    return op.outcome(axes, zero=Each(*operands))


@rule("aten.hstack", "aten.vstack", "aten.dstack", "aten.column_stack")
def cat_of_widened(op: OpCall) -> Outcome:
    """`cat` along dimension 1, 0, 2 and 1 after ones have been added where the rank is too low."""
    base = op.op.split(".")[1]
    widened = [_widened(operand.axes, base) for operand in op.tensors()]
    dim = {"hstack": min(1, len(widened[0]) - 1), "vstack": 0, "dstack": 2, "column_stack": 1}[base]
    axes: list[Axis] = [op.unify_all(o[d] for o in widened) if d != dim else Fixed(0) for d in range(len(widened[0]))]
    axes[dim] = concat(operand[dim] for operand in widened)
    return op.outcome(axes, zero=Each(*op.tensors()))


def _widened(axes: tuple[Axis, ...], base: str) -> tuple[Axis, ...]:
    """vstack: [A] -> [1, A]; column_stack: [A] -> [A, 1]; dstack: [A] -> [1, A, 1] and [A, B] -> [A, B, 1]."""
    one = Fixed(1)
    if base == "hstack":
        return axes or (one,)
    if base == "column_stack":
        return (*axes, one, one)[:2] if len(axes) < 2 else axes
    if base == "vstack":
        return (one, one, *axes)[-2:] if len(axes) < 2 else axes
    return ((one, *(axes or (one,)), one) if len(axes) < 2 else (*axes, one)) if len(axes) < 3 else axes


@rule("aten.block_diag")
def block_diag(op: OpCall) -> Outcome:
    """[A, B], [C, D] -> [A + C, B + D]."""
    operands = op.tensors()
    blocks = [(Fixed(1), Fixed(1), *operand.axes)[-2:] for operand in operands]
    return op.outcome(
        [concat(rows for rows, _ in blocks), concat(columns for _, columns in blocks)], zero=Each(*operands)
    )


@rule("aten.pad_sequence")
def pad_sequence(op: OpCall) -> Outcome:
    """[T1, A], [T2, A] -> [longest, 2!, A], or [2!, longest, A]: the longest rules."""
    operands = op.tensors()
    for operand in operands:
        op.freeze(operand.axes[0], "lengths of sequences are compared")
    axes = [op.unify_all(o.axes[d] for o in operands) for d in range(1, operands[0].rank)]
    law = Each(*operands) if op.get("padding_value", 0) == 0 else NOWHERE
    return op.outcome((*op.fixed(op.output_shapes[0][:2]), *axes), zero=law)


@rule("aten.combinations")
def combinations(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    op.freeze_all(x, "every unit meets every other")
    return op.outcome(op.fixed(op.output_shapes[0]))


@rule("aten.chunk")
def chunk(op: OpCall) -> Outcome:
    """[A + A'], 2 -> [A], [A']: the parts must stay equally large."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    parts = _parts(op, x, dim)
    if len({part.size for part in parts}) > 1:
        op.freeze(x.axes[dim], "chunks of unequal size")
    elif op.origin is not None and op.origin.name not in ("chunk", "tensor_split"):
        op.freeze(x.axes[dim], "number of chunks of unknown origin")
    else:
        for a, b in pairwise(parts):
            op.equal_counts(a, b)
    return _pieces(op, x, dim, parts)


@rule("aten.tensor_split")
def tensor_split(op: OpCall) -> Outcome:
    if isinstance(op.get("sections"), int):
        return chunk(op)
    (x,) = op.operands("self")
    dim = op.dim(x)
    op.freeze(x.axes[dim], "split at given positions")
    return _pieces(op, x, dim, _parts(op, x, dim))


@rule("aten.split.Tensor", "aten.unsafe_split")
def split(op: OpCall) -> Outcome:
    """[A + B + C], size -> [A], [B], [C], all but the last of the given size."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    parts = _parts(op, x, dim)
    for part in parts:
        if parts[-1].size == parts[0].size:
            op.sized("split_size", part)
        else:  # the number of parts may change with their size
            op.freeze(part, "shorter last part of a split")
    return _pieces(op, x, dim, parts)


@rule("aten.split_with_sizes", "aten.split.sizes", "aten.unsafe_split_with_sizes")
def split_with_sizes(op: OpCall) -> Outcome:
    x = op.tensors()[0]
    dim = op.dim(x)
    parts = _parts(op, x, dim)
    name = "split_sizes" if "split_sizes" in op.arguments else "split_size"
    for index, part in enumerate(parts):
        op.sized(name, part, index)
    return _pieces(op, x, dim, parts)


def _parts(op: OpCall, x: Operand, dim: int) -> list[Axis]:
    """The axis cut where the recorded outputs end."""
    parts: list[Axis] = []
    rest = x.axes[dim]
    for shape in op.output_shapes[:-1]:
        part, rest = op.cut(rest, shape[dim], "cut inside a row")
        parts.append(part)
    return [*parts, rest]


def _pieces(op: OpCall, x: Operand, dim: int, parts: list[Axis]) -> Outcome:
    return op.outcome(*((*x.axes[:dim], part, *x.axes[dim + 1 :]) for part in parts), zero=x)


@rule("aten.unbind")
def unbind(op: OpCall) -> Outcome:
    """[3!, A], 0 -> [A] three times; the code counts the pieces."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    op.freeze(x.axes[dim], "unbound into separate tensors")
    axes = (*x.axes[:dim], *x.axes[dim + 1 :])
    return op.outcome(*(axes for _ in op.output_shapes), zero=x)


@rule("aten.select")
def select(op: OpCall) -> Outcome:
    """[A, B], dim 1 -> [A]. Of any number there is a first and a last one, if nobody looks at which it is."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    if 0 not in op.unread or op.get("index", 0) not in (0, -1):
        op.freeze(x.axes[dim], "one position is picked by number")
    return op.outcome((*x.axes[:dim], *x.axes[dim + 1 :]), zero=x)


@rule("aten.slice", "aten.narrow")
def slice_(op: OpCall) -> Outcome:
    """[A + B + C] from |A| to |A| + |B| -> [B]; numbers of the code determine what lies before or after."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    axis = x.axes[dim]
    if isinstance(op.get("start"), Operand):  # of narrow, or of a slice whose edge is a tensor
        op.freeze(axis, "data decide where it is cut")
        return op.outcome(_with(x, dim, Fixed(op.output_shapes[0][dim])), zero=x)
    if op.op.startswith("aten.narrow"):
        start, stop, step = op.get("start"), op.get("start") + op.get("length"), 1
        stop = stop or axis.size  # from -3, three: up to the end, which is not position 0
    else:
        start, stop, step = op.get("start", 0), op.get("end", axis.size), op.get("step", 1)
    if step != 1:
        return op.outcome(_with(x, dim, _strided(op, axis, start, stop, step)), zero=x)
    first = max(0, start + axis.size) if start < 0 else min(start, axis.size)
    last = max(0, stop + axis.size) if stop < 0 else min(stop, axis.size)
    last = max(first, last)
    before, rest = op.cut(axis, first, "slice inside a row")
    middle, after = op.cut(rest, last - first, "slice inside a row")
    if is_free(axis):
        start_source, stop_source = _slice_sources(op)
        if first:
            _edge(op, start_source, start, before, concat((middle, after)))
        if last < axis.size:
            _edge(op, stop_source, stop, concat((before, middle)), after)
    return op.outcome(_with(x, dim, middle), zero=x)


def _strided(op: OpCall, axis: Axis, start: int, stop: int, step: int) -> Axis:
    """[A * 2!] at 0, 2, ... or 1, 3, ... up to the end -> [A]; other slices with a step count positions."""
    size = axis.size // step
    if axis.size % step or not 0 <= start < step or stop < axis.size or not is_free(axis):
        op.freeze(axis, f"strided slice with step {step}")
        return Fixed(len(range(*slice(start, stop, step).indices(axis.size))))
    outer, inner = op.split(axis, size, "strided slice")
    op.freeze(inner, f"strided slice with step {step}")
    return outer


def _with(x: Operand, dim: int, axis: Axis) -> tuple[Axis, ...]:
    return (*x.axes[:dim], axis, *x.axes[dim + 1 :])


def _edge(op: OpCall, source: Expression, number: int, before: Axis, after: Axis) -> None:
    """An edge counted from the front fixes what lies before it; counted from the back, what lies after."""
    if number >= 0:
        op.size_is(source, before)
    else:
        op.size_is(Operation("*", -1, source) if not isinstance(source, int) else -source, after)


def _slice_sources(op: OpCall) -> tuple[Expression, Expression]:
    """Where start and end came from. In `x[a:b, c:d]` each slice of the index belongs to the op on its dimension."""
    start, stop = op.get("start", 0), op.get("end", 0)
    if op.op.startswith("aten.narrow"):
        first, length = op.size_source("start"), op.size_source("length")
        if first is None or length is None:
            return start, start + op.get("length")
        return first, Operation("+", first, length)
    origin = op.origin
    if origin is None or origin.name not in ("__getitem__", "__setitem__"):
        return start, stop
    item = _items_by_dim(origin.args[1], origin.args[0].dim()).get(op.get("dim", 0))
    if isinstance(item, slice) and _matches(item.start, start, 0) and _matches(item.stop, stop, None):
        return expression_of(item.start or 0), expression_of(item.stop if item.stop is not None else stop)
    return start, stop


def _items_by_dim(index: Any, rank: int) -> dict[int, Any]:
    """The entries of an index by the dimension that their op sees: integers before it take one away, None adds one."""
    items = index if isinstance(index, tuple) else (index,)
    consumed = sum(item is not None and item is not Ellipsis and not isinstance(item, bool) for item in items)
    found: dict[int, Any] = {}
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim += rank - consumed
        elif isinstance(item, bool) or not isinstance(item, int):
            found[dim] = item
            dim += 1
    return found


def _matches(given: Any, seen: int, default: int | None) -> bool:
    if given is None:
        return default is None or seen == default
    return isinstance(given, int) and int.__int__(given) == seen


@rule(
    "aten.pad",
    "aten.constant_pad_nd",
    "aten.reflection_pad1d",
    "aten.reflection_pad2d",
    "aten.reflection_pad3d",
    "aten.replication_pad1d",
    "aten.replication_pad2d",
    "aten.replication_pad3d",
)
def pad(op: OpCall) -> Outcome:
    """[A] padded (1, 2) -> [1! + A + 2!]; other modes than constant look at positions."""
    (x,) = op.operands("self")
    padding = op.get("pad") or op.get("padding") or []
    constant = op.op.startswith("aten.constant_pad") or (
        op.op.startswith("aten.pad") and op.get("mode", "constant") == "constant"
    )
    axes = list(x.axes)
    for index in range(len(padding) // 2):
        left, right = padding[2 * index], padding[2 * index + 1]
        dim = x.rank - 1 - index
        if (left, right) == (0, 0):
            continue
        if not constant or left < 0 or right < 0:
            op.freeze(axes[dim], "padded by reflection, replication or cropping")
            axes[dim] = Fixed(op.output_shapes[0][dim])
        else:
            axes[dim] = concat((Fixed(left), axes[dim], Fixed(right)))
    # Reflected and repeated zeros are zeros; a constant is one everywhere along the padding.
    return op.outcome(axes, zero=x if not any(padding) or not constant or not op.get("value", 0) else NOWHERE)


@rule("aten.glu")
def glu(op: OpCall) -> Outcome:
    """[A + A] -> [A]: first half times the sigmoid of the second."""
    (x,) = op.operands("self")
    dim = op.dim(x, default=-1)
    first, second = op.cut(x.axes[dim], x.axes[dim].size // 2, "halves of a gate")
    op.unify(first, second)
    return op.outcome(_with(x, dim, first), zero=x)


@rule("aten.roll", "aten.flip", "aten.fliplr", "aten.flipud", "aten.rot90")
def moved_positions(op: OpCall) -> Outcome:
    """Positions change places along some dimensions; other dimensions pass."""
    (x,) = op.operands("self")
    base = op.op.split(".")[1]
    dims = op.get("dims") or {"fliplr": [1], "flipud": [0], "rot90": [0, 1]}.get(base) or range(x.rank)
    axes = list(x.axes)
    op.mixes(x, *dims)
    for dim in dims:
        op.freeze(axes[dim], "positions change places")
    if base == "rot90" and op.get("k", 1) % 2:
        first, second = dims
        axes[first], axes[second] = axes[second], axes[first]
    return op.outcome(axes, zero=x)


@rule("aten.triu", "aten.tril")
def triangle(op: OpCall) -> Outcome:
    """Which entries stay depends on row against column."""
    (x,) = op.operands("self")
    for axis in x.axes[-2:]:
        op.freeze(axis, "row and column numbers are compared")
    return op.outcome(x.axes, zero=x)
