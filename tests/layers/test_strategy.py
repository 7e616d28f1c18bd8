"""Strategies against a plain Python ranking."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from torch_pruning.errors import BudgetError
from torch_pruning.strategy import L1Strategy, L2Strategy, LNStrategy, RandomStrategy, Strategy

pytestmark = pytest.mark.ops

STRATEGIES: list[tuple[Strategy, float]] = [
    (L1Strategy(), 1),
    (L2Strategy(), 2),
    (LNStrategy(p=3), 3),
    (LNStrategy(p=0.5), 0.5),
    (LNStrategy(p=math.inf), math.inf),
]


def norm(values: list[float], p: float) -> float:
    return max(map(abs, values)) if p == math.inf else sum(abs(value) ** p for value in values) ** (1 / p)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3, 3)])
@pytest.mark.parametrize(("strategy", "p"), STRATEGIES)
def test_lowest_norms_go(strategy: Strategy, p: float, shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    norms = [norm(row.flatten().tolist(), p) for row in weights]
    ranked = sorted(range(7), key=norms.__getitem__)
    for count in range(7):
        assert strategy(weights, amount=count) == sorted(ranked[:count])


@pytest.mark.parametrize("units", [1, 5, 6, 8, 24])
def test_count_after_rounding(units: int) -> None:
    weights = torch.ones(units, 2)
    for wanted, round_to in itertools.product(range(units), [1, 2, 4, 8]):
        removed = L1Strategy()(weights, amount=wanted, round_to=round_to)
        kept = units - len(removed)
        assert removed == list(range(len(removed)))  # of equal scores the lower position goes first
        assert kept == min(units, next(k for k in itertools.count(units - wanted) if k % round_to == 0))


@pytest.mark.parametrize(
    ("units", "amount", "round_to", "count"),
    [
        (10, 0.0, 1, 0),
        (10, 0, 1, 0),
        (10, 0.3, 1, 3),
        (100, 0.29, 1, 29),
        (10, 0.99, 1, 9),
        (1, 0.5, 1, 0),
        (10, 1, 1, 1),
        (24, 0.1, 8, 0),
        (6, 0.5, 8, 0),
        (24, 0.4, 8, 8),
        (10, np.float64(0.3), 1, 3),
        (10, np.int64(3), np.int64(1), 3),
    ],
)
def test_amount_is_a_fraction_or_a_count(units: int, amount: Any, round_to: Any, count: int) -> None:
    removed = L2Strategy()(torch.rand(units, 4), amount=amount, round_to=round_to)
    assert len(removed) == count
    assert removed == sorted(set(removed))
    assert all(type(position) is int for position in removed)


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        (torch.ones(4), {"amount": 1.0}, BudgetError, "at most 3"),
        (torch.ones(4), {"amount": 4}, BudgetError, "at most 3"),
        (torch.ones(4), {"amount": 4, "round_to": 2}, BudgetError, "at most 3"),
        (torch.ones(4), {"amount": 2.0}, ValueError, "fraction"),
        (torch.ones(4), {"amount": -1}, ValueError, "fraction"),
        (torch.ones(4), {"amount": -0.5}, ValueError, "fraction"),
        (torch.ones(4), {"amount": math.nan}, ValueError, "fraction"),
        (torch.ones(4), {"amount": True}, ValueError, "fraction"),
        (torch.ones(4), {"amount": "half"}, ValueError, "fraction"),
        (torch.ones(4), {"amount": 1, "round_to": 0}, ValueError, "round_to"),
        (torch.ones(4), {"amount": 1, "round_to": 1.5}, ValueError, "round_to"),
        (torch.ones(4), {"amount": 1, "round_to": True}, ValueError, "round_to"),
        (torch.tensor(1.0), {"amount": 0.5}, ValueError, "scalar"),
        (torch.tensor([[1.0], [math.nan]]), {"amount": 1}, ValueError, r"NaN at positions \[1\]"),
    ],
)
def test_refused(weights: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        L1Strategy()(weights, **options)


def test_half_precision_does_not_overflow() -> None:
    weights = torch.tensor([[6e4, 6e4], [6e4, 5e4], [1.0, 1.0]], dtype=torch.float16)
    assert L2Strategy()(weights, amount=2) == [1, 2]


@pytest.mark.parametrize("p", [0, -1, math.nan])
def test_order_of_a_norm_is_positive(p: float) -> None:
    with pytest.raises(ValueError, match="norm"):
        LNStrategy(p)


def test_random_is_uniform_and_repeatable() -> None:
    weights = torch.ones(6, 2)
    strategy = RandomStrategy(seed=0)
    draws = [strategy(weights, amount=2) for _ in range(300)]
    times = [sum(unit in drawn for drawn in draws) for unit in range(6)]
    assert min(times) > 70  # expected 100, standard deviation 8
    again = RandomStrategy(generator=torch.Generator().manual_seed(0))
    assert [again(weights, amount=2) for _ in range(300)] == draws


def test_random_leaves_the_global_generator_alone_unless_it_is_the_source() -> None:
    before = torch.get_rng_state()
    RandomStrategy(seed=1)(torch.ones(8), amount=2)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = RandomStrategy()(torch.ones(50), amount=20)
        torch.manual_seed(3)
        assert RandomStrategy()(torch.ones(50), amount=20) == first
    with pytest.raises(ValueError, match="one source"):
        RandomStrategy(generator=torch.Generator(), seed=1)
