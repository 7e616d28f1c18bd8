"""Counts against numbers worked out by hand."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from torch_pruning.counting import count_params, count_prunable_channels, count_prunable_params

pytestmark = pytest.mark.ops


def tied() -> nn.Module:
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    return nn.Sequential(embedding, head)


def tied_linears() -> nn.Module:
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def shared() -> nn.Module:
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.ReLU(), linear)


@pytest.mark.parametrize(
    ("module", "params", "channels", "prunable_params"),
    [
        (nn.Conv2d(3, 8, 3), 8 * 28, 8, 8 * 28),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), 72, 8, 72),
        (nn.ConvTranspose2d(3, 8, 2), 3 * 8 * 4 + 8, 8, 3 * 8 * 4 + 8),
        (nn.Linear(4, 6), 30, 6, 30),
        (nn.BatchNorm2d(8), 16, 0, 16),
        (nn.BatchNorm2d(8, affine=False), 0, 0, 0),
        (nn.PReLU(8), 8, 0, 8),
        (nn.PReLU(), 1, 0, 0),
        (nn.LayerNorm(8), 16, 0, 0),
        (nn.ReLU(), 0, 0, 0),
        (nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 5))), 12 + 8 + 25, 9, 45),
        (nn.Linear(4, 6).requires_grad_(False), 30, 6, 30),
        (tied(), 40, 10, 40),
        (shared(), 20, 4, 20),
        (tied_linears(), 20, 8, 20),
        (parametrizations.weight_norm(nn.Linear(4, 6)), 6 + 24 + 6, 6, 36),
    ],
)
def test_counts(module: nn.Module, params: int, channels: int, prunable_params: int) -> None:
    assert count_params(module) == params
    assert count_prunable_channels(module) == channels
    assert count_prunable_params(module) == prunable_params
