"""Integers with a source: plain numbers to everybody, and every use reported exactly once."""

from __future__ import annotations

import copy
import itertools
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axes.recorder import Log, source
from torch_pruning.axes.sizes import (
    AttributeSource,
    Operation,
    evaluate,
    sources,
)
from torch_pruning.axes.traced import TracedFloat, TracedInt, expression_of

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
N = source("n")
M = source("m")


@pytest.mark.parametrize("symbol", ARITHMETIC)
def test_arithmetic_keeps_the_expression_on_either_side(symbol: str) -> None:
    compute = ARITHMETIC[symbol]
    for a, b in itertools.product([1, 2, 6, 7], [1, 2, 3]):
        log = Log()
        n, m = log.traced(a, "n"), log.traced(b, "m")
        for result, left, right in (
            (compute(n, b), N, b),
            (compute(a, m), a, M),
            (compute(n, m), N, M),
            (compute(n, True), N, 1),
        ):
            assert isinstance(result, TracedInt)
            assert result.expression == Operation(symbol, left, right)
            assert int.__int__(result) == compute(a, 1 if right == 1 else b)
            values = {N: a, M: b}
            assert evaluate(result.expression, values.__getitem__) == int.__int__(result)
        assert log.value_uses == log.guards == []
        uneven = [Operation("//", N, b), Operation("//", a, M), Operation("//", N, M)]
        assert log.unevens == (uneven if symbol == "//" and a % b else [])


@pytest.mark.parametrize("symbol", COMPARISONS)
def test_comparisons_are_guards(symbol: str) -> None:
    compute = COMPARISONS[symbol]
    for a, b in itertools.product([1, 2, 3], repeat=2):
        log = Log()
        n, m = log.traced(a, "n"), log.traced(b, "m")
        outcome = compute(a, b)
        assert compute(n, b) is compute(a, m) is compute(n, m) is outcome
        assert log.guards == [
            (symbol, N, b, outcome),
            (MIRRORED[symbol], M, a, outcome),
            (symbol, N, M, outcome),
        ]
        assert log.value_uses == []


@pytest.mark.parametrize("symbol", COMPARISONS)
@pytest.mark.parametrize("number", [1.5, 2.0, 2.5, -0.5, math.inf, -math.inf, math.nan])
def test_comparisons_with_a_float_are_guards_on_integers(symbol: str, number: float) -> None:
    """The guard says for every size what the comparison says; where all sizes compare alike there is none."""
    for size in range(6):
        log = Log()
        outcome = COMPARISONS[symbol](log.traced(size), number)
        assert outcome == COMPARISONS[symbol](size, number)
        expected = [COMPARISONS[symbol](other, number) for other in range(6)]
        if log.guards:
            ((guard, left, right, logged),) = log.guards
            assert (left, logged) == (N, outcome)
            assert [COMPARISONS[guard](other, right) for other in range(6)] == expected
        else:
            assert len(set(expected)) == 1
        assert log.value_uses == []


def test_truth_is_a_guard() -> None:
    log = Log()
    assert bool(log.traced(3))
    assert not log.traced(0)
    assert log.guards == [("!=", N, 0, True), ("!=", N, 0, False)]


def test_min_and_max_are_guards_and_keep_the_source() -> None:
    log = Log()
    n, m = log.traced(3, "n"), log.traced(5, "m")
    assert expression_of(min(n, m)) == expression_of(min(4, n)) == N
    assert expression_of(max(n, m)) == expression_of(max(4, m)) == M
    assert expression_of(min(m, 4)) == 4
    assert len(log.guards) == 5
    assert {frozenset((left, right)) for _, left, right, _ in log.guards} == {
        frozenset((N, M)), frozenset((N, 4)), frozenset((M, 4))
    }  # fmt: skip


def test_sums_and_products_of_several_keep_the_source() -> None:
    log = Log()
    n, m = log.traced(3, "n"), log.traced(5, "m")
    for result, value in ((sum([n, m, 2]), 10), (math.prod([n, m, 2]), 30)):
        assert result == value
        assert sources(expression_of(result)) == [N, M]
    assert log.value_uses == []


def test_unary_operators_keep_the_source() -> None:
    log = Log()
    n = log.traced(3)
    for result in (+n, round(n), round(n, 2), math.floor(n), math.ceil(n), math.trunc(n)):
        assert result is n
    assert expression_of(-n) == Operation("-", 0, N)
    assert -n == -3
    with log.nothing_new():
        assert type(round(log.traced(15), -1)) is int
        assert int.__int__(round(log.traced(16), -1)) == 20
    assert expression_of(abs(n)) == N
    assert expression_of(abs(-n)) == Operation("-", 0, Operation("-", 0, N))
    assert abs(-n) == 3


def test_ceiling_division_by_negation() -> None:
    log = Log()
    n = log.traced(6)
    assert evaluate(expression_of(-(-n // 2)), {N: 8}.__getitem__) == 4
    assert log.unevens == []
    assert -(-log.traced(7) // 2) == 4
    assert len(log.unevens) == 1


def test_shifts_are_products_and_quotients() -> None:
    log = Log()
    n = log.traced(8)
    assert expression_of(n << 2) == Operation("*", N, 4)
    assert expression_of(n >> 1) == Operation("//", N, 2)
    assert (n << 2, n >> 1) == (32, 4)
    assert log.traced(7) >> 1 == 3
    assert log.unevens == [Operation("//", N, 2)]
    with pytest.raises(ValueError, match="negative shift"):
        n >> -1
    assert (n & 12, n | 1, n ^ 8, 1 << log.traced(3)) == (8, 9, 0, 8)


def test_divmod_on_either_side() -> None:
    log = Log()
    n = log.traced(7)
    assert list(map(expression_of, divmod(n, 2))) == [Operation("//", N, 2), Operation("%", N, 2)]
    assert list(map(expression_of, divmod(15, n))) == [Operation("//", 15, N), Operation("%", 15, N)]
    assert log.unevens == [Operation("//", N, 2), Operation("//", 15, N)]
    assert log.value_uses == []
    assert divmod(n, 2.0) == (3.0, 1.0)
    assert log.value_uses == [N]
    with pytest.raises(TypeError):
        divmod(n, "2")


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (float, 4.0),
        (math.sqrt, 2.0),
        (lambda n: math.pow(n, 2), 16.0),
        (lambda n: n / 2, 2.0),
        (lambda n: 2 / n, 0.5),
        (lambda n: n / 2.0, 2.0),
        (lambda n: n * 0.5, 2.0),
        (lambda n: n + 0.5, 4.5),
        (lambda n: n - 0.5, 3.5),
        (lambda n: n // 1.5, 2.0),
        (lambda n: n % 1.5, 1.0),
        (lambda n: n**0.5, 2.0),
        (lambda n: n**-1, 0.25),
        (lambda n: 2**-n, 0.0625),
        (lambda n: n * 1j, 4j),
        (lambda n: numpy.sqrt(n), 2.0),
        (lambda n: numpy.multiply(2.0, n), 8.0),
        (lambda n: numpy.float64(2.0) * n, 8.0),
    ],
)
def test_a_use_as_a_number_is_logged_once(use: Callable[[TracedInt], Any], expected: Any) -> None:
    log = Log()
    n = log.traced(4)
    result = use(n)
    assert not isinstance(result, TracedInt)
    assert result == expected
    assert [sources(expression) for expression in log.value_uses] == [[N]]
    assert log.guards == log.unevens == []


@pytest.mark.parametrize(
    "use", [operator.truediv, lambda n, m: n**-m, lambda n, m: (n / 2) * m, lambda n, m: (n / 2) / m, numpy.hypot]
)
def test_both_sizes_of_a_number_are_logged(use: Callable[[TracedInt, TracedInt], Any]) -> None:
    log = Log()
    result = use(log.traced(4, "n"), log.traced(2, "m"))
    assert not isinstance(result, TracedInt | TracedFloat), "of two sizes a number has no form k * size ** exponent"
    assert [sources(expression) for expression in log.value_uses] == [[N], [M]]


@pytest.mark.parametrize(
    ("use", "exponent"),
    [
        (lambda n: n / 3, 1.0),
        (lambda n: 3 / n, -1.0),
        (lambda n: n**-1, -1.0),
        (lambda n: n**-0.5, -0.5),
        (lambda n: n * 0.5, 1.0),
        (lambda n: 2 * n**-0.5, -0.5),
        (lambda n: n**-0.5 * 2, -0.5),
        (lambda n: 2 / n**0.5, -0.5),
        (lambda n: n**0.5 / 2, 0.5),
        (lambda n: -(n**0.5), 0.5),
    ],
)
def test_a_number_remembers_how_it_depends_on_its_size(use: Callable[[Any], Any], exponent: float) -> None:
    log = Log()
    result = use(log.traced(4))
    assert isinstance(result, TracedFloat)
    assert (result.event, result.exponent) == (0, exponent)
    assert result == use(4)
    assert float(use(9)) / float(use(4)) == pytest.approx((9 / 4) ** exponent)
    for same in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result)), result + 0):
        assert type(same) is float
        assert same == result


WHOLE: list[Callable[[Any], Any]] = [
    lambda n: n / 0.5,
    lambda n: n * 0.5,
    lambda n: n * 2.5,
    lambda n: n / 3,
    lambda n: n / 3.0,
    lambda n: n / 0.5**2,
    lambda n: n * 0.5 / 3,
    lambda n: n / 4 * 3,
    lambda n: n * 0.75 / 0.5,
    lambda n: n / 2 / 1.5,
]


@pytest.mark.parametrize("use", WHOLE)
def test_a_quotient_that_is_whole_keeps_its_source_and_says_what_it_is_for_any_size(use: Callable[[Any], Any]) -> None:
    log = Log()
    for result in (use(log.traced(12)).whole(), math.floor(use(log.traced(12)))):
        assert isinstance(result, TracedInt)
        assert result == int(use(12))
        for size in range(1, 500):
            assert evaluate(result.expression, lambda _, size=size: size) == int(use(size)), size
    assert log.unevens == log.rounds == []


@pytest.mark.parametrize(
    "use",
    [
        lambda n: n / 3 * 3,  # 49 / 49 * 49 is less than 49 in other cases like this
        lambda n: n * 0.1,
        lambda n: n / 0.7,
        lambda n: n / -2,
        lambda n: n**0.5,
        lambda n: 24 / n,
        lambda n: n / 2.0**-30,
        lambda n: n / 2 / float("inf"),
        lambda n: -(n / 2),
        lambda n: (0 - n) / 2,
    ],
)
def test_what_may_round_is_rounded(use: Callable[[Any], Any]) -> None:
    log = Log()
    result = use(log.traced(12)).whole()
    assert type(result) is int
    assert result == int(use(12))
    assert log.rounds == [0]


def test_a_quotient_with_a_remainder_is_uneven() -> None:
    log = Log()
    assert (log.traced(7) / 2).whole() == 3
    assert len(log.unevens) == 1


def test_errors_are_those_of_plain_integers_and_log_nothing() -> None:
    log = Log()
    n = log.traced(4)
    with log.nothing_new():
        for use in (lambda: n // 0, lambda: n % 0, lambda: n / 0, lambda: log.traced(0) ** -1):
            with pytest.raises(ZeroDivisionError):
                use()
        for use in (lambda: n + "a", lambda: [] - n, lambda: n / "a", lambda: n < "a", lambda: divmod("a", n)):
            with pytest.raises(TypeError):
                use()


def test_power_with_a_modulus() -> None:
    log = Log()
    assert pow(log.traced(3), 4, 5) == pow(3, 4, 5)


def test_places_where_only_the_number_counts() -> None:
    log = Log()
    n = log.traced(3)
    with log.nothing_new():
        assert list(range(n)) == [0, 1, 2]
        assert list("abcde")[:n] == ["a", "b", "c"]
        assert "abcde"[n] == "d"
        assert [0] * n == [0, 0, 0]
        assert n * [0] == [0, 0, 0]
        assert f"{n} {n:>3} {n:.1f} {n!r} {n!s}" == "3   3 3.0 3 3"
        assert str(n) == "3"
        assert hash(n) == hash(3)
        assert operator.index(n) == 3
        assert n.bit_length() == 2
        assert (n is None) is False
    assert {n: "a"}[3] == "a"
    assert log.guards == [("==", N, 3, True)]


def test_slices_carry_the_source() -> None:
    n = Log().traced(3)
    assert slice(None, n).stop is n
    assert (1, n)[1] is n


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n)), lambda n: copy.deepcopy([n])[0]]
)
def test_copies_are_plain(duplicate: Callable[[TracedInt], int]) -> None:
    log = Log()
    n = log.traced(3)
    with log.nothing_new():
        assert type(duplicate(n)) is int
        assert duplicate(n).__index__() == 3


def test_comparison_with_other_things() -> None:
    log = Log()
    n = log.traced(3)
    with log.nothing_new():
        assert n != "3"
        assert (n == None) is False  # noqa: E711
        assert n not in ("a", None)


def test_sources_name_where_an_integer_was_found() -> None:
    assert str(AttributeSource("encoder.0", (("attribute", "heads"),))) == "encoder.0.heads"
    assert str(AttributeSource("", (("attribute", "config"), ("item", "width"), ("item", 0)))) == "config['width'][0]"


@given(st.recursive(st.sampled_from("nm") | st.integers(1, 5), lambda x: st.tuples(st.sampled_from("+-*"), x, x)))
def test_expressions_evaluate_as_the_code_did(code: Any) -> None:
    """Random programs, run once with traced integers; their expression predicts every other run."""

    def run(term: Any, values: dict[str, int]) -> Any:
        if isinstance(term, tuple):
            symbol, left, right = term
            return ARITHMETIC[symbol](run(left, values), run(right, values))
        return values[term] if isinstance(term, str) else term

    log = Log()
    result = run(code, {"n": log.traced(2, "n"), "m": log.traced(3, "m")})
    for n, m in itertools.product([2, 7], [3, 11]):
        assert evaluate(expression_of(result), {N: n, M: m}.__getitem__) == run(code, {"n": n, "m": m})
