"""Integers that no code reads, and that say a size which pruning changes, are listed: what are they for?"""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

import torch_pruning as tp


class Configured(nn.Module):
    """A config object of which forward reads the heads alone; a number of its own that is as large by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(heads=2, head_dim=4, width=8, classes=3)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 5)
        self.width, self.unrelated = 8, 7

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).unflatten(-1, (self.config.heads, -1))
        return self.last(h.tanh().flatten(-2))


def test_they_are_in_the_plan_and_in_the_report() -> None:
    report = tp.prune(Configured(), torch.randn(3, 6), pruning_ratio=0.5)
    assert sorted(map(str, report.plan.unread)) == ["config.head_dim", "config.width", "width"]
    assert "nothing read, and still as large as what was pruned: config.head_dim, config.width\n" in str(report)


def test_those_that_are_written_are_not_among_them() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    report = tp.prune(net, torch.randn(3, 6), pruning_ratio=0.5)
    assert report.plan.unread == ()
    assert "nothing read" not in str(report)
    assert net[0].out_features == 4
