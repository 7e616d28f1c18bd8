"""Which rows decide: rows far larger than the others count less, and rows held out may say to leave a weight alone."""

from __future__ import annotations

import math

import pytest
import torch
from tests.recovery.test_selection import scores_of
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning import recovery
from torch_pruning.recovery.moments import MOST, Moments, row_weights
from torch_pruning.recovery.solve import least_squares


def test_rows_of_like_size_count_alike() -> None:
    assert torch.equal(row_weights(torch.randn(500, 8)), torch.ones(500))
    assert torch.equal(row_weights(torch.zeros(7, 8)), torch.ones(7))
    assert torch.equal(row_weights(torch.zeros(0, 8)), torch.zeros(0))


def test_a_row_far_larger_counts_as_much_as_ten_common_ones() -> None:
    outputs = torch.ones(100, 4)
    outputs[3] = 1e4
    weights = row_weights(outputs)
    assert float(weights[3] * outputs[3].square().sum()) == pytest.approx(MOST * 4)
    assert weights.ne(1).sum() == 1


def test_moments_of_weighted_rows_are_those_of_repeated_rows() -> None:
    x, e, times = torch.randn(1, 6, 3).double(), torch.randn(1, 6, 2).double(), torch.tensor([1, 3, 2, 1, 4, 1])
    weighted, repeated = Moments(), Moments()
    weighted.add(x, e, times)
    repeated.add(x.repeat_interleave(times, 1), e.repeat_interleave(times, 1))
    assert weighted.count == repeated.count
    for name in ("xx", "ex", "x", "e", "ee"):
        torch.testing.assert_close(getattr(weighted, name), getattr(repeated, name))
    every = e.repeat_interleave(times, 1)[0]
    assert weighted.variance() == pytest.approx(float((every - every.mean(0)).square().sum(1).mean()))


class Bent(nn.Module):
    """Units are linear in common inputs and cubic in huge ones, so that what fits one kind does not fit the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.second(hidden + hidden**3)


def test_a_few_huge_rows_do_not_decide_what_common_rows_get() -> None:
    errors = []
    x, unseen = torch.randn(400, 4).double(), torch.randn(400, 4).double()
    for huge in (1.0, 30.0):
        torch.manual_seed(0)
        net = Bent().double()
        seen = x.clone()
        seen[:16] *= huge
        dense = net(unseen).detach()
        plan = tp.plan(net, x[:2], pruning_ratio=0.25, importance="l1")
        recovery.reconstruct(plan, [seen], strengths=(1e-6, 1e-4))
        errors.append(float((net(unseen).detach() - dense).square().mean() / dense.var()))
    assert errors[1] < 3 * errors[0]


def test_rows_held_out_may_say_that_a_weight_stays() -> None:
    """Errors that have nothing to do with the inputs: every fit makes the rows held out worse."""
    fit, held_out = Moments(), Moments()
    fit.add(torch.randn(1, 30, 20).double(), torch.randn(1, 30, 5).double())
    held_out.add(torch.randn(1, 300, 20).double(), torch.randn(1, 300, 5).double())
    found = least_squares(fit, held_out, shifts=False)
    assert found is not None
    assert found.strength == math.inf
    assert not found.change.any()
    assert found.before == found.after
    assert found.held_out_before == found.held_out_after


class Stream(nn.Module):
    """Two equal branches, of which the second is added to something much larger."""

    def __init__(self) -> None:
        super().__init__()
        self.in_one, self.out_one = nn.Linear(6, 10), nn.Linear(10, 6)
        self.in_two, self.out_two = nn.Linear(6, 10), nn.Linear(10, 6)
        for one, two in ((self.in_one, self.in_two), (self.out_one, self.out_two)):
            two.load_state_dict(one.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        one = x + self.out_one(torch.relu(self.in_one(x)))
        two = 10 * x + self.out_two(torch.relu(self.in_two(x)))
        return torch.cat([one, two])


def test_losses_are_relative_to_the_sum_that_outputs_go_into() -> None:
    net = Stream().double()
    x = torch.randn(300, 6).double()
    one, two = scores_of(net, x, "in_one"), scores_of(net, x, "in_two")
    branch = net.out_one(torch.relu(net.in_one(x))).detach()
    ratio = (10 * x + branch).var(0).sum() / (x + branch).var(0).sum()
    torch.testing.assert_close(one / two, ratio.expand_as(one), rtol=1e-6, atol=0)
