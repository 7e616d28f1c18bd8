"""Cutting and masking tensors by the units that own their elements, written without the code of surgery."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, resolve
from torch_pruning.axes.positions import Choice, owners_of_positions

Given = Mapping[Free, int]  # the lane that is looked at
Pairs = list[tuple[int, int]]  # (position before, position after) of what stays along one dimension


def cut(tensor: Tensor, axes: Sequence[Axis], choice: Choice) -> Tensor:
    """The elements that stay, each at its place in the smaller tensor."""
    result = torch.zeros([_new_size(axis, choice) for axis in axes], dtype=tensor.dtype)
    for pairs in _lane_by_lane(axes, choice):
        result[_grid([[new for _, new in along] for along in pairs])] = tensor[
            _grid([[old for old, _ in along] for along in pairs])
        ]
    return result


def kept_mask(axes: Sequence[Axis], choice: Choice) -> Tensor:
    """True where an element stays."""
    mask = torch.zeros([axis.size for axis in axes], dtype=torch.bool)
    for pairs in _lane_by_lane(axes, choice):
        mask[_grid([[old for old, _ in along] for along in pairs])] = True
    return mask


def _grid(positions: list[list[int]]) -> tuple[Tensor, ...]:
    """Index tensors that pick the product of positions along each dimension."""
    rank = len(positions)
    return tuple(
        torch.tensor(along, dtype=torch.long).reshape([-1 if other == dim else 1 for other in range(rank)])
        for dim, along in enumerate(positions)
    )


def _lane_by_lane(axes: Sequence[Axis], choice: Choice) -> Iterator[list[Pairs]]:
    """For every combination of lanes that occurs in the tensor, what stays along each dimension."""
    owners = [owners_of_positions(axis) for axis in axes]
    present = {leaf for along in owners for pairs in along for leaf, _ in pairs}
    # A tensor that carries the lanes only, even on several dimensions, is cut like any other.
    lanes = list(dict.fromkeys(lane for leaf, kept in choice.items() if leaf in present for lane in kept.lanes))
    for units in itertools.product(*(range(lane.size) for lane in lanes)):
        given = dict(zip(lanes, units, strict=True))
        yield [_stays(axis, along, choice, given) for axis, along in zip(axes, owners, strict=True)]


def _stays(axis: Axis, owners: list[tuple[tuple[Free, int], ...]], choice: Choice, given: Given) -> Pairs:
    found: Pairs = []
    for position, pairs in enumerate(owners):
        here = all(given.get(leaf, unit) == unit for leaf, unit in pairs)
        if here and all(unit in _row(leaf, choice, given) for leaf, unit in pairs if leaf in choice):
            found.append((position, _slot(axis, position, choice, given)))
    return found


def _row(leaf: Free, choice: Choice, given: Given) -> tuple[int, ...]:
    kept = choice[leaf]
    return kept.rows[tuple(given[lane] for lane in kept.lanes)]


def _new_size(axis: Axis, choice: Choice) -> int:
    axis = resolve(axis)
    if isinstance(axis, Free):
        return choice[axis].count if axis in choice else axis.size
    if isinstance(axis, Product):
        size = 1
        for factor in axis.factors:
            size *= _new_size(factor, choice)
        return size
    if isinstance(axis, Concat):
        return sum(_new_size(part, choice) for part in axis.parts)
    return axis.size


def _slot(axis: Axis, position: int, choice: Choice, given: Given) -> int:
    """Where a position that stays comes to lie."""
    axis = resolve(axis)
    if isinstance(axis, Fixed):
        return position
    if isinstance(axis, Free):
        return _row(axis, choice, given).index(position) if axis in choice else position
    if isinstance(axis, Product):
        slot, rest = 0, axis.size
        for factor in axis.factors:
            rest //= factor.size
            slot = slot * _new_size(factor, choice) + _slot(factor, position // rest % factor.size, choice, given)
        return slot
    assert isinstance(axis, Concat)
    before = 0
    for part in axis.parts:
        if position < part.size:
            return before + _slot(part, position, choice, given)
        position -= part.size
        before += _new_size(part, choice)
    raise AssertionError("a position beyond the end of its axis")
