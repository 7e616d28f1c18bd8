"""The example everybody starts with, word for word, and what it prints."""

import pytest
import torch
from torchvision.models import resnet18

import torch_pruning as pruning

pytestmark = pytest.mark.models

WITH_PARAMETERS = [
    ("prune_conv", "prune_conv", "conv1", 441),
    ("prune_conv", "prune_batchnorm", "bn1", 6),
    ("max_pool2d", "prune_related_conv", "layer1.0.conv1", 1728),
    ("add", "prune_batchnorm", "layer1.0.bn2", 6),
    ("prune_batchnorm", "prune_conv", "layer1.0.conv2", 1728),
    ("relu", "prune_related_conv", "layer1.1.conv1", 1728),
    ("add", "prune_batchnorm", "layer1.1.bn2", 6),
    ("prune_batchnorm", "prune_conv", "layer1.1.conv2", 1728),
    ("relu", "prune_related_conv", "layer2.0.conv1", 3456),
    ("relu", "prune_related_conv", "layer2.0.downsample.0", 384),
]
OPERATORS = [
    ("prune_batchnorm", "relu", "relu (aten.relu_)"),
    ("relu", "max_pool2d", "maxpool (aten.max_pool2d)"),
    ("max_pool2d", "add", "layer1.0 (aten.add_)"),
    ("add", "relu", "layer1.0.relu (aten.relu_)"),
    ("relu", "add", "layer1.1 (aten.add_)"),
    ("add", "relu", "layer1.1.relu (aten.relu_)"),
]


def test_example() -> None:
    model = resnet18(weights=None)
    before = pruning.utils.count_params(model)
    DG = pruning.DependencyGraph()  # noqa: N806
    assert DG.build_dependency(model, example_inputs=torch.randn(1, 3, 224, 224)) is DG
    plan = DG.get_pruning_plan(model.conv1, pruning.prune_conv, idxs=[2, 6, 9])
    layers = dict(model.named_modules())
    steps = {
        path: f"[ <DEP: {trigger} => {handler} on {path} ({layers[path]})>, Index=[2, 6, 9], NumPruned={count}]"
        for trigger, handler, path, count in WITH_PARAMETERS
    }

    lines = str(plan).split("\n")
    assert lines[:2] == ["", "-------------"]
    assert lines[-3:] == ["11211 parameters will be pruned", "-------------", ""]
    assert [line for line in lines if "aten." not in line][2:-3] == list(steps.values())
    assert [line for line in lines if "aten." in line] == [
        f"[ <DEP: {trigger} => {handler} on {name}>, Index=[2, 6, 9], NumPruned=0]"
        for trigger, handler, name in OPERATORS
    ]
    # An addition is listed before what is reached through it.
    assert lines.index(steps["layer1.0.conv1"]) + 1 == next(
        i for i, line in enumerate(lines) if "layer1.0 (aten" in line
    )
    assert lines.index(steps["layer1.0.bn2"]) - 1 == next(i for i, line in enumerate(lines) if "layer1.0 (aten" in line)

    assert [idxs for _, idxs in plan.plan] == [[2, 6, 9]] * 16
    assert plan.plan[1][0].layer is model.bn1
    assert plan.plan[1][0].handler is pruning.prune_batchnorm
    assert pruning.verify(model, plan, torch.randn(2, 3, 64, 64), rescale=True).exact

    assert plan.exec(dry_run=True) == 11211
    assert pruning.utils.count_params(model) == before
    assert plan.exec() == 11211
    assert pruning.utils.count_params(model) == before - 11211
    assert model.conv1.out_channels == model.bn1.num_features == model.layer2[0].downsample[0].in_channels == 61
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 1000)
