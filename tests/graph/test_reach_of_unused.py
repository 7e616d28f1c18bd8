"""What never ran could depend on what it can get hold of, and on nothing else that merely has one of its sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.trace.tracer import Example


class Block(nn.Module):
    """Two layers around 12 units, which nobody outside sees."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Any:
        return self.down(self.up(x).relu())


class Returning(Block):
    """Gives its units out if it is asked to, and always computes what it would give."""

    def forward(self, x: Tensor) -> Any:
        inner = self.up(x).relu()
        return self.down(inner), {"inner": [inner]}


class OfConfig(Block):
    """Reads its width from an object that anybody may hold."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Any:
        inner = self.up(x).view(x.shape[0], self.config.width)
        return self.down(inner.relu())


class OfItsOwn(Block):
    """Reads its width from itself."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 12

    def forward(self, x: Tensor) -> Any:
        return self.down(self.up(x).view(x.shape[0], self.width).relu())


class Model(nn.Module):
    """A block that runs and a layer of 12 inputs that does not, unless it is asked for."""

    def __init__(self, block: nn.Module, reads_block: bool = False) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(4, 6), block, nn.Linear(6, 2)
        self.wide, self.extra = nn.Linear(4, 12), nn.Linear(12, 2)
        self.reads_block = reads_block

    def forward(self, x: Tensor, extra: bool = False) -> Tensor:
        out = self.block(self.stem(x))
        out = self.head(out[0] if isinstance(out, tuple) else out)
        return out + self.extra(self.wide(x)) if extra else out


def of_one_example(model: nn.Module) -> Graph:
    return build_graph(model.eval(), [Example((torch.randn(3, 4),))])


@pytest.mark.parametrize("block", [Block, OfItsOwn])
def test_what_lives_inside_a_module_is_out_of_reach(block: type[Block]) -> None:
    model = Model(block())
    graph = of_one_example(model)
    assert {group.name for group in graph.groups} == {"stem", "block.up", "block.down"}
    plan = tp.plan(graph, pruning_ratio=0.5)
    assert tp.verify(model, plan, (torch.randn(3, 4), True)).exact  # what never ran runs as it did
    plan.exec()
    assert model(torch.randn(3, 4), True).shape == (3, 2)


def _tied() -> nn.Module:
    model = Model(Block())
    model.extra.back = model.block.up.weight  # a part that never runs, of a module of which nothing runs
    return model


class Elements(nn.Module):
    """A list of modules that hand 12 units on; its code could collect them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)
        self.inner = nn.ModuleList([nn.Sequential(nn.Linear(12, 12), nn.ReLU()) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        for part in self.inner:
            x = x + part(x)
        return self.down(x)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Model(Returning()),
        lambda: Model(OfConfig(SimpleNamespace(width=12))),
        _tied,
        lambda: Model(Elements()),
    ],
    ids=["returned", "config", "tied", "elements"],
)
def test_what_the_code_around_can_get_hold_of_stays(build: Any) -> None:
    graph = of_one_example(build())
    reasons = {row.reason for row in graph.frozen() if (row.tensor, row.dim) == ("block.up.weight", 0)}
    assert reasons == {"a tensor beside it in the model never ran in any trace"}
    assert {group.name for group in graph.groups} == {"stem", "block.down"}


def test_what_never_ran_in_a_module_reaches_all_that_is_in_it() -> None:
    class Inside(Block):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(12))

        def forward(self, x: Tensor, shifted: bool = False) -> Tensor:
            return self.down(F.relu(self.up(x) + self.shift if shifted else self.up(x)))

    model = Model(Inside())
    del model.wide, model.extra
    graph = of_one_example(model)
    assert {group.name for group in graph.groups} == {"stem", "block.down"}
