"""Weights whose second moments do not fit into memory: solved block by block, towards the same closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torch_pruning as tp
from torch_pruning import recovery
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.precision import widest
from torch_pruning.recovery.wide import block_width, by_blocks


def test_blocks_are_as_wide_as_memory_allows() -> None:
    assert block_width(4096, Options()) is None
    assert block_width(16384, Options()) == 8192
    assert block_width(16384, Options(memory=0.5)) == 4096
    assert 4 * 8 * 4096**2 == 0.5 * 2**30


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_sweeps_lead_to_the_regression(shifts: bool, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch_pruning.recovery.wide.SWEEPS", 60)
    x, weights = torch.randn(groups, 300, 12).double() + 1, torch.rand(300).double() + 0.1
    e = x @ torch.randn(groups, 12, 5).double() + torch.randn(groups, 300, 5).double() + 2
    rows = [(x[:, at], e[:, at], weights[at]) for at in (slice(0, 100), slice(100, 300))]
    found = by_blocks(rows, shifts, Options(strengths=(0.0,)), 5)
    assert found is not None
    inputs = torch.cat([x, torch.ones_like(x[..., :1])], -1) if shifts else x
    root = weights.sqrt()[:, None]
    expected = torch.linalg.lstsq(inputs * root, e * root).solution
    torch.testing.assert_close(found.change, expected[:, :12].mT, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.shift, expected[:, 12:].mT if shifts else 0 * found.shift, rtol=0, atol=1e-8)
    left = ((e - inputs @ expected) * root).square().sum() / weights.sum()
    assert found.after == pytest.approx(float(left), abs=1e-8)
    assert found.after < found.before


def test_every_sweep_lowers_what_is_left_and_noise_is_not_fitted() -> None:
    x = torch.randn(1, 64, 48)
    rows = [(x, torch.randn(1, 64, 8), torch.ones(64))]
    found = by_blocks(rows, True, Options(), 16)
    assert found is not None
    assert found.strength == 1.0
    assert found.after < found.before


def test_a_wide_layer_is_solved_within_its_memory_as_well_as_in_one_piece() -> None:
    model = nn.Sequential(nn.Linear(8, 400), nn.Tanh(), nn.Linear(400, 6))
    x = torch.randn(4000, 8)
    losses = {}
    for memory in (2.0, 1e-4):  # GiB: for 200 columns together, and for 64
        pruned = copy.deepcopy(model)
        plan = tp.plan(pruned, x[:1], pruning_ratio=0.5)
        (row,) = recovery.reconstruct(plan, x.split(1000), memory=memory).solved
        losses[memory] = row.after
        assert row.after < 0.05 * row.before
    assert block_width(200, Options(memory=1e-4)) == 64
    assert losses[1e-4] < 3 * losses[2.0] + 1e-3


def test_sums_are_kept_in_the_widest_numbers_of_the_device() -> None:
    assert widest(torch.device("cpu")) == widest(torch.device("cuda")) == torch.float64
    assert widest(torch.device("mps")) == torch.float32
