"""Regions of a tensor, separable by dimension, and how ops that only move entries carry them along.

A region is one boolean vector per dimension: an entry lies in it if all its coordinates do.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from torch_pruning.trace.program import Call, Value

Region = tuple[Tensor, ...]

_RESHAPING = frozenset(
    [
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "unsqueeze",
        "squeeze",
        "view_as",
        "reshape_as",
        "contiguous",
        "clone",
        "to",
        "alias",
        "detach",
        "_to_copy",
        "lift_fresh",
        "type_as",
    ]
)
_PERMUTING = frozenset(["permute", "transpose", "t", "numpy_T", "mT", "movedim", "swapaxes", "swapdims", "adjoint"])
_CUTTING = frozenset(["select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind"])
MOVING = _RESHAPING | _PERMUTING | _CUTTING | {"cat", "concat", "concatenate"}


def everything(shape: tuple[int, ...]) -> Region:
    return tuple(torch.ones(size, dtype=torch.bool) for size in shape)


def is_empty(region: Region) -> bool:
    return any(not bool(vector.any()) for vector in region)


def same(a: Region | None, b: Region | None) -> bool:
    """Whether two regions hold the same entries; None is the empty one."""
    a_empty, b_empty = a is None or is_empty(a), b is None or is_empty(b)
    if a_empty or b_empty:
        return a_empty and b_empty
    assert a is not None
    assert b is not None
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def union(a: Region, b: Region) -> Region | None:
    """The union, if it is separable: they differ in one dimension at most."""
    different = [dim for dim, (x, y) in enumerate(zip(a, b, strict=True)) if not torch.equal(x, y)]
    if len(different) > 1:
        return None
    return tuple(x | y for x, y in zip(a, b, strict=True))


def relayout(region: Region, shape: tuple[int, ...]) -> Region | None:
    """The same entries after a row-major reinterpretation; None where they are not separable there."""
    result: list[Tensor] = []
    old, new = list(region), list(shape)
    while old or new:
        left, right = [old.pop(0)] if old else [], [new.pop(0)] if new else []
        while _size(left) != math.prod(right):
            if _size(left) < math.prod(right):
                left.append(old.pop(0))
            else:
                right.append(new.pop(0))
        merged = reduce(lambda x, y: (x[:, None] & y[None, :]).reshape(-1), left, torch.ones(1, dtype=torch.bool))
        parts = _separated(merged, right)
        if parts is None:
            return None
        result += parts
    return tuple(result)


def _size(vectors: list[Tensor]) -> int:
    return math.prod(vector.numel() for vector in vectors)


def _separated(vector: Tensor, shape: list[int]) -> list[Tensor] | None:
    """A vector over a product of dimensions as one vector each."""
    grid = vector.reshape(shape)
    parts = [grid.movedim(dim, 0).reshape(size, -1).any(1) for dim, size in enumerate(shape)]
    again = reduce(lambda x, y: (x[:, None] & y[None, :]).reshape(-1), parts, torch.ones(1, dtype=torch.bool))
    return parts if torch.equal(again, vector) else None


def _permutation(call: Call, rank: int) -> list[int]:
    """Input dimension of every output dimension, found by running the op on dimensions of different sizes."""
    probe = torch.empty(tuple(range(2, 2 + rank)), device="meta")
    shape = call.function(probe, *call.args[1:], **call.kwargs).shape
    return [size - 2 for size in shape]


def _window(call: Call, value: Value, position: int) -> tuple[int, slice, bool]:
    """(dimension, the slice of it that output `position` takes, whether the dimension vanishes)."""
    base = call.op.split(".")[1]
    arguments: dict[str, Any] = (
        dict(zip((a.name for a in call.function._schema.arguments), call.args, strict=False)) | call.kwargs
    )
    dim = int(arguments.get("dim") or 0) % len(value.shape)
    if base in ("select", "unbind"):
        index = arguments["index"] % value.shape[dim] if base == "select" else position
        return dim, slice(index, index + 1), True
    if base in ("slice", "narrow"):
        start = arguments.get("start") or 0
        stop = start + arguments["length"] if base == "narrow" else arguments.get("end")
        return dim, slice(*slice(start, stop, arguments.get("step", 1)).indices(value.shape[dim])), False
    sizes = [result.shape[dim] for result in call.results()]
    return dim, slice(sum(sizes[:position]), sum(sizes[: position + 1])), False


def backward(call: Call, position: int, region: Region) -> list[tuple[Value, Region]] | None:
    """The entries of each input that a region of output `position` was made of; None if they are not separable."""
    base = call.op.split(".")[1]
    values = list(call.inputs())
    value = values[0]
    if base in _RESHAPING:
        moved = relayout(region, value.shape)
        return None if moved is None else [(value, moved)]
    if base in _PERMUTING:
        order = _permutation(call, len(value.shape))
        return [(value, tuple(region[order.index(dim)] for dim in range(len(order))))]
    if base in _CUTTING:
        dim, window, vanishes = _window(call, value, position)
        vector = torch.zeros(value.shape[dim], dtype=torch.bool)
        vector[window] = torch.ones(1, dtype=torch.bool) if vanishes else region[dim]
        rest = list(region)
        rest[dim:dim] = [vector]
        if not vanishes:
            del rest[dim + 1]
        return [(value, tuple(rest))]
    dim = _cat_dim(call, len(region))
    found, start = [], 0
    for part in values:
        vector = region[dim][start : start + part.shape[dim]]
        start += part.shape[dim]
        found.append((part, (*region[:dim], vector, *region[dim + 1 :])))
    return found


def forward(call: Call, value: Value, region: Region) -> list[Region | None] | None:
    """The region of every output that the region of one input makes; None if one is not separable."""
    base = call.op.split(".")[1]
    results = list(call.results())
    if base in _RESHAPING and value is not call.inputs()[0]:  # asked for its shape or dtype alone
        return [None] * len(results)
    if base in _RESHAPING:
        moved = relayout(region, results[0].shape)
        return None if moved is None else [moved]
    if base in _PERMUTING:
        return [tuple(region[dim] for dim in _permutation(call, len(value.shape)))]
    if base in _CUTTING:
        found: list[Region | None] = []
        for position in range(len(results)):
            dim, window, vanishes = _window(call, value, position)
            vector = region[dim][window]
            if vanishes:
                found.append((*region[:dim], *region[dim + 1 :]) if bool(vector.any()) else None)
            else:
                found.append((*region[:dim], vector, *region[dim + 1 :]))
        return found
    dim = _cat_dim(call, len(region))
    start = 0
    for part in call.inputs():
        if part is value:
            break
        start += part.shape[dim]
    vector = torch.zeros(results[0].shape[dim], dtype=torch.bool)
    vector[start : start + value.shape[dim]] = region[dim]
    return [(*region[:dim], vector, *region[dim + 1 :])]


def part_of_output(call: Call, value: Value, region: Region | None) -> Region | None:
    """Of a region of a joined output, the entries that come from this input; other ops have one input only."""
    if region is None or call.op.split(".")[1] not in ("cat", "concat", "concatenate"):
        return region
    dim = _cat_dim(call, len(region))
    mine = forward(call, value, everything(value.shape))
    assert mine is not None
    assert mine[0] is not None
    return (*region[:dim], region[dim] & mine[0][dim], *region[dim + 1 :])


def _cat_dim(call: Call, rank: int) -> int:
    given = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    return int(given) % rank
