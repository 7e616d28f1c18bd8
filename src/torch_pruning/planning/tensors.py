"""The operations on single tensors that all surgery rests on: which positions stay, gather them, swap them in."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from torch_pruning.errors import PositionError

Positions = Iterable[SupportsIndex] | Tensor
"""Positions along one dimension as users write them: a list, tuple, set, range, integer tensor or array."""


def kept_positions(size: int, idxs: Positions, where: object = "a dimension") -> Tensor:
    """The positions that stay, ascending, when `idxs` are removed from a dimension of `size` positions.

    `where` is the layer or tensor that an error message names.

    Raises: `TypeError` for anything but integers (masks included), `PositionError` (a `ValueError`) for positions
    that are out of range, repeated, or all there are.

    >>> kept_positions(6, [-1, 0, 3])
    tensor([1, 2, 4])
    """
    removed = given_positions(size, idxs, where)
    if size > 0 and len(removed) == size:
        raise PositionError(
            f"at least one position must stay; found all {size} to be removed in {where}: "
            "keep one, or take the layer out of the model"
        )
    return torch.tensor([position for position in range(size) if position not in removed], dtype=torch.long)


def given_positions(size: int, idxs: Positions, where: object = "a dimension") -> set[int]:
    """The positions that `idxs` name, counted from the front; all there are is fine.

    Raises: `TypeError` for anything but integers, `PositionError` for positions out of range or repeated.

    >>> sorted(given_positions(6, [-1, 0, 3]))
    [0, 3, 5]
    """
    removed: set[int] = set()
    for given in _integers(idxs, where):
        position = given + size if given < 0 else given
        if not 0 <= position < size:
            raise PositionError(
                f"positions to remove must lie in {-size}..{size - 1}; found {given} in {where}: "
                f"count from 0 over the {size} positions that are there now"
            )
        if position in removed:
            raise PositionError(
                f"positions to remove must be distinct; found {given} (position {position}) twice in {where}: "
                "list each position once, negative ones are counted from the end"
            )
        removed.add(position)
    return removed


def shrink(tensor: Tensor, dim_to_kept: Mapping[int, Tensor]) -> Tensor:
    """A new tensor with the kept positions of each dimension, in gather order; no autograd history, no shared storage.

    `[A, B, C]`, `{1: kept}` -> `[A, len(kept), C]`. The order of the dimensions in memory (channels last) stays.

    >>> shrink(torch.arange(6).view(2, 3), {1: torch.tensor([2, 0])})
    tensor([[2, 0],
            [5, 3]])
    """
    # A tensor born in inference mode would make the parameter that receives it unfit for training.
    with torch.inference_mode(False), torch.no_grad():
        smaller = tensor.detach()
        for dim, kept in dim_to_kept.items():
            smaller = smaller.index_select(dim, kept.to(tensor.device))
        return _laid_out_like(tensor, smaller)


def shrink_blocks(tensor: Tensor, lane_dim: int, dim: int, kept: Tensor) -> Tensor:
    """A new tensor whose kept positions along `dim` depend on the lane, `kept` being `[lanes, k]`.

    Lanes are equal contiguous blocks of `lane_dim`: `[lanes*A, B]`, lane dim 0, dim 1 -> `[lanes*A, k]`.
    Dimensions that shrink alike for all lanes are left to `shrink`, afterwards.

    >>> shrink_blocks(torch.arange(6).view(2, 3), 0, 1, torch.tensor([[0, 1], [1, 2]]))
    tensor([[0, 1],
            [4, 5]])
    """
    if kept.shape[0] == 1:
        return shrink(tensor, {dim: kept[0]})
    with torch.inference_mode(False), torch.no_grad():
        kept_by_row = kept.to(tensor.device).repeat_interleave(tensor.shape[lane_dim] // kept.shape[0], dim=0)
        if lane_dim > dim:
            kept_by_row = kept_by_row.t()
        shape = [1] * tensor.dim()
        shape[lane_dim], shape[dim] = tensor.shape[lane_dim], kept.shape[1]
        index = kept_by_row.reshape(shape).expand(
            [kept.shape[1] if at == dim else size for at, size in enumerate(tensor.shape)]
        )
        return _laid_out_like(tensor, tensor.detach().gather(dim, index))


def assign(tensor: Tensor, data: Tensor, grad: Tensor | None = None) -> None:
    """Give a parameter or buffer new data and a new gradient; the tensor object itself, its hooks and flags stay.

    `data` must be a tensor of its own (as `shrink` returns it): the parameter takes over its storage.

    >>> weight = torch.nn.Parameter(torch.ones(4, 2))
    >>> assign(weight, shrink(weight, {0: torch.tensor([0, 3])}))
    >>> weight.shape
    torch.Size([2, 2])
    """
    # The node that accumulates the gradient is cached with the old shape for as long as an earlier loss is referenced,
    # and the next backward would fail on it. torch drops it only when dtype or device changes, so change the dtype.
    other = torch.float32 if tensor.dtype != torch.float32 else torch.float16
    tensor.data = torch.empty(0, dtype=other, device=tensor.device)
    tensor.data = data
    tensor.grad = grad


def _integers(idxs: Positions, where: object) -> list[int]:
    """The positions as Python integers, in the order given."""
    entries: Any = idxs.tolist() if hasattr(idxs, "tolist") else idxs  # tensors and arrays
    try:
        if isinstance(entries, str | bytes):
            raise TypeError
        listed = list(entries)
    except TypeError:
        raise TypeError(
            f"positions to remove must be a list, tuple, set, range, tensor or array of integers; "
            f"found {idxs!r} for {where}: write [3] for the single position 3"
        ) from None
    return [_integer(entry, where) for entry in listed]


def _integer(entry: object, where: object) -> int:
    is_bool = isinstance(entry, bool) or "bool" in str(getattr(entry, "dtype", ""))
    try:
        if is_bool:
            raise TypeError
        return operator.index(entry)  # type: ignore[arg-type]  # what is not an integer raises
    except TypeError:
        raise TypeError(
            f"positions to remove must be integers; found {entry!r} of type {type(entry).__name__} for {where}: "
            "a mask becomes positions by `mask.nonzero().flatten()`"
        ) from None


def _laid_out_like(tensor: Tensor, smaller: Tensor) -> Tensor:
    """`smaller` with its dimensions in the memory order of `tensor`."""
    if tensor.layout != torch.strided:  # sparse gradients of embeddings
        return smaller
    # Of two dimensions with the same stride the one of size 1 lies inside, as torch itself lays them out.
    strides, sizes = tensor.stride(), tensor.shape
    order = sorted(range(tensor.dim()), key=lambda dim: (-strides[dim], -sizes[dim], dim))
    if order == list(range(tensor.dim())):
        return smaller.contiguous()
    inverse = sorted(range(tensor.dim()), key=order.__getitem__)
    return smaller.permute(order).clone(memory_format=torch.contiguous_format).permute(inverse)
