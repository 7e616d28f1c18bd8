"""Criteria on groups of positions, as Torch-Pruning 1.x calls them: `imp(group)`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning import importance

from .architectures import Attention, Grouped, Residual, plain

pytestmark = pytest.mark.models

IDXS = [4, 0, 3]


def built(model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, tp.DependencyGraph, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, *shape, dtype=torch.float64)
    model = model.double()
    return model, tp.DependencyGraph().build_dependency(model, x), x


def rows(model: nn.Module, of: Any) -> list[Tensor]:
    """`of(weight)` summed by channel of the residual stream: out-channels of stem and wide, the norm, in-channels."""
    stem, norm, wide, narrow, last = (
        getattr(model, name).weight for name in ("stem", "norm", "wide", "narrow", "last")
    )
    outward = [of(weight).sum((1, 2, 3)) for weight in (stem, wide)]
    return [*outward, of(norm), of(narrow).sum((0, 2, 3)), of(last).sum(0)]


@pytest.mark.parametrize("idxs", [IDXS, list(range(6))])
def test_scores_are_means_of_rows_over_their_mean(idxs: list[int]) -> None:
    model, graph, _ = built(Residual(), (3, 6, 6))
    nn.init.uniform_(model.norm.weight)
    group = graph.get_pruning_group(model.stem, tp.prune_conv_out_channels, idxs)
    own = torch.tensor(group[0].idxs)
    expected = torch.stack(rows(model, lambda w: w.detach().square()))[:, own].mean(0)
    found = importance.MagnitudeImportance()(group)
    torch.testing.assert_close(found, expected / expected.mean())


def test_taylor_and_hessian() -> None:
    model, graph, x = built(Residual(), (3, 6, 6))
    group = graph.get_pruning_group(model.stem, tp.prune_conv_out_channels, IDXS)
    own = torch.tensor(group[0].idxs)
    model(x).sin().sum().backward()
    taylor = torch.stack(rows(model, lambda w: (w * w.grad).detach().abs()))[:, own].mean(0)
    torch.testing.assert_close(importance.TaylorImportance()(group), taylor / taylor.mean())
    together = torch.stack(rows(model, lambda w: (w * w.grad).detach()))[:, own].abs().mean(0)
    found = importance.TaylorImportance(multivariable=True)(group)
    torch.testing.assert_close(found, together / together.mean())
    hessian = importance.HessianImportance()
    hessian.accumulate_grad(model)
    hessian.accumulate_grad(model)
    squares = torch.stack(rows(model, lambda w: (w * w.grad).detach().square()))[:, own].mean(0)
    torch.testing.assert_close(hessian(group), squares / squares.mean())


def test_positions_of_a_flattened_channel_belong_to_it() -> None:
    model, graph, _ = built(plain(), (3, 9, 9))
    group = graph.get_pruning_group(model[3], tp.prune_conv_out_channels, [1, 3])
    expected = model[3].weight.detach()[[1, 3]].square().sum((1, 2, 3))
    columns = model[7].weight.detach().square().sum(0).view(5, 4).sum(1)[[1, 3]]
    criterion = importance.MagnitudeImportance(group_reduction="sum", normalizer=None)
    torch.testing.assert_close(criterion(group), expected + columns)


def test_channels_of_a_grouped_convolution() -> None:
    model, graph, _ = built(Grouped(), (3, 8, 8))
    idxs = [0, 4, 8, 9]  # one of each group
    group = graph.get_pruning_group(model.first, tp.prune_conv_out_channels, idxs)
    own = torch.tensor(group[0].idxs)
    columns = model.second.weight.detach().square().view(4, 2, 3, 9).sum((1, 3)).flatten()
    expected = (model.first.weight.detach().square().sum((1, 2, 3)) + columns)[own]
    criterion = importance.MagnitudeImportance(group_reduction="sum", normalizer=None)
    torch.testing.assert_close(criterion(group), expected)


def test_activations_of_positions() -> None:
    model, graph, x = built(Attention(), (5, 6))
    with importance.ActivationImportance(normalizer=None).observe(model) as criterion:
        model(x)
    read = []
    handle = model.out.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].detach()))
    model(x)
    handle.remove()
    group = graph.get_pruning_group(model.value, tp.prune_linear_out_channels, [1, 6])
    torch.testing.assert_close(criterion(group), read[0].abs().mean((0, 1))[torch.tensor(group[0].idxs)])


@pytest.mark.parametrize(
    "criterion",
    [
        importance.GroupMagnitudeImportance(), importance.LAMPImportance(), importance.FPGMImportance(),
        importance.RandomImportance(), importance.GroupTaylorImportance(), importance.GroupHessianImportance(),
        importance.OBDCImportance(num_classes=4), importance.ActivationImportance(), importance.WandaImportance(),
    ],
    ids=lambda criterion: type(criterion).__name__,
)  # fmt: skip
def test_one_score_per_position_of_the_root(criterion: Any) -> None:
    model, graph, x = built(Residual(), (3, 6, 6))
    if isinstance(criterion, importance.HessianImportance):
        model(x).sum().backward()
        criterion.accumulate_grad(model)
    elif hasattr(criterion, "observe"):
        with criterion.observe(model):
            model(x).sum().backward()
    for group in graph.get_all_groups():
        scores = criterion(group)
        assert scores.shape == (len(group[0].idxs),)
        assert torch.isfinite(scores).all()


def test_what_is_no_group() -> None:
    with pytest.raises(TypeError, match="an importance scores a group; found int"):
        importance.MagnitudeImportance()(3)
