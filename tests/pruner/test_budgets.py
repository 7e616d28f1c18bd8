"""Budgets against what torch counts on the pruned model, on small relatives of the models of benchmarks/budgets.py."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import torch_pruning as tp
from torch_pruning.pruner.allot import Rounding, admissible_steps
from torch_pruning.pruner.selection import movable

pytestmark = pytest.mark.models


def images(size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(2, 3, size, size)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "resnet": (torchvision.models.resnet18, images(64)),
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=10), images(32)),
    "mobilenet": (torchvision.models.mobilenet_v3_small, images(64)),
    "vit": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10), images(32)),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 4], [4, 4], num_classes=5),
        images(32),
    ),
}


def counted(model: nn.Module, x: Tensor, kind: str) -> int:
    if kind == "params":
        return sum(parameter.numel() for parameter in model.parameters())
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        copy.deepcopy(model).train()(x)
    return counter.get_total_flops() // (2 * x.shape[0])


def with_one_more_step(graph: tp.Graph, plan: tp.Plan, kind: str) -> list[float]:
    """What the plan would cost if any one group kept the next count that it may."""
    assert plan.choice is not None
    left = {axis: kept.count for axis, kept in plan.choice.items()}
    costs = []
    for cluster in movable(graph, set(), exact_only=False):
        axis = cluster.axes[0]
        step = left.get(axis, axis.size) * cluster.steps // axis.size
        later = [t for t in admissible_steps(cluster, graph, Rounding()) if t > step]
        if later:
            cost = graph.cost({**left, **cluster.counts(later[0])})
            costs.append(cost.macs if kind == "macs" else cost.parameters)
    return costs


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("name", MODELS)
def test_budgets_are_met_as_torch_counts(name: str, kind: str) -> None:
    build, example = MODELS[name]
    model, x = build().eval(), example()
    graph = tp.build_graph(model, [tp.Example(x)])
    dense = counted(model, x, kind)
    for scope, share in (("local", 0.75), ("global", 0.5), ("cost", 0.4)):
        plan = tp.plan(graph, scope=scope, **{kind: share})
        pruned = copy.deepcopy(model)
        plan.exec(model=pruned, check=False)
        found = counted(pruned, x, kind)
        assert plan.after is not None
        assert found == (plan.after.macs if kind == "macs" else plan.after.parameters)
        assert found <= share * dense
        assert all(cost > share * dense for cost in with_one_more_step(graph, plan, kind))
