"""Every name that people who know this field type without looking it up."""

import inspect

import pytest
import torch
from torch import nn

import torch_pruning as pruning

LAYER_FUNCTIONS = {
    "prune_conv": nn.Conv2d(4, 6, 3),
    "prune_related_conv": nn.Conv2d(6, 4, 3),
    "prune_group_conv": nn.Conv2d(6, 6, 3, groups=6),
    "prune_linear": nn.Linear(4, 6),
    "prune_related_linear": nn.Linear(6, 4),
    "prune_batchnorm": nn.BatchNorm2d(6),
    "prune_prelu": nn.PReLU(6),
}
OTHER_NAMES = [
    "DependencyGraph", "Plan", "mask_weight", "mask_bias", "plan", "prune", "verify", "register_rule",
    "utils.count_params", "utils.count_prunable_channels", "utils.count_prunable_params",
    "strategy.L1Strategy", "strategy.L2Strategy", "strategy.LNStrategy", "strategy.RandomStrategy",
]  # fmt: skip


@pytest.mark.parametrize("name", [*LAYER_FUNCTIONS, *OTHER_NAMES])
def test_name_exists(name: str) -> None:
    found: object = pruning
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_everything_that_is_announced_exists() -> None:
    assert [name for name in pruning.__all__ if not hasattr(pruning, name)] == []


@pytest.mark.parametrize("name", LAYER_FUNCTIONS)
def test_layer_function_prunes_one_layer(name: str) -> None:
    function, layer = getattr(pruning, name), LAYER_FUNCTIONS[name]
    assert list(inspect.signature(function).parameters) == ["layer", "idxs", "inplace", "dry_run"]
    before = pruning.utils.count_params(layer)
    untouched, counted = function(layer, [0, 2], dry_run=True)
    assert untouched is layer
    assert pruning.utils.count_params(layer) == before
    smaller, removed = function(layer, idxs=[0, 2], inplace=False)
    assert smaller is not layer
    assert removed == counted == before - pruning.utils.count_params(smaller) > 0


def test_strategy_chooses_what_a_plan_removes() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    graph = pruning.DependencyGraph().build_dependency(net, torch.randn(1, 4))
    idxs = pruning.strategy.L1Strategy()(net[0].weight, amount=0.25)
    assert graph.get_pruning_plan(net[0], pruning.prune_linear, idxs).exec() == 2 * (4 + 1 + 2)
    assert net[0].out_features == net[2].in_features == 6
