"""Real torchvision models through the oracle: one of each family. All of them: `make zoo-torchvision`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import prunable_parameters, random_choice
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models

models = torchvision.models

# (how to build, input size, least share of parameters in groups)
MODELS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "alexnet": (lambda: models.alexnet(num_classes=10), 64, 0.99),
    "resnet18": (models.resnet18, 64, 0.99),
    "resnet50": (models.resnet50, 64, 0.99),
    "resnext50_32x4d": (models.resnext50_32x4d, 64, 0.99),
    "densenet121": (models.densenet121, 64, 0.99),
    "googlenet": (lambda: models.googlenet(init_weights=False, aux_logits=True), 64, 0.99),
    "inception_v3": (lambda: models.inception_v3(init_weights=False, aux_logits=True), 299, 0.99),
    "squeezenet1_1": (models.squeezenet1_1, 64, 0.99),
    "mobilenet_v2": (models.mobilenet_v2, 64, 0.99),
    "mobilenet_v3_small": (models.mobilenet_v3_small, 64, 0.99),
    "mnasnet0_5": (models.mnasnet0_5, 64, 0.99),
    "shufflenet_v2_x0_5": (models.shufflenet_v2_x0_5, 64, 0.99),
    "efficientnet_b0": (models.efficientnet_b0, 64, 0.99),
    "regnet_y_400mf": (models.regnet_y_400mf, 64, 0.99),
    "convnext_tiny": (models.convnext_tiny, 64, 0.99),
    "vit_small": (lambda: models.VisionTransformer(32, 8, 3, 4, 64, 128, num_classes=10), 32, 0.95),
    "swin_t": (models.swin_t, 64, 0.95),
    "swin_v2_t": (models.swin_v2_t, 64, 0.95),
    "maxvit_small": (
        lambda: models.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.0, num_classes=10),
        64,
        0.9,
    ),
    "deeplabv3_resnet50": (
        lambda: models.segmentation.deeplabv3_resnet50(weights_backbone=None, aux_loss=True),
        32,
        0.99,
    ),
    "lraspp_mobilenet": (lambda: models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None), 64, 0.99),
}


def shapes(out: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor, _ in tensors_in(out)]


@pytest.mark.parametrize("name", MODELS)
def test_every_family_is_exact_and_runs_with_all_groups_pruned(name: str) -> None:
    build, size, share = MODELS[name]
    model = build().eval()
    x = torch.randn(1, 3, size, size)
    graph = tp.build_graph(model, [Example(x)])
    assert graph.ops_without_rule() == {}
    assert prunable_parameters(graph) >= share * graph.cost().parameters
    exact = build_plan(graph, random_choice(graph, 0.4, exact_only=True))
    assert exact.parameters_removed > 0.05 * graph.cost().parameters
    seen = tp.verify(model, exact, rescale=True)
    assert seen.exact, seen
    with torch.no_grad():
        before = shapes(model(x))
        build_plan(graph, random_choice(graph, 0.4)).exec()
        assert shapes(model(x)) == before
