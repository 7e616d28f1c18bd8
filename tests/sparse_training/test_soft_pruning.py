"""Masks during the forward pass: the numbers of the pruned model, gradients that pass, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from sparse_models import MODELS, Recurrent, built
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torch_pruning as tp
from torch_pruning.axes.expression import Free
from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.pruner.allot import random_choice


def planned(graph: Graph, seed: int = 3) -> Plan:
    """Random units of every exact group, lanes included."""
    return build_plan(graph, random_choice(graph, 0.4, exact_only=True, seed=seed))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_masked_equals_pruned(name: str, straight_through: bool, training: bool) -> None:
    model, x, graph = built(name)
    model.train(training)
    plan = planned(graph)
    state = copy.deepcopy(model.state_dict())
    dense = model(x).detach()
    model.load_state_dict(state)  # training mode moved the running statistics
    with tp.SoftPruning(plan, straight_through=straight_through) as soft:
        masked = model(x).detach()
    model.load_state_dict(state)
    assert soft.harden().exec() > 0
    torch.testing.assert_close(masked, model(x), rtol=1e-9, atol=1e-11)
    assert (masked - dense).abs().max() > 1e-4 * dense.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_straight_through_reaches_what_is_masked(name: str) -> None:
    """The removed units of every group get a gradient somewhere, so that they can come back; else they get none."""
    model, x, graph = built(name)
    parameters = dict(model.named_parameters())

    def reached(straight_through: bool, axis: Free) -> list[str]:
        model.zero_grad()
        plan = build_plan(graph, {axis: random_choice(graph, 0.4, seed=3)[axis]})
        with tp.SoftPruning(plan, straight_through=straight_through) as soft:
            model(x).square().sum().backward()
        gradients = {name: parameters[name].grad for name in soft.masks}
        return [name for name, g in gradients.items() if g is not None and g[~soft.masks[name]].any()]

    for group in graph.groups:
        assert reached(True, group.axis), group
        assert not reached(False, group.axis), group


def test_straight_through_masks_consumers_where_that_is_enough() -> None:
    _, _, graph = built("flattened")
    assert tp.SoftPruning(planned(graph), straight_through=True).masks.keys() == {"head.weight"}
    _, _, graph = built("residual")  # one group on both dimensions of a weight
    masks = tp.SoftPruning(planned(graph), straight_through=True).masks
    assert masks.keys() == {"conv.weight", "head.weight"}


def test_what_shows_through_a_buffer_is_refused() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(1, 3)
            self.register_buffer("shift", torch.rand(6))

        def forward(self, x: Tensor) -> Tensor:
            return self.last((self.first(x) + self.shift).square().sum(-1, keepdim=True))

    model, x = Shifted(), torch.randn(2, 4)
    with pytest.raises(ValueError, match="units of first would still add what buffers hold"):
        tp.SoftPruning(tp.plan(model, x, pruning_ratio=0.5))


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_left_behind(name: str) -> None:
    model, x, graph = built(name)
    model.eval()
    state = copy.deepcopy(model.state_dict())
    before = model(x)
    identities = {key: id(p) for key, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    plan = planned(graph)
    with tp.SoftPruning(plan, straight_through=True):
        model(x)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert {key: id(p) for key, p in model.named_parameters()} == identities
        with pytest.raises(Exception):  # noqa: B017, PT011  (whatever the model says to nonsense)
            model(x[..., :1, :1])
        assert {key: id(p) for key, p in model.named_parameters()} == identities
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert torch.equal(model(x), before)


def test_units_come_back() -> None:
    """Another choice in the next epoch: entries that were masked are what the optimizer made of them meanwhile."""
    model, x, graph = built("flattened")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, second = planned(graph, 0), planned(graph, 5)
    assert first.kept != second.kept
    with tp.SoftPruning(first, straight_through=True) as soft:
        gone = ~soft.masks["head.weight"]
        before = model.head.weight[gone].clone()
        model(x).square().sum().backward()
        optimizer.step()
        assert (model.head.weight[gone] != before).any()
        soft.update(second)
        assert soft.harden() is second
        out = model(x)
        second.exec(optimizer)
        with pytest.raises(StalePlanError):
            soft.harden()
    torch.testing.assert_close(model(x), out, rtol=1e-9, atol=1e-11)


def test_checkpointed_blocks_are_masked_when_they_run_again() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, on: bool) -> None:
            super().__init__()
            self.on = on
            self.stem, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
            self.block = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = checkpoint(self.block, x, use_reentrant=False) if self.on else self.block(x)
            return self.head(x + y)

    found = []
    for on in (False, True):
        torch.manual_seed(0)
        model, x = Checkpointed(on).double(), torch.randn(5, 4, dtype=torch.float64)
        graph = tp.build_graph(model, [tp.Example(x)])
        with tp.SoftPruning(planned(graph)):
            model(x).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_plans_without_a_graph_are_refused() -> None:
    model, _, graph = built("recurrent")
    assert isinstance(model, Recurrent)
    with pytest.raises(ValueError, match="without its graph"):
        tp.SoftPruning(Plan.from_json(planned(graph).to_json()))
    with tp.SoftPruning(planned(graph)) as soft, pytest.raises(RuntimeError, match="on already"):
        soft.__enter__()
