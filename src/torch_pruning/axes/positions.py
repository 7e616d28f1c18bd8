"""Kept positions of an axis expression, given the kept units of its Free axes.

Positions are ordered gather indices, not sorted sets: where a Product carries an axis whose kept units differ from
lane to lane, the order is that of the slots of the smaller tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, leaves, resolve


@dataclass(frozen=True, slots=True)
class Kept:
    """The units of one Free axis that stay.

    Without lanes, `rows` has the single key `()`. With lanes (h, ...), it has one key per combination of *original*
    positions of those axes; all rows are equally long.

    Raises:
        ValueError: if rows differ in length, or a key has not one position per lane axis.
    """

    rows: Mapping[tuple[int, ...], tuple[int, ...]]
    lanes: tuple[Free, ...] = ()

    def __post_init__(self) -> None:
        lengths = sorted({len(row) for row in self.rows.values()})
        if len(lengths) != 1:
            raise ValueError(f"every lane must keep equally many units, found {lengths}")
        if any(len(key) != len(self.lanes) for key in self.rows):
            raise ValueError(
                f"a row is wanted per position of {len(self.lanes)} lane axes, found {list(self.rows)[:5]}"
            )

    @property
    def count(self) -> int:
        return len(next(iter(self.rows.values())))


Choice = Mapping[Free, Kept]


def all_kept(size: int) -> Kept:
    """Every unit of an axis of this size: `all_kept(2).rows == {(): (0, 1)}`."""
    return Kept({(): tuple(range(size))})


def kept_positions(axis: Axis, choice: Choice, given: Mapping[Free, int] | None = None) -> list[int]:
    """The positions of `axis` that stay, in gather order. Axes absent from `choice` keep all their units.

    `given` holds the position of lane axes that lie in other dimensions of the same tensor.

    (H:2 * D:3) with D keeping (0, 2) -> [0, 2, 3, 5]; with D laned over H, {0: (0,), 1: (2,)} -> [0, 5]
    [A:2 + B:2] with A keeping (1,) -> [1, 2, 3]
    """
    return _positions(resolve(axis), choice, given or {})


def _positions(axis: Axis, choice: Choice, given: Mapping[Free, int]) -> list[int]:
    if isinstance(axis, Fixed):
        return list(range(axis.size))
    if isinstance(axis, Free):
        kept = choice.get(axis)
        if kept is None:
            return list(range(axis.size))
        return list(kept.rows[tuple(given[lane] for lane in kept.lanes)])
    if isinstance(axis, Concat):
        result: list[int] = []
        offset = 0
        for part in axis.parts:
            result += [offset + position for position in _positions(part, choice, given)]
            offset += part.size
        return result
    assert isinstance(axis, Product)
    lanes = [factor for factor in axis.factors if isinstance(factor, Free) and factor in lanes_within(axis, choice)]
    if lanes:
        return _laned_positions(axis, lanes, choice, given)
    result = [0]
    for factor in axis.factors:
        inner = _positions(factor, choice, given)
        size = factor.size
        result = [outer * size + position for outer in result for position in inner]
    return result


def lanes_within(axis: Axis, choice: Choice) -> set[Free]:
    """The lane axes of all laned axes in the expression."""
    return {lane for leaf in leaves(axis) if leaf in choice for lane in choice[leaf].lanes}


def _laned_positions(axis: Product, lanes: Sequence[Free], choice: Choice, given: Mapping[Free, int]) -> list[int]:
    """Fix each combination of lane positions in turn, then put the slots back into row-major order."""
    assert len(set(lanes)) == len(lanes), f"an axis that stands twice in {axis!r} cannot say which lane is meant"
    position_of_slots: dict[tuple[int, ...], int] = {}
    for entries in itertools.product(*(enumerate(_positions(lane, choice, given)) for lane in lanes)):
        entry_of = dict(zip(lanes, entries, strict=True))
        here = {**given, **{lane: position for lane, (_, position) in entry_of.items()}}
        rows = [
            [entry_of[factor]]
            if isinstance(factor, Free) and factor in entry_of
            else list(enumerate(_positions(factor, choice, here)))
            for factor in axis.factors
        ]
        for row in itertools.product(*rows):
            position = 0
            for factor, (_, index) in zip(axis.factors, row, strict=True):
                position = position * factor.size + index
            position_of_slots[tuple(slot for slot, _ in row)] = position
    return [position_of_slots[slots] for slots in sorted(position_of_slots)]


def lane_combinations(lanes: Sequence[Free], choice: Choice) -> Iterator[dict[Free, int]]:
    """Every assignment of a kept position to each of the lane axes."""
    for combination in itertools.product(*(kept_positions(lane, choice) for lane in lanes)):
        yield dict(zip(lanes, combination, strict=True))


def unit_images(axis: Axis, leaf: Free) -> list[list[int]]:
    """For each unit of `leaf`, the positions of `axis` that it owns. (H:2 * D:2), D -> [[0, 2], [1, 3]]"""
    axis = resolve(axis)
    images: list[list[int]] = [[] for _ in range(leaf.size)]
    for position, owners in enumerate(owners_of_positions(axis)):
        for owner, unit in owners:
            if owner is leaf:
                images[unit].append(position)
    return images


def owners_of_positions(axis: Axis) -> list[tuple[tuple[Free, int], ...]]:
    """For each position, the (leaf, unit) pairs whose removal removes it.

    (H:2 * D:2) -> [((H, 0), (D, 0)), ((H, 0), (D, 1)), ((H, 1), (D, 0)), ((H, 1), (D, 1))]
    """
    axis = resolve(axis)
    if isinstance(axis, Fixed):
        return [()] * axis.size
    if isinstance(axis, Free):
        return [((axis, unit),) for unit in range(axis.size)]
    if isinstance(axis, Concat):
        return [owners for part in axis.parts for owners in owners_of_positions(part)]
    assert isinstance(axis, Product)
    result: list[tuple[tuple[Free, int], ...]] = [()]
    for factor in axis.factors:
        inner = owners_of_positions(factor)
        result = [(*outer, *owners) for outer in result for owners in inner]
    return result
