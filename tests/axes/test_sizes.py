"""Polynomials in sizes, size expressions, and the ratios that equations are made of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axes.recorder import source
from axes.reference import Tree, build, fixed, kept_in, owners_of, product_of, variables_of
from axes.strategies import trees
from torch_pruning.axes.expression import Fixed, Free, Reason, concat, product
from torch_pruning.axes.polynomials import Polynomial
from torch_pruning.axes.sizes import (
    AttributeSource,
    DimensionSource,
    Expression,
    Operation,
    evaluate,
    holds,
    size_polynomial,
    sources,
    to_ratio,
)
from torch_pruning.axes.unify import unify

A, B = Polynomial.symbol("a"), Polynomial.symbol("b")


def number(value: int) -> Polynomial:
    return Polynomial.constant(value)


def test_terms_cancel() -> None:
    assert A + B - A == B
    assert (A - A).terms == {}
    assert (A - A).value == 0
    assert number(3).value == 3
    assert (A + number(3)).value is None
    assert repr(A - A) == "0"


def test_products_commute() -> None:
    assert A * B == B * A
    assert hash(A * B + A) == hash(A + B * A)
    assert (A + B) * (A - B) == A * A - B * B
    assert A * B != A + B
    assert A != "a"


def test_equal_sources_of_different_traces_are_one_symbol() -> None:
    """Every trace makes its own objects; whatever their addresses, a * b - b * a is zero."""
    for names in itertools.permutations("abcdef", 2):
        first, second = (tuple(Polynomial.symbol(source(name)) for name in names) for _ in range(2))
        assert first[0] * first[1] - second[1] * first[0] == Polynomial({})
        assert first[0] * second[1] == second[0] * first[1]


def test_variables_and_attributes_mix() -> None:
    heads, width = Polynomial.symbol(Free(4, name="H")), Polynomial.symbol(source("width"))
    assert heads * width == width * heads
    assert (heads * width).symbols == (width * heads).symbols


def test_symbols_come_once_and_in_order_of_appearance() -> None:
    assert (A * A + B + A).symbols == ["a", "b"]


def test_substitution() -> None:
    assert (A * A + B).substitute("a", B + number(1)) == B * B + B * number(3) + number(1)
    assert A.substitute("b", A) == A


def test_evaluation() -> None:
    assert (A * A * number(2) + B - number(5)).evaluate({"a": 3, "b": 4}.__getitem__) == 17


def test_polynomials_print_as_they_are_written() -> None:
    assert repr(Polynomial.symbol(Free(3, name="H")) * number(2) + number(5)) == "2*H + 5"


coefficients = st.dictionaries(
    st.lists(st.sampled_from("abc"), max_size=2).map(lambda m: tuple(sorted(m))), st.integers(-3, 3), max_size=4
)
polynomials = coefficients.map(Polynomial)
values = st.fixed_dictionaries({name: st.integers(-4, 4) for name in "abc"})


@given(polynomials, polynomials, values)
def test_arithmetic_of_polynomials_is_that_of_their_values(p: Polynomial, q: Polynomial, at: dict[str, int]) -> None:
    def value(polynomial: Polynomial) -> int:
        return polynomial.evaluate(at.__getitem__)  # type: ignore[arg-type]

    assert value(p + q) == value(p) + value(q)
    assert value(p - q) == value(p) - value(q)
    assert value(p * q) == value(p) * value(q)
    assert value(p.substitute("a", q)) == p.evaluate(lambda symbol: value(q) if symbol == "a" else at[symbol])
    assert p * q == q * p
    assert (p + q) * q == p * q + q * q
    assert (p - q == Polynomial({})) == (p == q)


# ---------------------------------------------------------------- sizes of axes


def test_size_of_an_axis_as_a_polynomial() -> None:
    a, b = Free(4, name="a"), Free(5, name="b")
    polynomial = size_polynomial(concat((a, product((b, Fixed(3))), Fixed(2))))
    assert polynomial == Polynomial.symbol(a) + Polynomial.symbol(b) * number(3) + number(2)
    assert repr(polynomial) == "a + 3*b + 2"


def test_size_follows_bindings() -> None:
    width, heads, within = Free(12), Free(3), Free(4)
    unify(width, product((heads, within)), Reason(""))
    assert size_polynomial(width) == Polynomial.symbol(heads) * Polynomial.symbol(within)


@given(trees(12), st.data())
def test_polynomial_counts_the_kept_positions(tree: Tree, data: st.DataObject) -> None:
    variables = {key: Free(key[0]) for key in variables_of(tree)}
    axis = build(tree, variables)
    kept = {leaf: data.draw(st.integers(0, leaf.size)) for leaf in variables.values()}
    removed: set[tuple[object, int]] = {(leaf, u) for leaf, count in kept.items() for u in range(count, leaf.size)}
    assert size_polynomial(axis).evaluate(kept.__getitem__) == len(kept_in(owners_of(axis), removed))  # type: ignore[arg-type]


def test_fixed_sizes_are_numbers() -> None:
    axis = build(product_of(fixed(2), fixed(3)), {})
    assert size_polynomial(axis).value == 6


# ---------------------------------------------------------------- expressions

N, M = source("n"), source("m")
expressions: st.SearchStrategy[Expression] = st.recursive(
    st.sampled_from([N, M]) | st.integers(1, 6),
    lambda inner: st.builds(Operation, st.sampled_from(["+", "-", "*", "//"]), inner, inner),
    max_leaves=6,
)


def symbol_of(at: AttributeSource | DimensionSource) -> Polynomial:
    return Polynomial.symbol(at)


@given(expressions, st.integers(1, 9), st.integers(1, 9))
def test_ratio_equals_the_expression_where_every_division_is_even(expression: Expression, n: int, m: int) -> None:
    lookup = {N: n, M: m}.__getitem__
    if not even(expression, lookup):
        return
    ratio = to_ratio(expression, symbol_of)
    assert ratio is not None
    numerator, denominator = (part.evaluate(lookup) for part in ratio)  # type: ignore[arg-type]
    assert numerator == evaluate(expression, lookup) * denominator  # type: ignore[arg-type]


def even(expression: Expression, lookup: Any) -> bool:
    if not isinstance(expression, Operation):
        return True
    if not (even(expression.left, lookup) and even(expression.right, lookup)):
        return False
    right = evaluate(expression.right, lookup)
    return expression.symbol != "//" or (right != 0 and evaluate(expression.left, lookup) % right == 0)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (5, (number(5), number(1))),
        (N, (symbol_of(N), number(1))),
        (Operation("//", N, M), (symbol_of(N), symbol_of(M))),
        (Operation("+", Operation("//", N, 2), 1), (symbol_of(N) + number(2), number(2))),
        (Operation("**", N, 2), (symbol_of(N) * symbol_of(N), number(1))),
        (Operation("**", Operation("//", N, M), 0), (number(1), number(1))),
        (Operation("%", N, 2), None),
        (Operation("+", Operation("%", N, 2), 1), None),
        (Operation("**", 2, N), None),
        (Operation("**", N, M), None),
    ],
)
def test_ratios(expression: Expression, expected: Any) -> None:
    assert to_ratio(expression, symbol_of) == expected


def test_sources_in_order() -> None:
    assert sources(Operation("*", Operation("+", M, 1), Operation("-", N, M))) == [M, N, M]
    assert sources(7) == []


def test_dimensions_are_sources_too() -> None:
    width = DimensionSource(3, 1)
    assert evaluate(Operation("//", width, N), {DimensionSource(3, 1): 12, N: 4}.__getitem__) == 3  # type: ignore[arg-type]


def test_truth_of_comparisons() -> None:
    for left, right in itertools.product(range(3), repeat=2):
        assert holds("==", left, right) == (left == right)
        assert holds("!=", left, right) == (left != right)
        assert holds("<", left, right) == (left < right)
        assert holds("<=", left, right) == (left <= right)
        assert holds(">", left, right) == (left > right)
        assert holds(">=", left, right) == (left >= right)
