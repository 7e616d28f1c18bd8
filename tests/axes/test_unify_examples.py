"""Unification by example: the exact expressions that real models lead to, and the laws at the edges."""

from __future__ import annotations

import pytest

from torch_pruning.axes.expression import (
    Axis,
    Concat,
    Fixed,
    Free,
    Product,
    Reason,
    concat,
    freeze,
    leaves,
    product,
    resolve,
)
from torch_pruning.axes.unify import MAX_PARTS, split_concat, split_product, unify

WHY = Reason("they do not match")


def temporary(size: int) -> Free:
    return Free(size, temporary=True)


def is_free(axis: Axis) -> bool:
    return all(leaf.reason is None for leaf in leaves(axis))


def cut(axis: Axis, *sizes: int) -> list[Axis]:
    """The axis cut into parts of these sizes."""
    parts = []
    for size in sizes[:-1]:
        halves = split_concat(axis, size, WHY)
        assert halves is not None
        parts.append(halves[0])
        axis = halves[1]
    assert axis.size == sizes[-1]
    return [*parts, axis]


# ---------------------------------------------------------------- models


def test_attention_with_one_weight_for_three_projections() -> None:
    """torchvision ViT: in_proj_weight dim 0 is (3! * H:12 * D:64)."""
    joint, width = Free(2304, name="joint"), Free(768, name="width")
    halves = split_product(width, 12, WHY)
    assert halves is not None
    heads, within = halves
    unify(joint, product((Fixed(3), heads, within)), WHY)
    assert resolve(joint).factors[1:] == (heads, within) == resolve(width).factors
    assert repr(joint) == "(3! * width:12 * width:64)"


def test_attention_that_views_three_parts_of_one_weight() -> None:
    """GPT-2: c_attn.weight dim 1 is [(H * Dqk) + (H * Dqk) + (H * Dv)]."""
    joint = Free(2304)
    views = []
    for part in cut(joint, 768, 768, 768):
        view = temporary(12), temporary(64)
        unify(product(view), part, WHY)
        views.append(view)
    q, k, v = views
    unify(q[1], k[1], WHY)  # scores
    unify(q[0], k[0], WHY)
    unify(k[0], v[0], WHY)
    first, second, third = resolve(joint).parts
    heads, within = first.factors
    assert second.factors == (heads, within)
    assert third.factors == (heads, resolve(v[1]))
    assert third.factors[1] is not within
    assert is_free(joint)
    assert not any(leaf.temporary for leaf in leaves(joint))


def test_grouped_query_attention_with_rotary_pairs() -> None:
    """Llama, 8 key-value heads: q_proj.weight dim 0 is (KV:8 * R:4 * [P:64 + P:64]), k_proj (KV:8 * [P:64 + P:64])."""
    query, key, value, output = Free(4096), Free(1024), Free(1024), Free(4096)
    q, k, v = (temporary(32), temporary(128)), (temporary(8), temporary(128)), (temporary(8), temporary(128))
    for view, weight in ((q, query), (k, key), (v, value)):
        unify(product(view), weight, WHY)
    for view in (q, k):
        first, second = cut(view[1], 64, 64)
        unify(concat((second, first)), view[1], WHY)  # rotate_half(x) * sin + x * cos
    repeats = temporary(4)
    unify(product((k[0], repeats)), q[0], WHY)
    unify(q[1], k[1], WHY)
    unify(product((v[0], repeats)), q[0], WHY)
    unify(output, product((q[0], v[1])), WHY)
    groups, copies, pair = resolve(query).factors
    assert [axis.size for axis in (groups, copies, pair)] == [8, 4, 128]
    assert [part.size for part in pair.parts] == [64, 64]
    assert pair.parts[0] is pair.parts[1]
    assert resolve(key).factors[0] is groups
    assert resolve(key).factors[1].parts == pair.parts
    assert resolve(value).factors == (groups, resolve(v[1]))
    assert resolve(output).factors == (groups, copies, resolve(v[1]))
    assert all(is_free(axis) for axis in (query, key, value, output))


def test_grouped_convolution() -> None:
    """ResNeXt: out (G * Og), in (G * Ig), weight dim 1 Ig."""
    out, inputs, per_group = Free(256), Free(128), Free(4)
    outer, inner = split_product(out, 32, WHY) or ()
    groups, within = split_product(inputs, 32, WHY) or ()
    unify(outer, groups, WHY)
    unify(within, per_group, WHY)
    assert resolve(out).factors == (resolve(groups), inner)
    assert resolve(inputs).factors == (resolve(groups), resolve(per_group))
    assert is_free(out)
    assert is_free(inputs)


def test_flattened_feature_map() -> None:
    """VGG: classifier.0.weight dim 1 is (C:512 * 49!)."""
    classifier, channels = Free(25088, name="classifier"), Free(512, name="C")
    flat = temporary(25088)
    unify(flat, product((channels, Fixed(7), Fixed(7))), WHY)
    unify(classifier, flat, WHY)
    assert repr(classifier) == "(C:512 * 49!)"


def test_split_of_a_concatenation_shares_the_inner_factor() -> None:
    """[A:4 + B:6] with inner 2 is ([A':2 + B':3] * i:2)."""
    a, b = Free(4), Free(6)
    outer, inner = split_product(concat((a, b)), 5, WHY) or ()
    assert [part.size for part in outer.parts] == [2, 3]
    assert resolve(a).factors == (outer.parts[0], inner)
    assert resolve(b).factors == (outer.parts[1], inner)
    assert is_free(a)


def test_cut_of_a_product_cuts_its_first_factor() -> None:
    """(A:4 * B:3) at 6 is ((A':2 * B), (A'':2 * B))."""
    a, b = Free(4), Free(3)
    left, right = split_concat(product((a, b)), 6, WHY) or ()
    assert resolve(a).parts == (left.factors[0], right.factors[0])
    assert left.factors[1] is right.factors[1] is b


def test_a_product_is_cut_at_rows_and_matched_inside_them() -> None:
    """(A:2 * B:5) ~ [p:2 + q:3 + r:2 + s:3]: the parts are those of B, twice."""
    a, b = Free(2), Free(5)
    p, q, r, s = parts = [Free(size) for size in (2, 3, 2, 3)]
    unify(product((a, b)), concat(parts), WHY)
    assert resolve(p) is resolve(r)
    assert resolve(q) is resolve(s)
    assert resolve(b).parts == (resolve(p), resolve(q))
    assert is_free(b)
    assert not is_free(a)  # its units are told apart one by one


def test_a_boundary_inside_a_row_freezes_what_meets_there_and_no_more() -> None:
    a, b, rows, width, c, d = Free(6), Free(8), Free(2), Free(3), Free(2), Free(4)
    unify(concat((a, product((rows, width)), b)), concat((Free(6), c, d, Free(8))), WHY)
    assert [axis.reason for axis in (rows, width, c, d)] == [WHY] * 4
    assert is_free(a)
    assert is_free(b)


def test_what_reaches_beyond_a_frozen_product_freezes_what_it_meets() -> None:
    """[(R:2 * W:3) + e:2 + f:5] ~ [c:4 + d:4 + g:5]: c and d meet the product inside its rows, d meets e as well."""
    rows, width, c, d, e, f, g = (Free(size) for size in (2, 3, 4, 4, 2, 5, 5))
    unify(concat((product((rows, width)), e, f)), concat((c, d, g)), WHY)
    assert [axis.reason for axis in (rows, width, c, d, e)] == [WHY] * 5
    assert resolve(g) is f
    assert is_free(f)


def test_fixed_parts_that_were_merged_come_apart_at_rows() -> None:
    """(2! * [1! + A:5 + 1!]) is [1! + A + 2! + A + 1!]: padding on both sides of every row."""
    a, b, c = Free(5), Free(5), Free(5)
    rows = product((Fixed(2), concat((Fixed(1), a, Fixed(1)))))
    unify(rows, concat((Fixed(1), b, Fixed(2), c, Fixed(1))), WHY)
    assert resolve(b) is resolve(c) is a
    assert is_free(a)


def test_split_of_a_product_takes_whole_factors_and_divides_one() -> None:
    a, b, c = Free(2), Free(3), Free(4)
    axis = product((a, b, c))
    outer, inner = split_product(axis, 6, WHY) or ()
    assert outer.factors == (a, b)
    assert inner is c
    outer, inner = split_product(axis, 12, WHY) or ()
    assert outer.factors[:2] == (a, b)
    assert resolve(c).factors == (outer.factors[2], inner)
    assert split_product(axis, 4, WHY) is None
    assert is_free(axis)


# ---------------------------------------------------------------- who stays


def test_inference_variables_give_way_to_those_of_tensors() -> None:
    inferred, owned = temporary(4), Free(4, name="weight")
    unify(owned, inferred, WHY)
    assert resolve(inferred) is owned
    younger = Free(4)
    unify(younger, inferred, WHY)
    assert resolve(younger) is owned


def test_what_a_tensor_owns_is_no_longer_temporary() -> None:
    heads, within = temporary(2), temporary(3)
    unify(Free(6), product((heads, within)), WHY)
    unify(heads, Fixed(2), WHY)
    assert resolve(heads) is heads
    assert heads.reason is WHY


def test_names_pass_to_what_stays() -> None:
    old, young = Free(4), Free(4, name="conv")
    unify(old, young, WHY)
    assert resolve(young) is old
    assert old.name == "conv"


def test_split_names_its_outer_side_as_candidate_for_lanes() -> None:
    axis = Free(24)
    outer, inner = split_product(axis, 6, WHY) or ()
    assert inner.outers == (outer,)
    assert outer.outers == ()
    first, second = split_product(inner, 2, WHY) or ()
    assert first.outers == (outer,)
    assert second.outers == (outer, first)
    assert [part.outers for part in cut(second, 1, 1)] == [(outer, first)] * 2


def test_candidates_for_lanes_are_joined() -> None:
    (first, a), (second, b) = (split_product(Free(24), 6, WHY) or () for _ in range(2))
    unify(a, b, WHY)
    assert resolve(b) is a
    assert a.outers == (first, second)


def test_a_view_names_its_outer_dimension_as_candidate_for_lanes() -> None:
    """Bound to a product of younger variables a width was split; of older ones, it is what they were joined into."""
    width, heads, within = Free(8), temporary(2), temporary(4)
    unify(product((heads, within)), width, WHY)
    assert within.outers == (heads,)
    channels, pixels, flat = Free(2), Free(4), temporary(8)
    unify(flat, product((channels, pixels)), WHY)
    assert pixels.outers == ()


# ---------------------------------------------------------------- freezing


def test_temporary_variables_vanish_into_fixed() -> None:
    tokens, width = temporary(3), temporary(4)
    view = product((tokens, width))
    unify(view, Fixed(12), WHY)
    assert isinstance(resolve(tokens), Fixed)
    assert repr(resolve(view)) == "12!"
    assert leaves(view) == ()


def test_a_frozen_temporary_variable_keeps_its_identity_and_reason() -> None:
    lane, reason = temporary(3), Reason("rolled", "model.py:7")
    freeze(lane, reason)
    unify(lane, Fixed(3), WHY)
    assert resolve(lane) is lane
    assert lane.reason is reason


def test_freezing_keeps_identities_and_the_first_reason() -> None:
    a, b = Free(2), Free(3)
    first = Reason("literal", "model.py:3")
    freeze(a, first)
    freeze(product((a, b)), WHY)
    assert (a.reason, b.reason) == (first, WHY)
    assert resolve(a) is a
    assert repr(product((a, b))).count("!") == 2
    assert str(first) == repr(first) == "literal at model.py:3"
    assert str(WHY) == "they do not match"


@pytest.mark.parametrize("swap", [False, True])
def test_reasons_spread_to_everything_that_is_unified(swap: bool) -> None:
    reason = Reason("literal")
    frozen, a, b, c = Free(6), Free(2), Free(3), Free(6)
    frozen.reason = reason
    pairs = [(frozen, product((a, b))), (concat((c, Free(2))), concat((frozen, Free(2))))]
    for x, y in pairs:
        unify(*(y, x) if swap else (x, y), WHY)
    assert {leaf.reason for leaf in (*leaves(a), *leaves(b), *leaves(c))} == {reason}
    assert resolve(a) is a


def test_both_of_two_variables_are_frozen_whichever_stays() -> None:
    for order in (1, -1):
        reason = Reason("literal")
        pair = [Free(4), Free(4)]
        pair[0].reason = reason
        unify(*pair[::order], WHY)
        assert [axis.reason for axis in pair] == [reason, reason]


def test_pieces_of_a_frozen_axis_are_frozen() -> None:
    for pieces in (split_product, split_concat):
        axis = Free(6)
        axis.reason = Reason("literal")
        assert {leaf.reason for piece in pieces(axis, 2, WHY) or () for leaf in leaves(piece)} == {axis.reason}


def test_products_that_do_not_refine_each_other_freeze_from_there_on() -> None:
    first, a, b, c, d = Free(5), Free(4), Free(6), Free(6), Free(4)
    other = Free(5)
    unify(product((first, a, b)), product((other, c, d)), WHY)
    assert resolve(other) is first
    assert first.reason is None
    assert [axis.reason for axis in (a, b, c, d)] == [WHY] * 4


def test_unlike_sizes_are_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="sizes 4 and 6"):
        unify(Free(4), product((Free(2), Free(3))), WHY)


# ---------------------------------------------------------------- single units


def test_a_single_unit_that_is_cut_off_cannot_be_removed() -> None:
    axis = Free(4, name="C")
    one, rest = cut(axis, 1, 3)
    assert isinstance(one, Free)
    assert "single unit" in str(one.reason)
    assert is_free(rest)
    assert repr(axis) == "[C:1! + C:3]"


def test_a_single_unit_is_no_factor() -> None:
    rows, width = Free(3), Free(4)
    one, rest = cut(product((rows, width)), 4, 8)
    assert one is width
    unify(one, width, WHY)
    assert is_free(width)
    assert rest.factors[1] is width


def test_a_single_unit_of_a_temporary_variable_is_fixed() -> None:
    one, rest = cut(temporary(3), 1, 2)
    assert isinstance(one, Fixed)
    assert isinstance(rest, Free)


def test_an_axis_is_never_bound_to_itself() -> None:
    """Surgery shrinks axes to single units; only beside those can an axis stand in an expression of its own size."""
    axis, single = Free(4), Free(3)
    around = product((single, axis))
    single.shrink(1)
    unify(axis, around, WHY)
    assert resolve(axis) is axis
    assert axis.reason is WHY
    assert single.reason is WHY


def test_a_single_unit_left_over_by_a_product_is_frozen() -> None:
    a, b, c, d, single = Free(2), Free(3), Free(2), Free(3), Free(5)
    longer = product((a, b, single))
    single.shrink(1)
    unify(longer, product((c, d)), WHY)
    assert (resolve(c), resolve(d)) == (a, b)
    assert single.reason is WHY
    assert is_free(concat((a, b)))


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("downward", [True, False])
def test_long_chains_of_variables_resolve(downward: bool) -> None:
    """A network of thousands of layers that hands one axis on, unified from either end."""
    chain = [Free(4) for _ in range(5000)]
    order = range(len(chain) - 1)
    for index in reversed(order) if downward else order:
        unify(chain[index + 1], chain[index], WHY)
    assert resolve(chain[-1]) is chain[0]
    assert {resolve(axis) for axis in chain} == {chain[0]}


@pytest.mark.parametrize(("a", "b", "unit"), [(96, 64, 32), (64, 96, 32), (10, 4, 2), (60, 4, 4)])
def test_shifted_concatenations_become_repetitions_of_one_part(a: int, b: int, unit: int) -> None:
    first, second = Free(a), Free(b)
    unify(concat((first, second)), concat((second, first)), WHY)
    assert is_free(first)
    parts = (*leaves(first), *leaves(second))
    assert len(set(parts)) == 1
    assert parts[0].size == unit
    assert len(parts) == (a + b) // unit


@pytest.mark.parametrize(("a", "b"), [(1000, 999), (75025, 46368), (12345, 2), (2, 12345)])
def test_shifted_concatenations_that_would_be_ground_to_dust_are_frozen(a: int, b: int) -> None:
    first, second = Free(a), Free(b)
    unify(concat((first, second)), concat((second, first)), WHY)
    assert all(leaf.reason is not None for leaf in (*leaves(first), *leaves(second)))
    assert len(leaves(first)) + len(leaves(second)) <= 2 * MAX_PARTS


def test_equal_parts_at_equal_positions_are_not_taken_for_shifted_ones() -> None:
    shared, a, b, c = Free(999), Free(1001), Free(500), Free(501)
    unify(concat((shared, a, shared)), concat((shared, b, c, shared)), WHY)
    assert is_free(concat((shared, a)))
    assert resolve(a).parts == (b, c)


def test_an_axis_is_cut_into_so_many_parts_and_no_more() -> None:
    axis = Free(2 * MAX_PARTS)
    parts = cut(axis, *[2] * MAX_PARTS)
    assert len(resolve(axis).parts) == MAX_PARTS == len(set(parts))
    longer = Free(2 * MAX_PARTS + 2)
    *_, rest = cut(longer, *[2] * (MAX_PARTS - 1), 4)
    assert split_concat(rest, 2, WHY) is None


@pytest.mark.parametrize("factors", [(12,), (6, 2)])
def test_binding_is_no_way_around_the_limit(factors: tuple[int, ...]) -> None:
    older = product(map(Free, factors))
    axis = Free(2 * (MAX_PARTS - 1) + 12)
    *_, rest = cut(axis, *[2] * (MAX_PARTS - 1), 12)
    unify(rest, older, WHY)
    assert resolve(rest) is older
    assert split_concat(older, 6, WHY) is None


def test_a_variable_is_bound_to_many_parts_without_being_cut() -> None:
    """The concatenations of a dense block have no limit."""
    parts = [Free(3) for _ in range(3 * MAX_PARTS)]
    consumer, other = Free(9 * MAX_PARTS), [Free(3) for _ in parts]
    unify(consumer, concat(parts), WHY)
    unify(concat(other), consumer, WHY)
    assert resolve(consumer).parts == tuple(parts) == tuple(map(resolve, other))
    assert is_free(consumer)
    beside = Free(9 * MAX_PARTS)
    unify(concat((Free(4), *parts, Free(4))), concat((Free(4), beside, Free(4))), WHY)
    assert resolve(beside).parts == tuple(parts)


# ---------------------------------------------------------------- normal form


def test_normal_form_of_products() -> None:
    a, b = Free(2), Free(3)
    assert product(()).size == 1
    assert product((a,)) is a
    assert product((Fixed(1), a, Fixed(1))) is a
    assert repr(product((Fixed(2), Fixed(3), Fixed(1)))) == "6!"
    nested = product((product((a, Fixed(2))), product((Fixed(3), b))))
    assert isinstance(nested, Product)
    assert [axis.size for axis in nested.factors] == [2, 6, 3]
    assert nested.size == 36


def test_normal_form_of_concatenations() -> None:
    a, b = Free(2), Free(3)
    assert concat(()).size == 0
    assert concat((a,)) is a
    assert concat((Fixed(0), a, Fixed(0))) is a
    assert repr(concat((Fixed(2), Fixed(3), Fixed(0)))) == "5!"
    nested = concat((concat((a, Fixed(2))), concat((Fixed(3), b))))
    assert isinstance(nested, Concat)
    assert [axis.size for axis in nested.parts] == [2, 5, 3]
    assert nested.size == 10


def test_resolve_returns_the_same_object_until_something_is_bound() -> None:
    a, b = Free(2), Free(3)
    axis = concat((product((a, b)), a))
    assert resolve(axis) is axis
    c = temporary(2)
    outer = product((c, axis))
    unify(c, a, WHY)
    assert resolve(outer) is not outer
    assert resolve(outer).factors[0] is a
    assert leaves(outer) == (a, a, b, a)
    assert repr(c) == repr(a)


def test_sizes_follow_surgery() -> None:
    heads, within = Free(4), Free(8)
    axis = concat((product((heads, within)), Fixed(3)))
    heads.shrink(3)
    assert axis.size == 27
