"""Penalties on groups: gradients in closed form against autograd and a reference that goes entry by entry."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sparse_models import MODELS, Flattened, built
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.axes.expression import Free
from torch_pruning.axes.positions import owners_of_positions
from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.groups import Group, Member
from torch_pruning.importance import MagnitudeImportance
from torch_pruning.importance.spread import group_entries
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import random_choice
from torch_pruning.pruner.sparsify_penalties import Penalty

PENALTIES: dict[str, Penalty] = {
    "group norm": tp.GroupNormPenalty(reg=0.3, alpha=3),
    "group lasso": tp.GroupLassoPenalty(reg=0.3),
    "growing": tp.GrowingPenalty(reg=0.3, delta_reg=0.2),
    "scales": tp.BatchNormScalePenalty(reg=0.3),
    "scales, lasso": tp.BatchNormScalePenalty(reg=0.3, group_lasso=True),
}
WITH_BATCH_NORM = ("flattened", "residual")
CASES = [
    (model, penalty)
    for model in MODELS
    for penalty in PENALTIES
    if model in WITH_BATCH_NORM or not penalty.startswith("scales")
]


def unit_of_entry(group: Group, member: Member, entry: tuple[int, ...]) -> tuple[int, int] | None:
    """(lane, unit) that owns one entry through this member, by looking at its position on every dimension."""
    owners: dict[Free, int] = dict(
        owner for axis, at in zip(member.siblings, entry, strict=True) for owner in owners_of_positions(axis)[at]
    )
    owners.update(owners_of_positions(member.axis)[entry[member.dim]])
    if group.axis not in dict(owners_of_positions(member.axis)[entry[member.dim]]):
        return None
    lane = 0
    for axis in group.lanes:
        lane = lane * axis.size + owners[axis]
    return lane, owners[group.axis]


def entries_by_unit(graph: Graph, group: Group) -> dict[tuple[int, int], list[tuple[str, tuple[int, ...]]]]:
    """{(lane, unit): [(parameter, index), ...]}, an entry as often as members make it the unit's."""
    found: dict[tuple[int, int], list[tuple[str, tuple[int, ...]]]] = {}
    for member in group.members:
        if member.tensor in graph.parameters:
            for entry in itertools.product(*(range(axis.size) for axis in member.siblings)):
                owner = unit_of_entry(group, member, entry)
                if owner is not None:
                    found.setdefault(owner, []).append((member.tensor, entry))
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12) -> bool:
    return found.keys() == expected.keys() and all(
        torch.allclose(found[name], expected[name], rtol=tolerance, atol=tolerance) for name in expected
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_has_its_unit(name: str) -> None:
    """Sums by unit agree with the entry-by-entry reference, and factors come back to the same entries."""
    model, _, graph = built(name)
    parameters = dict(model.named_parameters())
    for group in graph.groups:
        entries = group_entries(group)
        parts = [part for part in entries.parts if part.tensor in parameters]
        expected = torch.zeros(entries.lanes, entries.units, dtype=torch.float64)
        for (lane, unit), owned in entries_by_unit(graph, group).items():
            expected[lane, unit] = sum(parameters[tensor][entry].item() ** 2 for tensor, entry in owned)
        values = {
            i: part.of(parameters[part.tensor]).detach().square()
            for i, part in enumerate(entries.parts)
            if part in parts
        }
        torch.testing.assert_close(entries.sum(values), expected)
        factor = torch.arange(1, entries.lanes * entries.units + 1, dtype=torch.float64).view(entries.lanes, -1)
        weighted = sum((entries.spread(factor, i) * value).sum() for i, value in values.items())
        torch.testing.assert_close(weighted, (expected * factor).sum())


def test_lanes_are_among_the_models() -> None:
    """Within a tensor's own dimension, and across two dimensions."""
    lanes = {name: [group for group in built(name)[2].groups if group.lanes] for name in ("attention", "grouped")}
    assert all(lanes.values())


@pytest.mark.parametrize("name", MODELS)
def test_norms_are_magnitudes(name: str) -> None:
    """What is pushed is what the magnitude criterion sees, where a group has no buffers."""
    model, _, graph = built(name)
    norms = tp.Regularizer(graph, PENALTIES["group norm"]).norms()
    tensors = dict(model.named_parameters())
    compared = [group for group in graph.groups if all(member.tensor in tensors for member in group.members)]
    norm = MagnitudeImportance(2, "joint", normalizer=None, bias=True, target_types=None)
    for group in compared:
        torch.testing.assert_close(norms[group.name], norm(group, tensors))
    assert compared or name in WITH_BATCH_NORM


@pytest.mark.parametrize(("name", "penalty"), CASES)
def test_hook_is_the_gradient_of_the_loss(name: str, penalty: str) -> None:
    model, x, graph = built(name)
    regularizer = tp.Regularizer(graph, PENALTIES[penalty])
    regularizer.update()
    model(x).square().sum().backward()
    before = gradients(model)
    regularizer.regularize(model)
    with_hook = gradients(model)
    model.zero_grad()
    (model(x).square().sum() + regularizer.loss(model)).backward()
    assert equal(with_hook, gradients(model))
    assert any(not torch.equal(with_hook[name], before[name]) for name in before)


@pytest.mark.parametrize("name", MODELS)
def test_group_norm_against_the_formula(name: str) -> None:
    """reg gamma_u w for every entry, gamma_u from the norms of the lane, entry by entry."""
    model, _, graph = built(name)
    parameters = dict(model.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for group in graph.groups:
        owned = entries_by_unit(graph, group)
        norm = {unit: math.sqrt(sum(parameters[t][e].item() ** 2 for t, e in own)) for unit, own in owned.items()}
        for lane, unit in owned:
            row = [norm[key] for key in norm if key[0] == lane]
            gamma = 2 ** (3 * (max(row) - norm[lane, unit]) / (max(row) - min(row)))
            for tensor, entry in owned[lane, unit]:
                expected[tensor][entry] += 0.3 * gamma * parameters[tensor][entry].item()
    tp.Regularizer(graph, PENALTIES["group norm"]).regularize()
    touched = {name: gradient for name, gradient in expected.items() if gradient.any()}
    assert equal(gradients(model), touched)


def test_lasso_and_slimming_against_the_formula() -> None:
    model, _, graph = built("residual")
    assert isinstance(model.norm, nn.BatchNorm2d)
    assert isinstance(model.second, nn.BatchNorm2d)
    tp.Regularizer(graph, PENALTIES["scales"]).regularize()
    assert equal(gradients(model), {f"{n}.weight": 0.3 * getattr(model, n).weight.sign() for n in ("norm", "second")})
    model.zero_grad()
    tp.Regularizer(graph, PENALTIES["scales, lasso"]).regularize()
    length = (model.norm.weight.square() + model.second.weight.square()).sqrt()
    expected = {f"{n}.weight": 0.3 * getattr(model, n).weight / length for n in ("norm", "second")}
    assert equal(gradients(model), expected)


def test_strengths_grow_by_unimportance() -> None:
    model, _, graph = built("flattened")
    (group,) = graph.groups
    regularizer = tp.Regularizer(graph, tp.GrowingPenalty(reg=0.5, delta_reg=0.25))
    (norms,) = regularizer.norms().values()
    regularizer.update()
    regularizer.update()
    expected = 0.5 + 2 * 0.25 * (norms.max() - norms) / (norms.max() - norms.min())
    torch.testing.assert_close(regularizer.state_dict()[group.name].double(), expected[0], rtol=1e-6, atol=0)
    again = tp.Regularizer(graph, tp.GrowingPenalty(reg=0.5, delta_reg=0.25))
    again.load_state_dict(regularizer.state_dict())
    again.regularize()
    resumed = gradients(model)
    model.zero_grad()
    regularizer.regularize()
    assert equal(resumed, gradients(model))
    with pytest.raises(ValueError, match="saved strengths"):
        again.load_state_dict({})


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_and_zero_norms_give_numbers(penalty: str, value: float) -> None:
    model, x, graph = built("residual")
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    regularizer = tp.Regularizer(graph, PENALTIES[penalty])
    regularizer.update()
    (model(x).sum() + regularizer.loss()).backward()
    regularizer.regularize()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())
    if penalty == "group norm" and value:  # all equally unimportant: all pushed by reg, twice
        model.zero_grad()
        regularizer.regularize()
        torch.testing.assert_close(model.norm.weight.grad, torch.full_like(model.norm.weight, 0.3))


def test_frozen_parameters_stay_and_unreached_ones_get_the_penalty() -> None:
    model, _, graph = built("flattened")
    model.conv.weight.requires_grad_(False)
    everything = tp.Regularizer(graph, PENALTIES["group norm"])
    norms = everything.norms()
    everything.regularize()
    assert model.conv.weight.grad is None
    assert model.head.weight.grad is not None
    hook = gradients(model)
    model.zero_grad()
    everything.loss().backward()
    assert equal(hook, gradients(model))
    model.conv.weight.requires_grad_(True)
    torch.testing.assert_close(everything.norms(), norms)  # the frozen weight counted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_short_types_are_summed_in_float32(dtype: torch.dtype) -> None:
    model, _, graph = built("flattened", torch.float32)
    model.to(dtype)
    regularizer = tp.Regularizer(graph, PENALTIES["group lasso"])
    regularizer.regularize()
    assert {gradient.dtype for gradient in gradients(model).values()} == {dtype}
    assert regularizer.loss().dtype == torch.float32
    with torch.no_grad():
        model.conv.weight.fill_(300.0)  # its square is no float16
    assert all(torch.isfinite(norm).all() for norm in regularizer.norms().values())


def test_only_chosen_groups() -> None:
    model, _, graph = built("attention")
    first, *others = graph.groups
    tp.Regularizer(graph, PENALTIES["group norm"], groups=[first.name]).regularize()
    assert gradients(model).keys() == {member.tensor for member in first.members}
    assert others
    regularizer = tp.Regularizer(graph, PENALTIES["group norm"], ignore=[model.qkv])
    assert 0 < len(regularizer.groups) < len(graph.groups)
    with pytest.raises(ValueError, match=r"take them from graph\.groups"):
        tp.Regularizer(graph, PENALTIES["group norm"], groups=["nothing"])
    with pytest.raises(ValueError, match="no group with a batch norm's scale"):
        tp.Regularizer(graph, PENALTIES["scales"])


@pytest.mark.parametrize("name", MODELS)
def test_follows_a_plan(name: str) -> None:
    """After surgery the strengths of the units that stay are those they had, and the hook is still the gradient."""
    model, x, graph = built(name)
    regularizer = tp.Regularizer(graph, tp.GrowingPenalty(reg=0.1, delta_reg=0.7))
    regularizer.update()
    before = {name: strengths.flatten().tolist() for name, strengths in regularizer.state_dict().items()}
    build_plan(graph, random_choice(graph, 0.4, seed=3)).exec()
    for group, strengths in regularizer.state_dict().items():
        assert strengths.numel() < len(before[group])
        assert set(strengths.flatten().tolist()) <= set(before[group])
    (model(x).sum() + regularizer.loss()).backward()
    with_loss = gradients(model)
    model.zero_grad()
    model(x).sum().backward()
    regularizer.regularize()
    assert equal(with_loss, gradients(model))


def test_a_model_of_other_shapes_is_refused() -> None:
    model, _, graph = built("flattened")
    regularizer = tp.Regularizer(graph, PENALTIES["group norm"])
    with pytest.raises(StalePlanError, match="no such parameter"):
        regularizer.regularize(nn.Linear(2, 2))
    other = Flattened()
    other.conv = nn.Conv2d(2, 5, 3)
    with pytest.raises(StalePlanError, match=r"conv.*\[5"):
        regularizer.loss(other)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_another_copy_of_the_model_may_be_regularised() -> None:
    model, _, graph = built("flattened")
    copy = Flattened().double()
    copy.load_state_dict(model.state_dict())
    regularizer = tp.Regularizer(graph, PENALTIES["group norm"])
    regularizer.regularize(copy)
    assert all(parameter.grad is None for parameter in model.parameters())
    regularizer.regularize()
    assert equal(gradients(copy), gradients(model))


def test_sparse_gradients_of_embeddings() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(7, 6, sparse=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.words(x).relu())

    model, x = Words(), torch.tensor([[1, 2]])
    graph = tp.build_graph(model, [tp.Example(x)])
    model(x).sum().backward()
    tp.Regularizer(graph, PENALTIES["group norm"]).regularize()
    assert model.words.weight.grad is not None
    assert model.words.weight.grad.any(1).all()  # rows that the batch did not use, too
