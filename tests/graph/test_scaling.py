"""The work to build a graph grows as the network does. Function calls are counted, not seconds: they stay the same."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning
from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.tracer import Example

PACKAGE = str(Path(torch_pruning.__file__).parent)


class Residual(nn.Module):
    """Width 8, hidden 16, with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.norm(self.up(x))))


class Decoder(nn.Module):
    """A decoder layer with grouped queries, rotary pairs, a norm written out, and sizes from attributes and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = 4, 2, 6
        self.queries, self.keys, self.values = nn.Linear(8, 24), nn.Linear(8, 12), nn.Linear(8, 12)
        self.out, self.up, self.gate, self.down = nn.Linear(24, 8), nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)
        self.weight = nn.Parameter(torch.ones(8))

    def normed(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def turned(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.cat([-x[..., half:], x[..., :half]], -1)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.head_dim)
        y = self.normed(x)
        q, k, v = (layer(y).view(shape).transpose(1, 2) for layer in (self.queries, self.keys, self.values))
        k, v = (torch.repeat_interleave(item, self.heads // self.groups, 1) for item in (k, v))
        attended = F.scaled_dot_product_attention(q + self.turned(q), k + self.turned(k), v)
        x = x + self.out(attended.transpose(1, 2).reshape(*x.shape[:-1], -1))
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Two hidden layers, of which one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen, self.other = nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.chosen(x)


def calls_of_the_package(work: Callable[[], Any]) -> int:
    """How many Python functions of the package are called, generators counted once for every item."""
    count = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    ("block", "inputs"), [(Residual, torch.rand(2, 8)), (Decoder, torch.rand(1, 3, 8)), (Experts, torch.rand(2, 8))]
)
def test_a_block_more_costs_the_same_at_any_depth(block: type[nn.Module], inputs: Tensor) -> None:
    def calls(depth: int) -> int:
        model = nn.Sequential(nn.Linear(8, 8), *(block() for _ in range(depth)), nn.Linear(8, 3))
        return calls_of_the_package(lambda: build_graph(model, [Example(inputs)]))

    calls(1)  # what is worked out on first use
    few, some, many = (calls(depth) for depth in (6, 12, 24))
    assert (many - some) / 12 <= 1.001 * (some - few) / 6
