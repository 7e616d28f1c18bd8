"""Outputs that a ReLU takes need only be right behind it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning import recovery
from torch_pruning.recovery import clamps
from torch_pruning.recovery.clamps import Rows, within_limits
from torch_pruning.recovery.moments import Moments
from torch_pruning.recovery.solve import least_squares

EXACT = {"strengths": (0.0,), "held_out": 0.0}


def case(limits: tuple[float, float], scale: Tensor) -> tuple[Moments, Rows]:
    """Two groups of a convolution, 200 rows of 4 inputs, outputs that these explain in part."""
    generator = torch.Generator().manual_seed(0)
    x, e, present = (
        torch.randn(2, 200, n, generator=generator, dtype=torch.float64) for n in (4, len(scale), len(scale))
    )
    moments = Moments()
    moments.add(x, e)
    return moments, Rows(x, e, torch.ones(x.shape[1]), present + e * scale, scale, 1 / scale, limits)


@pytest.mark.parametrize("limits", [(0.0, torch.inf), (0.0, 0.5), (-torch.inf, 0.2)])
def test_rounds_lead_down_to_the_minimum(limits: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    scale = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moments, rows = case(limits, scale)
    start = least_squares(moments, Moments(), True, (0.0,))
    losses = []
    for rounds in (0, 1, 2, 5, 2000):
        monkeypatch.setattr(clamps, "ROUNDS", rounds)
        found = within_limits(start, moments, [rows], True)
        losses.append(found.after)
    assert losses == sorted(losses, reverse=True)
    assert losses[0] <= found.before
    assert losses[-1] < 0.995 * losses[1]
    # At the minimum of a convex function the gradient is zero; here that of what the clamp lets through.
    change, shift = (tensor.clone().requires_grad_() for tensor in (found.change, found.shift))
    low, high = limits
    predicted = rows.target + (rows.x @ change.mT + shift.mT - rows.e) * scale
    lacks = torch.where(rows.target <= low, predicted.detach().clamp(max=low), rows.target)
    lacks = torch.where(rows.target >= high, predicted.detach().clamp(min=high), lacks)
    ((predicted - lacks) / scale).square().sum().backward()
    assert change.grad.abs().max() < 1e-6
    assert shift.grad.abs().max() < 1e-6


class Clamped(nn.Module):
    """A convolution of half the channels before a ReLU, as it comes, behind a batch norm, or in a sum."""

    def __init__(self, where: str, activation: nn.Module, hands_out: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 12, 3), nn.Conv2d(12, 6, 3, padding=1, bias=where != "norm")
        self.beside = nn.Conv2d(12, 6, 1) if where == "sum" else nn.Identity()
        self.norm = nn.BatchNorm2d(6) if where == "norm" else nn.Identity()
        self.last = nn.Conv2d(6, 3, 1)
        self.where, self.activation, self.hands_out = where, activation, hands_out

    def before(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        if self.where == "sum":
            return self.beside(x) + self.second(x)
        return self.norm(self.second(x))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        before = self.before(x)
        out = self.last(self.activation(before * 1 if self.hands_out else before))
        return (out, before) if self.hands_out else out


def recovered(net: Clamped, x: Tensor, **options: object) -> Clamped:
    """A copy without half of the channels of the first convolution."""
    small = copy.deepcopy(net)
    plan = tp.plan(small, x[:2], pruning_ratio=0.5, importance="random", ignore=[small.second])
    recovery.reconstruct(plan, x.split(16), **EXACT, **options)
    return small


@pytest.mark.parametrize("where", ["output", "norm", "sum"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()], ids=str)
def test_what_goes_through_is_nearer_to_the_dense_outputs(where: str, activation: nn.Module) -> None:
    torch.manual_seed(0)
    net = Clamped(where, activation).double().eval()
    if where == "norm":
        net.norm.running_var.uniform_(0.01, 0.05)
        net.norm.weight.data.uniform_(-2, 2)
    x = torch.randn(48, 2, 8, 8).double()
    dense = activation(net.before(x)).detach()
    errors = [
        (activation(recovered(net, x, clamps=taken).before(x)) - dense).square().mean().item()
        for taken in (True, False)
    ]
    assert errors[0] < 0.98 * errors[1]


def test_what_is_also_read_before_the_clamp_is_fitted_as_it_is() -> None:
    torch.manual_seed(0)
    net = Clamped("output", nn.ReLU(), hands_out=True).double().eval()
    x = torch.randn(48, 2, 8, 8).double()
    with_clamps, without = (recovered(net, x, clamps=taken) for taken in (True, False))
    torch.testing.assert_close(with_clamps.state_dict(), without.state_dict(), rtol=0, atol=0)
