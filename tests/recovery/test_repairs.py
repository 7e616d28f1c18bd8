"""Numbers that sizes enter (a mean over what is pruned, the default scale of attention) are made right by factors in
weights; recovery must leave these factors in."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning as tp


class DefaultScale(nn.Module):
    """Attention that divides scores by the root of the head dim behind the code's back, on top of a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 24), nn.Linear(24, 8)
        self.q, self.k, self.v, self.o = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(torch.tanh(self.up(x)))
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MeanOfChannels(nn.Module):
    """The mean over the channels of a hidden layer that itself has pruned inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(torch.tanh(self.first(x)))).mean(-1)


class MeanOfSum(nn.Module):
    """The same of a sum of two terms, of which the later is judged by the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Linear(8, 24), nn.Linear(24, 16), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        return F.relu(self.left(x) + self.right(x * x)).mean(-1)


def silence(model: nn.Module, plan: tp.Plan) -> None:
    """What the plan removes contributes nothing any more: pruning then loses nothing."""
    for name, dims in plan.removed.items():
        for dim, gone in dims.items():
            model.get_parameter(name).data.index_fill_(dim, gone, 0)


@pytest.mark.parametrize("make", [DefaultScale, MeanOfChannels, MeanOfSum])
@pytest.mark.parametrize("method", ["least_squares", "mean"])
def test_factors_stay_where_repairs_put_them(make: Callable[[], nn.Module], method: str) -> None:
    model = make().double().eval()
    x = torch.randn(64, 6, 8).double()
    silence(model, tp.plan(model, x[:2], pruning_ratio=0.5))
    dense = model(x)
    plan = tp.plan(model, x[:2], pruning_ratio=0.5)
    assert plan.scales
    report = tp.recovery.execute(plan, [x], method=method)
    assert {name for name, *_ in plan.scales} & {row.weight for row in report.solved}, "nothing scaled was solved for"
    torch.testing.assert_close(model(x), dense, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [DefaultScale, MeanOfChannels, MeanOfSum])
def test_least_squares_beats_pruning_alone_behind_a_repair(make: Callable[[], nn.Module]) -> None:
    model = make().double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    x = torch.randn(200, 6, 8).double()
    dense = model(x).detach()
    errors = {}
    for method in ("none", "least_squares"):
        pruned = copy.deepcopy(model)
        tp.recovery.execute(tp.plan(pruned, x[:2], pruning_ratio=0.25), [x], method=method)
        errors[method] = float((pruned(x).detach() - dense).square().mean())
    assert errors["least_squares"] < 0.7 * errors["none"]
