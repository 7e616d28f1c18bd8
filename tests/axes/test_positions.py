"""Kept positions under lanes, against tensors written out as lists of coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest

from torch_pruning.axes.expression import Axis, Fixed, Free, Reason, concat, product
from torch_pruning.axes.positions import (
    Choice,
    Kept,
    all_kept,
    kept_positions,
    lane_combinations,
    lanes_within,
    owners_of_positions,
    unit_images,
)
from torch_pruning.axes.unify import unify


def slots_and_positions(factors: Sequence[Axis], choice: Choice, given: Mapping[Free, int]) -> list[int]:
    """Where each element of the smaller tensor, in row-major order, lies in the larger one."""
    found: dict[tuple[int, ...], int] = {}
    for position, units in enumerate(itertools.product(*(range(factor.size) for factor in factors))):
        at = {**given, **dict(zip(factors, units, strict=True))}
        slots = []
        for factor, unit in zip(factors, units, strict=True):
            kept = choice.get(factor)
            row = range(factor.size) if kept is None else kept.rows[tuple(at[lane] for lane in kept.lanes)]
            slots.append(list(row).index(unit) if unit in row else None)
        if None not in slots:
            found[tuple(slots)] = position
    return [found[slots] for slots in sorted(found)]


def all_laned(leaf: Free, lanes: Sequence[Free], count: int) -> list[Kept]:
    """Every way to keep `count` units of an axis, lane by lane."""
    keys = list(itertools.product(*(range(lane.size) for lane in lanes)))
    rows = list(itertools.combinations(range(leaf.size), count))
    return [
        Kept(dict(zip(keys, chosen, strict=True)), tuple(lanes)) for chosen in itertools.product(rows, repeat=len(keys))
    ]


def test_examples() -> None:
    h, d = Free(2), Free(3)
    assert kept_positions(product((h, d)), {d: Kept({(): (0, 2)})}) == [0, 2, 3, 5]
    assert kept_positions(product((h, d)), {d: Kept({(0,): (0,), (1,): (2,)}, (h,))}) == [0, 5]
    assert kept_positions(concat((h, d)), {h: Kept({(): (1,)})}) == [1, 2, 3, 4]
    assert unit_images(product((h, d)), d) == [[0, 3], [1, 4], [2, 5]]
    assert owners_of_positions(product((h, Fixed(2)))) == [((h, 0),), ((h, 0),), ((h, 1),), ((h, 1),)]
    assert all_kept(2) == Kept({(): (0, 1)})
    assert all_kept(2).count == 2


def test_nothing_chosen_keeps_everything() -> None:
    axis = concat((product((Free(2), Free(3))), Fixed(2), Free(1)))
    assert kept_positions(axis, {}) == list(range(9))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_lanes_whichever_factor_comes_first(order: tuple[int, ...]) -> None:
    """The lane axis before or behind the laned one, with another axis anywhere, the lane axis itself shrunk or not."""
    h, d, other = Free(2), Free(3), Free(2)
    factors = [(h, d, other)[index] for index in order]
    for kept, shrunk in itertools.product(all_laned(d, (h,), 2), [(0, 1), (1,), (0,)]):
        choice = {d: kept, h: Kept({(): shrunk}), other: Kept({(): (1,)})}
        assert kept_positions(product(factors), choice) == slots_and_positions(factors, choice, {})
        del choice[other]
        assert kept_positions(product(factors), choice) == slots_and_positions(factors, choice, {})


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_two_lane_axes(order: tuple[int, ...]) -> None:
    g, h, d = Free(2), Free(2), Free(3)
    factors = [(g, h, d)[index] for index in order]
    for kept, shrunk in itertools.product(all_laned(d, (g, h), 1), [(0, 1), (1,)]):
        for choice in ({d: kept, h: Kept({(): shrunk})}, {d: kept, g: Kept({(): shrunk})}):
            assert kept_positions(product(factors), choice) == slots_and_positions(factors, choice, {})


def test_two_laned_axes_over_one() -> None:
    h, d, e = Free(2), Free(2), Free(3)
    for first, second in itertools.product(all_laned(d, (h,), 1), all_laned(e, (h,), 2)):
        choice = {d: first, e: second}
        for factors in itertools.permutations((h, d, e)):
            assert kept_positions(product(factors), choice) == slots_and_positions(factors, choice, {})


def test_lane_axis_in_another_dimension() -> None:
    """Grouped convolution: dim 0 is (G * O), dim 1 is I; which columns stay depends on the group of the row."""
    g, inputs, others = Free(3), Free(4), Free(2)
    kept = Kept({(0,): (0, 1), (1,): (2, 3), (2,): (3, 0)}, (g,))
    for group in range(3):
        assert kept_positions(inputs, {inputs: kept}, {g: group}) == list(kept.rows[(group,)])
        factors = (others, inputs)
        expected = slots_and_positions(factors, {inputs: kept}, {g: group})
        assert kept_positions(product(factors), {inputs: kept}, {g: group}) == expected
    assert list(lane_combinations((g,), {g: Kept({(): (0, 2)})})) == [{g: 0}, {g: 2}]


def test_one_lane_axis_here_and_one_in_another_dimension() -> None:
    g, h, d = Free(2), Free(2), Free(2)
    for kept in all_laned(d, (g, h), 1):
        for at in range(2):
            expected = slots_and_positions((h, d), {d: kept}, {g: at})
            assert kept_positions(product((h, d)), {d: kept}, {g: at}) == expected


def test_gather_order_is_that_of_the_smaller_tensor() -> None:
    """After a shuffle (D * H) the positions of lanes interleave, so they do not ascend."""
    h, d = Free(2), Free(3)
    kept = Kept({(0,): (0, 2), (1,): (0, 1)}, (h,))
    assert kept_positions(product((h, d)), {d: kept}) == [0, 2, 3, 4]
    assert kept_positions(product((d, h)), {d: kept}) == [0, 1, 4, 3]


def test_lanes_of_parts() -> None:
    """[(H * D) + (H * E)] and (H * [D + E]): every part looks up its own lanes."""
    h, d, e = Free(2), Free(2), Free(3)
    choice = {d: Kept({(0,): (0,), (1,): (1,)}, (h,)), e: Kept({(0,): (0, 1), (1,): (1, 2)}, (h,))}
    assert kept_positions(concat((product((h, d)), product((h, e)))), choice) == [0, 3, 4, 5, 8, 9]
    assert kept_positions(product((h, concat((d, e)))), choice) == [0, 2, 3, 6, 8, 9]
    assert lanes_within(product((h, concat((d, e)))), choice) == {h}
    assert lanes_within(h, choice) == set()


def test_lanes_beside_a_factor_that_is_itself_an_expression() -> None:
    h, d, a, b = Free(2), Free(2), Free(2), Free(1)
    choice = {d: Kept({(0,): (0,), (1,): (1,)}, (h,)), a: Kept({(): (1,)})}
    axis = product((concat((a, b)), h, d))
    assert kept_positions(axis, choice) == [4 + 0, 4 + 3, 8 + 0, 8 + 3]


def test_bound_axes_are_followed() -> None:
    width, heads, within = Free(6), Free(2, temporary=True), Free(3, temporary=True)
    unify(width, product((heads, within)), Reason(""))
    choice = {within: Kept({(0,): (0,), (1,): (2,)}, (heads,))}
    assert kept_positions(width, choice) == [0, 5]
    assert unit_images(width, within) == [[0, 3], [1, 4], [2, 5]]


def test_a_lane_axis_that_stands_twice_is_ambiguous() -> None:
    h, d = Free(2), Free(2)
    with pytest.raises(AssertionError, match="which lane"):
        kept_positions(product((h, d, h)), {d: Kept({(0,): (0,), (1,): (1,)}, (h,))})


@pytest.mark.parametrize(
    ("rows", "lanes"), [({(0,): (0,), (1,): (0, 1)}, 1), ({}, 0), ({(): (0,)}, 1), ({(0, 1): (0,)}, 1)]
)
def test_kept_refuses_rows_that_do_not_fit(rows: dict[tuple[int, ...], tuple[int, ...]], lanes: int) -> None:
    with pytest.raises(ValueError, match=r"equally many|per position"):
        Kept(rows, (Free(2),) * lanes)
