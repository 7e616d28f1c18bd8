"""One graph, many removals: each in the coordinates that the last has left, and each against the oracle."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.api.models import Concatenated, Grouped, OneAxisTwice, Shared
from torch import Tensor, nn
from torchvision.models import VisionTransformer, densenet121, mobilenet_v2, resnet18, shufflenet_v2_x0_5

import torch_pruning as pruning
from torch_pruning.errors import ConstraintError, FrozenAxisError, PositionError, StalePlanError
from torch_pruning.planning.attention import FreeMultiheadAttention

pytestmark = pytest.mark.models

Graph = pruning.DependencyGraph


def small_vit() -> VisionTransformer:
    return VisionTransformer(32, 16, num_layers=2, num_heads=4, hidden_dim=24, mlp_dim=20, num_classes=5)


MODELS = {
    "resnet18": (resnet18, 64, 1),
    "densenet121": (densenet121, 32, 9),
    "mobilenet_v2": (mobilenet_v2, 32, 3),
    "shufflenet_v2": (shufflenet_v2_x0_5, 64, 3),
    "vision transformer": (small_vit, 32, 1),
}


def widths(model: nn.Module) -> Iterator[tuple[nn.Module, Any, int]]:
    """(layer, function, size) of every width of convolutions and linear layers, as they are now."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            yield layer, pruning.prune_conv, layer.out_channels
            yield layer, pruning.prune_related_conv, layer.in_channels
        elif isinstance(layer, nn.Linear):
            yield layer, pruning.prune_linear, layer.out_features
            yield layer, pruning.prune_related_linear, layer.in_features


def plan_or_none(graph: Graph, layer: nn.Module, function: Any, idxs: list[int]) -> pruning.DependencyPlan | None:
    try:
        return graph.get_pruning_plan(layer, function, idxs)
    except (PositionError, FrozenAxisError, ConstraintError):
        return None


def removed(plan: pruning.DependencyPlan) -> dict[tuple[str, int], list[int]]:
    return {(name, dim): gone.tolist() for name, dims in plan.removed.items() for dim, gone in dims.items()}


@pytest.mark.parametrize("name", MODELS)
def test_whole_model_layer_by_layer(name: str) -> None:
    """Channels go from one layer after the other; then the graph says the same as one built afresh."""
    build, pixels, every = MODELS[name]
    model, inputs = build().eval(), torch.randn(1, 3, pixels, pixels)
    graph = Graph().build_dependency(model, inputs)
    chance = random.Random(0)
    executed = verified = total = 0
    before = pruning.utils.count_params(model)
    for layer, function, size in list(widths(model))[::every]:
        idxs = chance.sample(range(size), max(1, size // 12))
        now = next(size for other, which, size in widths(model) if other is layer and which is function)
        plan = plan_or_none(graph, layer, function, [i for i in idxs if i < now - 1] or [0])
        if plan is None:
            continue
        if plan.exact and (verified == 0 or executed % 10 == 0):
            verification = pruning.verify(model, plan, inputs, rescale=True, gradients=False)
            if not verification.degenerate:
                assert verification.exact, verification
                verified += 1
        total += plan.exec(check=executed % 8 == 0)
        executed += 1
    assert executed > 5
    assert verified > 0
    assert total == before - pruning.utils.count_params(model)

    afresh = Graph().build_dependency(model, inputs)
    assert graph.cost() == afresh.cost()
    # Where surgery has put another class in place, a new trace sees inside: it tells values from queries and keys.
    opened = tuple(path for path, module in model.named_modules() if isinstance(module, FreeMultiheadAttention))
    assert bool(opened) is (name == "vision transformer")
    sizes, sizes_afresh = (
        {g.name: g.size for g in each.groups if g.size > 1 and not g.name.startswith(opened or "no layer")}
        for each in (graph, afresh)
    )
    assert sizes == sizes_afresh
    assert len(sizes) >= 3
    compared = 0
    for layer, function, size in list(widths(model))[:: 3 * every]:
        old, new = (plan_or_none(each, layer, function, [size // 2]) for each in (graph, afresh))
        assert (old is None) == (new is None)
        if old is not None and new is not None:
            assert removed(old) == removed(new)
            assert old.parameters_removed == new.parameters_removed
            assert opened or str(old) == str(new)
            compared += 1
    assert compared > 1


def test_lanes_in_a_row() -> None:
    """Channels of groups that differ from group to group, then whole groups, then channels again."""
    model, inputs = Grouped().eval(), torch.randn(2, 3, 8, 8)
    graph = Graph().build_dependency(model, inputs)
    for layer, function, idxs, shape in [
        (model.stem, pruning.prune_conv, [0, 4, 8, 9], (8, 2, 3, 3)),
        (model.grouped, pruning.prune_conv, [1, 2, 4, 7], (4, 2, 3, 3)),
        (model.grouped, pruning.prune_group_conv, [2], (3, 2, 3, 3)),
        (model.stem, pruning.prune_conv, [0, 3, 5], (3, 1, 3, 3)),
        (model.head, pruning.prune_related_conv, [0], (2, 1, 3, 3)),
    ]:
        plan = graph.get_pruning_plan(layer, function, idxs)
        verification = pruning.verify(model, plan, inputs, rescale=True)
        assert verification.exact, verification
        plan.exec()
        assert model.grouped.weight.shape == shape
    assert model.grouped.groups == 2
    assert model.stem.out_channels == 2


def test_oracle_over_two_steps() -> None:
    """Two removals one after the other are the removal of both."""
    model, inputs = OneAxisTwice().double().eval(), torch.randn(2, 4).double()
    graph = Graph().build_dependency(model, inputs)
    with torch.no_grad():
        hidden = model.stem(inputs)
        mixed = (hidden + model.layer(hidden.index_fill(1, torch.tensor([1, 4]), 0))) * model.scale * model.shift
        expected = model.head(mixed.index_fill(1, torch.tensor([1, 4]), 0))
    graph.get_pruning_plan(model.stem, pruning.prune_linear, [1]).exec()
    graph.get_pruning_plan(model.head, pruning.prune_related_linear, [3]).exec()  # 4 before the first step
    torch.testing.assert_close(model(inputs), expected, rtol=1e-12, atol=0)


# ---------------------------------------------------------------- plans made before others were carried out


def test_earlier_plan_of_other_layers_still_holds() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    graph = Graph().build_dependency(model, torch.randn(1, 4))
    first = graph.get_pruning_plan(model[0], pruning.prune_linear, [1])
    second = graph.get_pruning_plan(model[2], pruning.prune_linear, [0, 4])
    assert second.exec(dry_run=True) == 2 * (7 + 2)
    assert first.exec() == 5 + 5
    assert second.exec() == 2 * (6 + 2)  # a column has gone since
    assert [tuple(model[i].weight.shape) for i in (0, 2, 4)] == [(5, 4), (3, 5), (2, 3)]


def test_earlier_plan_of_the_same_layer_means_the_same_channels() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    weight = model[0].weight.detach().clone()
    graph = Graph().build_dependency(model, torch.randn(1, 4))
    first = graph.get_pruning_plan(model[0], pruning.prune_linear, [1, 2])
    second = graph.get_pruning_plan(model[2], pruning.prune_related_linear, [0, 4])
    first.exec()
    assert second.exec() == 2 * 7
    assert second.rows[0].idxs == [0, 2]
    assert torch.equal(model[0].weight, weight[[3, 5]])


def test_plan_is_carried_out_once() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    graph = Graph().build_dependency(model, torch.randn(1, 4))
    plan = graph.get_pruning_plan(model[0], pruning.prune_linear, [1, 5])
    other = graph.get_pruning_plan(model[0], pruning.prune_linear, [5])
    text = str(plan)
    plan.exec()
    assert str(plan) == text
    for stale, units in ((plan, r"\[1, 5\]"), (other, r"\[5\]")):
        for use in (stale.exec, stale.check, lambda stale=stale: stale.exec(dry_run=True)):
            with pytest.raises(StalePlanError, match=f"plan for 0 removes units {units} of .*, which have gone"):
                use()
    assert model[0].out_features == 4


def test_earlier_plan_by_lanes_is_refused_when_lanes_have_moved() -> None:
    model = Grouped().eval()
    graph = Graph().build_dependency(model, torch.randn(2, 3, 8, 8))
    by_lanes = graph.get_pruning_plan(model.stem, pruning.prune_conv, [0, 4, 8, 9])
    other = graph.get_pruning_plan(model.head, pruning.prune_conv, [])
    graph.get_pruning_plan(model.grouped, pruning.prune_group_conv, [0, 1]).exec()
    with pytest.raises(StalePlanError, match=r"lane by lane.*get the plan again"):
        by_lanes.exec()
    assert other.exec() == 0
    assert model.stem.out_channels == 9


def test_earlier_plan_may_leave_nothing_over() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    graph = Graph().build_dependency(model, torch.randn(1, 4))
    first, second = (graph.get_pruning_plan(model[0], pruning.prune_linear, idxs) for idxs in ([0, 1], [2]))
    first.exec()
    with pytest.raises(StalePlanError, match="nothing would be left"):
        second.exec()
    assert model[0].out_features == 1


# ---------------------------------------------------------------- saving, training


def test_pruned_model_is_saved_as_a_whole(tmp_path: Path) -> None:
    model, inputs = small_vit().eval(), torch.randn(2, 3, 32, 32)
    graph = Graph().build_dependency(model, inputs)
    attention = model.encoder.layers[0].self_attention
    graph.get_pruning_plan(attention.out_proj, pruning.prune_related_linear, range(6)).exec()
    graph.get_pruning_plan(model.encoder.layers[1].mlp[0], pruning.prune_linear, [3, 4]).exec()
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(inputs), model(inputs))
    assert isinstance(loaded.encoder.layers[0].self_attention, nn.MultiheadAttention)
    assert loaded.encoder.layers[0].self_attention.num_heads == 3
    # What was loaded is a model like any other.
    again = Graph().build_dependency(loaded, inputs)
    assert again.get_pruning_plan(loaded.encoder.layers[1].mlp[0], pruning.prune_linear, [0]).exec() > 0
    assert loaded(inputs).shape == model(inputs).shape


@pytest.mark.parametrize("build", [Concatenated, Grouped])
def test_pruned_model_is_saved_in_both_ways(build: Any, tmp_path: Path) -> None:
    model, inputs = build().eval(), torch.randn(2, 3, 8, 8)
    graph = Graph().build_dependency(model, inputs)
    first = next(iter(model.children()))
    graph.get_pruning_plan(first, pruning.prune_conv, [1, 3] if build is Concatenated else [0, 3, 6, 9]).exec()
    torch.save(model, tmp_path / "whole.pt")
    torch.save(model.state_dict(), tmp_path / "tensors.pt")
    loaded = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert torch.equal(loaded(inputs), model(inputs))
    for parameter in loaded.parameters():
        parameter.data.zero_()
    loaded.load_state_dict(torch.load(tmp_path / "tensors.pt", weights_only=True))
    assert torch.equal(loaded(inputs), model(inputs))


def test_training_goes_on_with_the_same_optimizer() -> None:
    model, tokens = Shared(), torch.randint(0, 11, (2, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def loss() -> Tensor:
        return model(tokens).square().mean()

    before = loss()
    before.backward()
    optimizer.step()
    graph = Graph().build_dependency(model, tokens)
    plan = graph.get_pruning_plan(model.head, pruning.prune_related_linear, [0, 3])
    assert plan.exec(optimizer) == 2 * 11 + 6 * 6 - 4 * 4 + 2
    assert {tuple(state["exp_avg"].shape) for state in optimizer.state.values()} == {(11, 4), (4, 4), (4,)}
    old = model.layer.weight.detach().clone()
    loss().backward()
    optimizer.step()
    assert model.layer.weight.shape == (4, 4)
    assert not torch.equal(model.layer.weight, old)
