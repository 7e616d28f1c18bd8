"""Parameters and MACs against counting by torch itself, before and after pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import random_choice
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.ops


class Functional(nn.Module):
    """Grouped and transposed convolution, matmul of activations, einsum: costs that no layer names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 2, 3, 3))
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.mix = nn.Parameter(torch.randn(6, 4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(F.conv2d(x, self.weight, groups=2))
        x = x.flatten(2)  # (batch, 6, pixels)
        scores = torch.softmax(x.transpose(1, 2) @ x, -1)
        return self.head(torch.einsum("bcp,cd->bpd", x, self.mix).transpose(1, 2) @ scores @ torch.ones(x.shape[-1], 4))


def flops(model: nn.Module, x: torch.Tensor) -> int:
    """What torch counts in training mode (the fused paths of evaluation hide their inside from it)."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        copy.deepcopy(model).train()(x)
    return counter.get_total_flops()


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (torchvision.models.resnet18, (2, 3, 64, 64)),
    "resnext": (torchvision.models.resnext50_32x4d, (2, 3, 64, 64)),
    "mobilenet": (torchvision.models.mobilenet_v3_small, (2, 3, 64, 64)),
    "vit": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10), (3, 3, 32, 32)),
    "functional": (Functional, (2, 4, 6, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_macs_are_half_the_flops_that_torch_counts_for_one_sample(name: str) -> None:
    build, shape = MODELS[name]
    model, x = build().eval(), torch.randn(shape)
    graph = tp.build_graph(model, [Example(x)])
    for _ in range(2):
        assert graph.cost().macs * 2 * shape[0] == flops(model, x)
        assert graph.cost().parameters == sum(p.numel() for p in model.parameters())
        plan = build_plan(graph, random_choice(graph, 0.4))
        predicted = plan.after
        plan.exec()
        assert predicted == graph.cost()


def test_macs_of_recurrent_layers_follow_the_formula() -> None:
    model = nn.LSTM(7, 5, num_layers=2, bidirectional=True, batch_first=True)
    graph = tp.build_graph(model, [Example(torch.randn(3, 11, 7))])
    first, second = 2 * 4 * 5 * (7 + 5), 2 * 4 * 5 * (10 + 5)
    assert graph.cost().macs == 11 * (first + second)


def test_the_batch_size_does_not_distort_the_count() -> None:
    model = Functional()
    costs = {tp.build_graph(model, [Example(torch.randn(n, 4, 6, 6))]).cost() for n in (1, 2, 5)}
    assert len(costs) == 1


def test_counts_of_a_choice_cost_what_the_pruned_model_costs() -> None:
    model, x = torchvision.models.resnet18().eval(), torch.randn(1, 3, 64, 64)
    graph = tp.build_graph(model, [Example(x)])
    counts = {group.axis: group.size // 2 for group in graph.groups}
    asked = graph.cost(counts)
    build_plan(graph, random_choice(graph, 0.5)).exec()
    assert asked == graph.cost()
    assert asked.parameters == sum(p.numel() for p in model.parameters())
