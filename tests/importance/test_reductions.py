"""Reductions over members, normalisers, names, users' own functions, and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning import importance
from torch_pruning.errors import ImportanceError
from torch_pruning.importance import MagnitudeImportance, ModelTensors, normalized

pytestmark = pytest.mark.models


def built() -> tuple[nn.Module, tp.Graph, list[Tensor]]:
    """A model, its graph and the squares that its first group has member by member: [units] each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)).double()
    nn.init.uniform_(model[1].weight)
    graph = tp.build_graph(model, [tp.Example(torch.randn(2, 3).double())])
    first, norm, last = (model[i].weight.detach().square() for i in (0, 1, 3))
    return model, graph, [first.sum(1), norm, last.sum(0)]


EXPECTED = {
    "sum": lambda a, b, c: a + b + c,
    "mean": lambda a, b, c: (a + b + c) / 3,
    "max": lambda a, b, c: torch.maximum(torch.maximum(a, b), c),
    "prod": lambda a, b, c: a * b * c,
    "first": lambda a, b, c: a,
    "gate": lambda a, b, c: c,
    "joint": lambda a, b, c: (a + b + c).sqrt(),
}


@pytest.mark.parametrize("reduction", EXPECTED)
def test_reductions(reduction: str) -> None:
    model, graph, squares = built()
    criterion = MagnitudeImportance(group_reduction=reduction, normalizer=None)
    expected = EXPECTED[reduction](*squares)
    torch.testing.assert_close(criterion(graph.groups[0], ModelTensors(model))[0], expected)
    rows = tp.DependencyGraph().build_dependency(model, torch.randn(2, 3).double())
    group = rows.get_pruning_group(model[0], tp.prune_linear_out_channels, list(range(5)))
    torch.testing.assert_close(criterion(group), expected)


def test_no_reduction_is_one_row_per_member() -> None:
    model, graph, squares = built()
    criterion = MagnitudeImportance(group_reduction=None)
    rows = tp.DependencyGraph().build_dependency(model, torch.randn(2, 3).double())
    group = rows.get_pruning_group(model[0], tp.prune_linear_out_channels, [4, 1])
    torch.testing.assert_close(criterion(group), torch.stack(squares)[:, torch.tensor(group[0].idxs)])
    with pytest.raises(ValueError, match="one score per unit; found group_reduction=None"):
        criterion(graph.groups[0], ModelTensors(model))


S = torch.tensor([4.0, 1.0, 3.0, 2.0, 3.0], dtype=torch.float64)
NORMALIZED = {
    "sum": S / 13,
    "mean": S / 2.6,
    "max": S / 4,
    "standarization": (S - 1) / (3 + 1e-8),
    "standardization": (S - 1) / (3 + 1e-8),
    "gaussian": (S - 2.6) / (math.sqrt(1.3) + 1e-8),
    "sentinel_0.5": S / (3 + 1e-8),
    "sentinel_1": S / (4 + 1e-8),
    "lamp": torch.tensor([1.0, 1 / 13, 3 / 10, 2 / 12, 3 / 7], dtype=torch.float64),
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalizers(name: str) -> None:
    torch.testing.assert_close(normalized(S, name), NORMALIZED[name])
    torch.testing.assert_close(normalized(S.view(1, 5), name), NORMALIZED[name].view(1, 5))


def test_a_normalizer_may_be_a_function() -> None:
    torch.testing.assert_close(normalized(S.view(5, 1), lambda scores: scores / len(scores)), S.view(5, 1) / 5)
    with pytest.raises(ValueError, match=r"one number per score, \[5\]; found \[\]"):
        normalized(S, torch.sum)


@pytest.mark.parametrize("name", [*NORMALIZED, None])
def test_equal_scores_stay_equal_and_zeros_stay_finite(name: str | None) -> None:
    for scores in (torch.zeros(4), torch.ones(1), torch.zeros(1)):
        found = normalized(scores, name)
        assert torch.isfinite(found).all()
        assert name == "lamp" or (found == found[0]).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MagnitudeImportance(group_reduction="median"), "group_reduction must be one of"),
        (lambda: MagnitudeImportance(normalizer="l2"), "normalizer must be one of"),
        (lambda: MagnitudeImportance(normalizer="sentinel_2"), "a share between 0 and 1; found '2'"),
        (lambda: MagnitudeImportance(p=0), "p must be positive; found 0"),
        (lambda: importance.criterion("beauty"), "importance must be one of .* found 'beauty'"),
    ],
)
def test_what_there_is_not(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_target_types_and_biases() -> None:
    model, graph, (first, norm, last) = built()
    tensors, group = ModelTensors(model), graph.groups[0]
    linear = MagnitudeImportance(2, "sum", None, target_types=[nn.Linear])
    torch.testing.assert_close(linear(group, tensors)[0], first + last)
    bias = MagnitudeImportance(2, "sum", None, bias=True, target_types=[nn.LayerNorm])
    torch.testing.assert_close(bias(group, tensors)[0], norm + model[1].bias.detach().square())
    # Of a group without any of them, all that it has counts.
    anything = MagnitudeImportance(2, "sum", None, target_types=[nn.Conv2d])
    torch.testing.assert_close(anything(group, tensors)[0], first + norm + last)
    with pytest.raises(TypeError, match=r"pass torch_pruning\.importance\.ModelTensors"):
        linear(group, dict(model.named_parameters()))


def test_batch_norm_scales_need_batch_norms() -> None:
    model, graph, _ = built()
    with pytest.raises(ImportanceError, match=r"needs a tensor that it can score; found none in 0, which lies on"):
        importance.criterion("bn_scale")(graph.groups[0], ModelTensors(model))
    rows = tp.DependencyGraph().build_dependency(model, torch.randn(2, 3).double())
    group = rows.get_pruning_group(model[0], tp.prune_linear_out_channels, [0])
    assert importance.BNScaleImportance()(group) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_name_group_and_tensor(value: float) -> None:
    model, graph, _ = built()
    model[3].weight.data[0, 2] = value
    with pytest.raises(ImportanceError, match=r"scores of 0 must be finite, found 1 of 5 .* from 3.weight:"):
        importance.criterion("magnitude")(graph.groups[0], ModelTensors(model))


def test_ties_keep_the_first() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    plan = tp.plan(model, torch.randn(1, 3), pruning_ratio=0.5)
    assert plan.removed["0.weight"][0].tolist() == [3, 4, 5]


def test_random_follows_the_seed() -> None:
    model, graph, _ = built()
    group = graph.groups[0]
    one, same, other = (importance.criterion("random", seed)(group, ModelTensors(model)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


# ---------------------------------------------------------------- users' own


def test_a_function_of_a_group() -> None:
    def mean_size(group: importance.GroupView) -> Tensor:
        return sum(share.rows().abs().mean(-1) for share in group)

    model, _, _ = built()
    plan = tp.plan(model, torch.randn(2, 3).double(), pruning_ratio=0.4, importance=mean_size)
    parts = [model[0].weight.abs().mean(1), model[0].bias.abs(), model[1].weight.abs(), model[1].bias.abs()]
    scores = sum(parts) + model[3].weight.abs().mean(0)
    assert plan.removed["0.weight"][0].tolist() == sorted(scores.argsort()[:2].tolist())


def test_a_function_of_a_group_and_its_tensors() -> None:
    model, _, _ = built()
    plan = tp.plan(
        model, torch.randn(2, 3).double(), pruning_ratio=0.4,
        importance=lambda group, tensors: tensors["1.weight"].detach().view(1, -1),
    )  # fmt: skip
    assert plan.removed["0.weight"][0].tolist() == sorted(model[1].weight.argsort()[:2].tolist())


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda group: torch.zeros(3), r"\[5\] or \[1, 5\]; found \[3\] for 0"),
        (lambda group: torch.full((5,), float("nan")), "scores of 0 must be finite, found 5"),
    ],
)
def test_a_function_that_does_not_score(function: object, match: str) -> None:
    model, _, _ = built()
    with pytest.raises(ValueError, match=match):
        tp.plan(model, torch.randn(2, 3).double(), pruning_ratio=0.4, importance=function)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype) -> None:
    """In float16 the sum of 4096 squares of 8 is infinite, and in bfloat16 it stops growing at 256 times one term."""
    model = nn.Sequential(nn.Linear(4096, 3), nn.Linear(3, 2)).to(dtype)
    nn.init.constant_(model[0].weight, 8.0)
    graph = tp.build_graph(model, [tp.Example(torch.zeros(1, 4096, dtype=dtype))])
    only_first = MagnitudeImportance(group_reduction="first", normalizer=None)
    scores = only_first(graph.groups[0], ModelTensors(model))
    assert scores.dtype == torch.float32
    assert (scores == 4096 * 64).all()


def test_importance_runs_where_the_tensors_are() -> None:
    """Nothing is made on the CPU that meets a tensor elsewhere: the meta device would refuse it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=4), nn.Flatten(), nn.Linear(32, 2))
    graph = tp.build_graph(model, [tp.Example(torch.zeros(1, 3, 6, 6))])
    meta = {name: tensor.to("meta") for name, tensor in model.named_parameters()}
    for group in graph.groups:
        for share in importance.GroupView(group, meta):
            assert share.sums(share.values).device.type == "meta"
            assert share.rows().device.type == "meta"
