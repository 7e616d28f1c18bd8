"""Ops that rearrange dimensions without looking at data: view, permute, expand, repeat, pixel shuffle."""

from __future__ import annotations

from torch_pruning.axes.expression import Axis, Fixed, Free, leaves, product
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import Along
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.pointwise import broadcast
from torch_pruning.rules.registry import rule


def reinterpret(op: OpCall, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of a row-major reinterpretation: [A, B * C] as (A*B, C) -> [A * B, C].

    Dimensions that both sides share from the left and from the right stay out of it.
    """
    if 0 in shape:
        return op.fixed(shape)
    fresh = tuple(op.fresh(size) for size in shape)
    left = 0
    while left < min(len(axes), len(fresh)) and axes[left].size == fresh[left].size:
        left += 1
    right = 0
    while right < min(len(axes), len(fresh)) - left and axes[-1 - right].size == fresh[-1 - right].size:
        right += 1
    for index in (*range(left), *(-1 - i for i in range(right))):
        op.unify(fresh[index], axes[index])
    inner_old, inner_new = axes[left : len(axes) - right], fresh[left : len(fresh) - right]
    if inner_old or inner_new:
        op.unify(product(inner_new), product(inner_old))
    return tuple(product((axis,)) for axis in fresh)


def _sized_view(op: OpCall, x: Operand, name: str) -> Outcome:
    axes = reinterpret(op, x.axes, op.output_shapes[0])
    for index, axis in enumerate(axes):
        op.sized(name, axis, index)
    return op.outcome(axes, zero=x)


@rule("aten.view", "aten._unsafe_view", "aten._reshape_alias")
def view(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    return _sized_view(op, x, "size")


@rule("aten.reshape")
def reshape(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    return _sized_view(op, x, "shape")


@rule("aten.flatten", "aten.ravel")
def flatten(op: OpCall) -> Outcome:
    """[A, B, C], 1 -> [A, B * C]."""
    (x,) = op.operands("self")
    return op.outcome(reinterpret(op, x.axes, op.output_shapes[0]), zero=x)


@rule("aten.view_as", "aten.reshape_as")
def view_as(op: OpCall) -> Outcome:
    """The sizes are those of `other`, dimension by dimension."""
    x, other = op.operands("self", "other")
    axes = reinterpret(op, x.axes, op.output_shapes[0])
    for axis, like in zip(axes, other.axes, strict=True):
        op.equal_counts(axis, like)
    return op.outcome(axes, zero=x)


@rule("aten.unflatten")
def unflatten(op: OpCall) -> Outcome:
    """[A, B], 1, (2, -1) -> [A, 2, B / 2]."""
    (x,) = op.operands("self")
    dim = op.dim(x)
    rank = len(op.output_shapes[0]) - x.rank + 1
    inner = reinterpret(op, x.axes[dim : dim + 1], op.output_shapes[0][dim : dim + rank])
    for index, axis in enumerate(inner):
        op.sized("sizes", axis, index)
    return op.outcome((*x.axes[:dim], *inner, *x.axes[dim + 1 :]), zero=x)


@rule("aten.permute")
def permute(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    return op.outcome((x.axes[dim] for dim in op.get("dims")), zero=x)


@rule("aten.transpose", "aten.swapaxes", "aten.swapdims")
def transpose(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    first = op.get("dim0", op.get("axis0", 0))
    second = op.get("dim1", op.get("axis1", 0))
    axes = list(x.axes)
    if axes:
        axes[first], axes[second] = axes[second], axes[first]
    return op.outcome(axes, zero=x)


@rule("aten.t", "aten.numpy_T", "aten.mT", "aten.mH", "aten.adjoint", "aten.matrix_H")
def transposed(op: OpCall) -> Outcome:
    """`t` and `.T` reverse all dimensions, `.mT` the last two."""
    (x,) = op.operands("self")
    if op.op.split(".")[1] in ("t", "numpy_T"):
        return op.outcome(x.axes[::-1], zero=x)
    return op.outcome((*x.axes[:-2], x.axes[-1], x.axes[-2]), zero=x)


@rule("aten.movedim", "aten.moveaxis")
def movedim(op: OpCall) -> Outcome:
    (x,) = op.operands("self")
    source, destination = op.get("source"), op.get("destination")
    sources = [s % x.rank for s in (source if isinstance(source, list) else [source])]
    destinations = [d % x.rank for d in (destination if isinstance(destination, list) else [destination])]
    order: list[int] = [dim for dim in range(x.rank) if dim not in sources]
    for target, dim in sorted(zip(destinations, sources, strict=True)):
        order.insert(target, dim)
    return op.outcome((x.axes[dim] for dim in order), zero=x)


@rule("aten.unsqueeze")
def unsqueeze(op: OpCall) -> Outcome:
    """[A, B], 1 -> [A, 1, B]."""
    (x,) = op.operands("self")
    dim = op.get("dim") % (x.rank + 1)
    return op.outcome((*x.axes[:dim], Fixed(1), *x.axes[dim:]), zero=x)


@rule("aten.squeeze")
def squeeze(op: OpCall) -> Outcome:
    """Dimensions of size 1 vanish. A free one must never shrink to a single unit: it would vanish too."""
    (x,) = op.operands("self")
    dims = op.get("dim")
    chosen = range(x.rank) if dims is None else dims if isinstance(dims, list) else [dims]
    wanted = {dim % x.rank for dim in chosen} if x.rank else set()
    for dim in wanted:
        if x.axes[dim].size != 1:
            op.facts.at_least_two.append(x.axes[dim])
    return op.outcome((axis for dim, axis in enumerate(x.axes) if dim not in wanted or axis.size != 1), zero=x)


@rule("aten.expand", "aten.broadcast_to")
def expand(op: OpCall) -> Outcome:
    """[1, B] to (A, -1) -> [A, B], with a new axis A. Nothing vanishes along it."""
    (x,) = op.operands("self")
    shape = op.output_shapes[0]
    padded = (*(Fixed(1) for _ in range(len(shape) - x.rank)), *x.axes)
    axes = tuple(axis if axis.size == size else op.fresh(size) for axis, size in zip(padded, shape, strict=True))
    for index, axis in enumerate(axes):
        op.sized("size", axis, index)
    return op.outcome(axes, zero=x)


@rule("aten.expand_as")
def expand_as(op: OpCall) -> Outcome:
    x, other = op.operands("self", "other")
    padded = (*(Fixed(1) for _ in range(other.rank - x.rank)), *x.axes)
    for axis, like in zip(padded, other.axes, strict=True):
        if axis.size == like.size:
            op.equal_counts(axis, like)
    axes = (axis if axis.size == like.size else like for axis, like in zip(padded, other.axes, strict=True))
    return op.outcome(axes, zero=x)


@rule("aten.broadcast_tensors")
def broadcast_tensors(op: OpCall) -> Outcome:
    operands = op.tensors()
    axes = broadcast(op, operands)
    return op.outcome(*(axes for _ in op.output_shapes), zero=operands)


@rule("aten.meshgrid")
def meshgrid(op: OpCall) -> Outcome:
    """[A], [B] -> [A, B] twice ("ij") or [B, A] ("xy")."""
    operands = op.tensors()
    axes = [operand.axes[0] if operand.rank else Fixed(1) for operand in operands]
    if op.get("indexing") == "xy" and len(axes) > 1:
        axes[:2] = axes[1::-1]
    return op.outcome(*(axes for _ in op.output_shapes), zero=operands)


@rule("aten.repeat", "aten.tile")
def repeat(op: OpCall) -> Outcome:
    """[A], (3,) -> [3! * A]: copies one after another."""
    (x,) = op.operands("self")
    repeats = op.get("repeats") or op.get("dims")
    padded = (*(Fixed(1) for _ in range(len(repeats) - x.rank)), *x.axes)
    repeats = [1] * (len(padded) - len(repeats)) + list(repeats)
    axes = []
    for index, (times, axis) in enumerate(zip(repeats, padded, strict=True)):
        copies = op.fresh(times)
        if len(repeats) == len(op.get("repeats") or op.get("dims")):
            op.sized("repeats" if op.get("repeats") else "dims", copies, index)
        axes.append(product((copies, axis)))
    return op.outcome(axes, zero=x)


@rule("aten.repeat_interleave.self_int")
def repeat_interleave(op: OpCall) -> Outcome:
    """[A], 3 -> [A * 3!]: every unit three times in a row."""
    (x,) = op.operands("self")
    times = op.get("repeats")
    if op.get("dim") is None:
        axes: list[Axis] = [product(x.axes)]
        dim = 0
    else:
        axes, dim = list(x.axes), op.dim(x)
    copies = op.fresh(times)
    op.sized("repeats", copies)
    axes[dim] = product((axes[dim], copies))
    return op.outcome(axes, zero=x)


@rule("aten.pixel_shuffle")
def pixel_shuffle(op: OpCall) -> Outcome:
    """[..., C * r! * r!, H, W] -> [..., C, H * r!, W * r!]."""
    (x,) = op.operands("self")
    r = op.get("upscale_factor")
    channels, subpixels = op.split(x.axes[-3], x.axes[-3].size // (r * r), "sub-pixels")
    op.freeze(subpixels, "sub-pixels")
    pixels = (product((axis, Fixed(r))) for axis in x.axes[-2:])
    return op.outcome((*x.axes[:-3], channels, *pixels), zero=x)


@rule("aten.pixel_unshuffle")
def pixel_unshuffle(op: OpCall) -> Outcome:
    """[..., C, H * r!, W * r!] -> [..., C * r! * r!, H, W]."""
    (x,) = op.operands("self")
    r = op.get("downscale_factor")
    pixels = []
    for axis in x.axes[-2:]:
        outer, subpixels = op.split(axis, axis.size // r, "sub-pixels")
        op.freeze(subpixels, "sub-pixels")
        pixels.append(outer)
    return op.outcome((*x.axes[:-3], product((x.axes[-3], Fixed(r * r))), *pixels), zero=x)


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(op: OpCall) -> Outcome:
    """[B, G * C, ...] -> [B, C * G, ...]."""
    (x,) = op.operands("self")
    groups, inner = op.split(x.axes[1], op.get("groups"), "shuffled groups")
    op.sized("groups", groups)
    return op.outcome((x.axes[0], product((inner, groups)), *x.axes[2:]), zero=x)


@rule("aten.diagonal")
def diagonal(op: OpCall) -> Outcome:
    """[A, B, A'], dims 0 and 2 -> [B, min(A, A')]: the two dimensions are compared by number, the others pass."""
    (x,) = op.operands("self")
    dims = {op.dim(x, "dim1", 0), op.dim(x, "dim2", 1)}
    for dim in dims:
        op.freeze(x.axes[dim], "rows and columns are compared by number")
    passing = tuple(axis for dim, axis in enumerate(x.axes) if dim not in dims)
    return op.outcome((*passing, Fixed(op.output_shapes[0][-1])), zero=Along(x, passing))


@rule("aten.trace", "aten.diag", "aten.diag_embed", "aten.as_strided", "aten.as_strided_")
def strided(op: OpCall) -> Outcome:
    """Memory is addressed directly, or rows and columns by number: nothing is known about the axes that enter."""
    for operand in op.tensors():
        op.freeze_all(operand, "addresses memory or a diagonal")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes))


def is_free(axis: Axis) -> bool:
    """Whether anything in the axis can still be pruned."""
    return any(isinstance(leaf, Free) and leaf.reason is None for leaf in leaves(axis))
