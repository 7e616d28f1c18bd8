"""Sizes that no trace can see: the check refuses the plan, and `tp.prune` leaves alone what it proves."""

import copy

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import CheckError
from torch_pruning.graph.graph import build_graph
from torch_pruning.planning.settled import ATTEMPTS, carried_out
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models


class Between(nn.Module):
    """Two hidden layers, of which the first has something done to it; that is at a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        h = self.something(h)
        return self.c(self.b(h).relu())

    def something(self, h: Tensor) -> Tensor:
        raise NotImplementedError


class FloatOnTheLeft(Between):
    def something(self, h: Tensor) -> Tensor:
        return h * (1.0 / h.shape[-1])


class LoopOverRange(Between):
    def something(self, h: Tensor) -> Tensor:
        for _ in range(h.shape[-1] | 0):
            h = h + 1
        return h


class TableByName(Between):
    def something(self, h: Tensor) -> Tensor:
        return h * {"8": 2.0}[format(h.shape[-1])]


class Steered(Between):
    def something(self, h: Tensor) -> Tensor:
        return h.sin() if h.shape[-1] | 0 == 8 else h.cos()


@pytest.mark.parametrize("model", [FloatOnTheLeft, LoopOverRange, TableByName, Steered], ids=lambda cls: cls.__name__)
def test_what_the_check_proves_is_left_alone(model: type[nn.Module]) -> None:
    net, x = model().eval(), torch.randn(3, 6)
    dense = copy.deepcopy(net)
    graph = build_graph(net, [Example(x)])
    with pytest.raises(CheckError):
        tp.plan(graph, pruning_ratio=0.5).exec()
    report = tp.prune(net, x, pruning_ratio=0.5)
    assert [group.name for group in report.plan.groups] == ["b"]
    assert tuple(net.a.weight.shape) == (8, 6)
    assert tuple(net.b.weight.shape) == (6, 8)
    assert tp.verify(dense, report.plan, x).exact


def test_the_reason_is_listed() -> None:
    graph = build_graph(FloatOnTheLeft().eval(), [Example(torch.randn(3, 6))])
    tp.prune(graph, None, pruning_ratio=0.5)
    (row,) = [row for row in graph.frozen() if (row.tensor, row.dim) == ("a.weight", 0)]
    assert "works with a number that changed" in row.reason
    assert "something" in row.reason


def test_a_refusal_that_names_nothing_is_final() -> None:
    graph = build_graph(FloatOnTheLeft().eval(), [Example(torch.randn(3, 6))])

    def refuse(plan: tp.Plan) -> None:
        raise CheckError("no reason")

    with pytest.raises(CheckError, match="no reason"):
        carried_out(graph, lambda: tp.plan(graph, pruning_ratio=0.5), refuse)
    assert len(graph.groups) == 2


def test_a_model_that_goes_on_refusing_is_given_up() -> None:
    layers = [nn.Linear(4, 4) for _ in range(ATTEMPTS + 4)]
    graph = build_graph(nn.Sequential(*layers), [Example(torch.randn(3, 4))])
    count = len(graph.groups)

    def refuse(plan: tp.Plan) -> None:
        raise CheckError("once more", [graph.groups[0].axis])

    with pytest.raises(CheckError, match="once more"):
        carried_out(graph, lambda: tp.plan(graph, pruning_ratio=0.5), refuse)
    assert len(graph.groups) == count - ATTEMPTS + 1
