"""Whatever is unified, split or cut: the positions agree with a reference that knows only lists of owners."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given

from axes.reference import (
    Tree,
    build,
    concat_of,
    fixed,
    is_normal,
    kept_in,
    owners_in_tree,
    owners_of,
    product_of,
    prunable_owners_of,
    variable,
    variables_of,
)
from axes.strategies import Scenario, Step, compositions, factorisations, scenarios
from torch_pruning.axes.expression import Axis, Free, Reason, concat, freeze, leaves, product, resolve
from torch_pruning.axes.positions import Kept, kept_positions, owners_of_positions, unit_images
from torch_pruning.axes.unify import split_concat, split_product, unify

WHY = Reason("they do not match")


def expressions(size: int, depth: int, parts: int) -> list[Tree]:
    """All expressions of a size over two variables of each size, nested so deep, of at most so many parts."""
    if size == 1:
        return [fixed(1)]
    found = [variable(size, 0), variable(size, 1), fixed(size)]
    if depth:
        for kind, ways in ((product_of, factorisations(size)), (concat_of, compositions(size))):
            for sizes in ways[1:]:
                if len(sizes) <= parts:
                    children = itertools.product(*(expressions(child, depth - 1, parts) for child in sizes))
                    found += [kind(*row) for row in children]
    return found


def check_agreement(forest: dict[Tree, Axis], variables: dict[tuple[int, int], Free]) -> None:
    """Every expression still says what it was written as, its variables standing for what they have become."""
    now = {key: prunable_owners_of(free) for key, free in variables.items()}
    for tree, axis in forest.items():
        expected = [frozenset().union(*(now[key][unit] for key, unit in here)) for here in owners_in_tree(tree)]
        normal = resolve(axis)
        assert prunable_owners_of(axis) == prunable_owners_of(normal) == expected, tree
        assert is_normal(normal), normal
        assert resolve(normal) is normal
        assert normal.size == axis.size == tree.size
        assert {leaf for leaf in leaves(axis) if leaf.reason is None} == {leaf for here in expected for leaf, _ in here}
        assert all(leaf.bound is None for leaf in leaves(axis))


def unify_and_check(a: Tree, b: Tree, temporary: bool = False) -> None:
    variables = {key: Free(key[0], temporary=temporary) for key in variables_of(a, b)}
    x, y = build(a, variables), build(b, variables)
    unify(x, y, WHY)
    # Equal owners at every position: whatever is removed, both keep the same positions.
    assert prunable_owners_of(x) == prunable_owners_of(y), (a, b)
    check_agreement({a: x, b: y}, variables)
    before = prunable_owners_of(x)
    unify(x, y, WHY)
    unify(y, x, WHY)
    assert prunable_owners_of(x) == prunable_owners_of(y) == before, f"unified again, something changes: {a}, {b}"


def frozen_in(*axes: Axis) -> set[Free]:
    return {leaf for axis in axes for leaf in leaves(axis) if leaf.reason is not None}


@pytest.mark.parametrize("temporary", [False, True])
@pytest.mark.parametrize(("size", "depth", "parts"), [(2, 2, 2), (3, 2, 3), (4, 1, 4), (6, 1, 2)])
def test_unify_is_sound_for_all_pairs_of_small_expressions(size: int, depth: int, parts: int, temporary: bool) -> None:
    pairs = itertools.combinations_with_replacement(expressions(size, depth, parts), 2)
    for index, (a, b) in enumerate(pairs):
        if index % 2 == temporary:
            unify_and_check(a, b, temporary)


@pytest.mark.parametrize(("size", "depth", "parts"), [(3, 2, 3), (4, 1, 4), (6, 1, 2)])
def test_one_removed_unit_goes_from_both_sides_alike(size: int, depth: int, parts: int) -> None:
    for a, b in itertools.pairwise(expressions(size, depth, parts)):
        variables = {key: Free(key[0]) for key in variables_of(a, b)}
        x, y = build(a, variables), build(b, variables)
        unify(x, y, WHY)
        for leaf in {leaf for leaf in (*leaves(x), *leaves(y)) if leaf.reason is None}:
            for unit in range(leaf.size):
                choice = {leaf: Kept({(): tuple(u for u in range(leaf.size) if u != unit)})}
                expected = kept_in(prunable_owners_of(x), {(leaf, unit)})
                assert kept_positions(x, choice) == kept_positions(y, choice) == expected


def fresh(tree: Tree) -> tuple[dict[tuple[int, int], Free], Axis]:
    variables = {key: Free(key[0]) for key in variables_of(tree)}
    return variables, build(tree, variables)


@pytest.mark.parametrize(("size", "depth", "parts"), [(4, 2, 3), (6, 1, 3), (8, 1, 2)])
def test_split_product_is_the_same_axis_as_two_factors(size: int, depth: int, parts: int) -> None:
    for tree in expressions(size, depth, parts):
        for outer in range(1, size + 2):
            variables, axis = fresh(tree)
            halves = split_product(axis, outer, WHY)
            check_agreement({tree: axis}, variables)
            if halves is None:
                assert not frozen_in(axis) - single_units(axis), "where it cannot be split, the caller freezes"
                assert size % outer or tree.kind != "variable"
                continue
            assert [half.size for half in halves] == [outer, size // outer]
            assert prunable_owners_of(product(halves)) == prunable_owners_of(axis)


@pytest.mark.parametrize(("size", "depth", "parts"), [(4, 2, 3), (6, 1, 3), (8, 1, 2)])
def test_split_concat_is_the_same_axis_as_two_parts(size: int, depth: int, parts: int) -> None:
    for tree in expressions(size, depth, parts):
        for position in range(size + 1):
            variables, axis = fresh(tree)
            cut = split_concat(axis, position, WHY)
            check_agreement({tree: axis}, variables)
            assert not frozen_in(axis) - single_units(axis)
            if cut is None:
                assert "product" in str(tree.kind) or any(child.kind == "product" for child in tree.children)
                continue
            assert [part.size for part in cut] == [position, size - position]
            assert prunable_owners_of(concat(cut)) == prunable_owners_of(axis)


def single_units(axis: Axis) -> set[Free]:
    return {leaf for leaf in leaves(axis) if leaf.size == 1}


def test_a_product_is_cut_after_whole_rows_and_only_there() -> None:
    for rows, row in itertools.product(range(2, 6), range(2, 5)):
        for position in range(1, rows * row):
            cut = split_concat(product((Free(rows), Free(row))), position, WHY)
            assert (cut is None) == bool(position % row)


def test_all_refinable_factorisations_unify_without_freezing() -> None:
    for size in (8, 12, 16, 24):
        for a, b in itertools.product(factorisations(size), repeat=2):
            x, y = product(map(Free, a)), product(map(Free, b))
            unify(x, y, WHY)
            assert prunable_owners_of(x) == prunable_owners_of(y)
            ends = [{math.prod(way[: i + 1]) for i in range(len(way))} for way in (a, b)]
            common = sorted(ends[0] | ends[1])
            refinable = all(later % earlier == 0 for earlier, later in itertools.pairwise(common))
            assert (not frozen_in(x, y)) == refinable, (a, b)
            if refinable:
                assert [leaf.size for leaf in leaves(x)] == [b // a for a, b in itertools.pairwise([1, *common])]


def test_all_concatenations_of_different_variables_unify_without_freezing() -> None:
    for a, b in itertools.product(compositions(6), repeat=2):
        # Every part twice as long: single units cannot be pruned and are frozen when they are cut off.
        x, y = (concat(Free(2 * size) for size in way) for way in (a, b))
        unify(x, y, WHY)
        assert not frozen_in(x, y)
        ends = sorted({2 * end for way in (a, b) for end in itertools.accumulate(way)})
        assert [leaf.size for leaf in leaves(x)] == [b - a for a, b in itertools.pairwise([0, *ends])]
        assert resolve(x).parts == resolve(y).parts if len(ends) > 1 else resolve(x) is resolve(y)


def test_parts_of_a_product_at_row_boundaries_unify_without_freezing() -> None:
    for rows in compositions(5)[1:]:
        heads, width = Free(10), Free(3)
        parts = [Free(2 * 3 * count) for count in rows]
        unify(product((heads, width)), concat(parts), WHY)
        assert not frozen_in(heads, width, *parts)
        assert [part.size for part in resolve(heads).parts] == [2 * count for count in rows]
        for part, owners in zip(parts, resolve(heads).parts, strict=True):
            assert resolve(part).factors == (owners, width)


def test_owners_and_images_of_all_small_expressions() -> None:
    for tree in expressions(6, 1, 3):
        variables, axis = fresh(tree)
        expected = [frozenset((variables[key], unit) for key, unit in here) for here in owners_in_tree(tree)]
        assert [frozenset(owners) for owners in owners_of_positions(axis)] == expected
        for leaf in variables.values():
            images = [[p for p, here in enumerate(expected) if (leaf, unit) in here] for unit in range(leaf.size)]
            assert unit_images(axis, leaf) == images


def test_kept_positions_of_all_choices_of_small_expressions() -> None:
    for tree in expressions(6, 1, 2):
        variables, axis = fresh(tree)
        units = [(leaf, unit) for leaf in variables.values() for unit in range(leaf.size)]
        for bits in range(2 ** len(units)):
            removed = {owner for index, owner in enumerate(units) if bits >> index & 1}
            choice = {
                leaf: Kept({(): tuple(u for u in range(leaf.size) if (leaf, u) not in removed)})
                for leaf in variables.values()
            }
            assert kept_positions(axis, choice) == kept_in(owners_of(axis), removed)


@given(scenarios())
def test_random_forests_stay_consistent(scenario: Scenario) -> None:
    variables = scenario.variables()
    forest = {tree: build(tree, variables) for tree in scenario.forest}
    axes = [forest[tree] for tree in scenario.forest]
    met: list[tuple[Axis, Axis]] = []
    frozen: set[Free] = set()
    for step in scenario.steps:
        met += take(step, axes)
        check_agreement(forest, variables)
        # Monotone: what was once unified stays so, and what was once frozen stays so.
        assert all(prunable_owners_of(a) == prunable_owners_of(b) for a, b in met)
        frozen |= frozen_in(*axes)
        assert all(leaf.reason is not None for leaf in frozen)
    before = [prunable_owners_of(axis) for axis in axes]
    for a, b in met:
        unify(b, a, WHY)
    assert [prunable_owners_of(axis) for axis in axes] == before, "what is known was unified again, and something froze"
    for key in scenario.frozen:
        assert not any(prunable_owners_of(variables[key]))


def take(step: Step, axes: list[Axis]) -> list[tuple[Axis, Axis]]:
    """Carry a step out as the rules do; returns what must be equal from now on."""
    a, b = axes[step.first], axes[step.second]
    if step.kind == "unify":
        unify(a, b, WHY)
        return [(a, b)]
    if step.kind == "split":
        halves = split_product(a, step.number, WHY)
        if halves is None:
            freeze(a, WHY)
            return []
        return [(product(halves), a)]
    parts = split_concat(a, step.number, WHY)
    if parts is None:
        freeze(a, WHY)
        return []
    return [(concat(parts), a)]
