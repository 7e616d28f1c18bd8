"""Buffers that never run, but are copies of those beside them that do."""

import pytest
import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.trace.tracer import Example


class Scaled(nn.Module):
    """A layer whose output is multiplied by a buffer; `kept` is what the model could go back to."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("factor", torch.arange(6.0) + 1)
        self.register_buffer("kept", kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x) * self.factor)


def graph_of(model: nn.Module) -> Graph:
    return build_graph(model, [Example(torch.randn(2, 4))])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_copy_follows_its_original(device: str) -> None:
    (group,) = graph_of(Scaled(torch.arange(6.0) + 1).to(device)).groups
    assert {"factor", "kept"} < {member.tensor for member in group.members}


@pytest.mark.parametrize(
    "kept",
    [torch.zeros(6), (torch.arange(6) + 1).int(), torch.arange(1.0, 7.0).view(1, 6)],
    ids=["values", "type", "rank"],
)
def test_what_differs_is_no_copy(kept: Tensor) -> None:
    graph = graph_of(Scaled(kept))
    assert not graph.groups
    assert {row.reason for row in graph.frozen() if row.tensor == "kept"} == {"kept never ran in any trace"}


def test_a_copy_of_two_is_a_copy_of_neither() -> None:
    class Two(Scaled):
        def __init__(self) -> None:
            super().__init__(torch.arange(6.0) + 1)
            self.register_buffer("shift", torch.arange(6.0) + 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x) * self.factor + self.shift)

    assert not graph_of(Two()).groups


def test_parameters_are_never_taken_for_copies() -> None:
    class Parameters(Scaled):
        def __init__(self) -> None:
            super().__init__(torch.arange(6.0) + 1)
            self.factor = nn.Parameter(self._buffers.pop("factor"))
            self.kept = nn.Parameter(self._buffers.pop("kept"))

    assert not graph_of(Parameters()).groups


def test_the_model_can_go_back_to_the_copy() -> None:
    from torch_pruning.pruner.plan import plan

    model = Scaled(torch.arange(6.0) + 1)
    plan(graph_of(model), pruning_ratio=0.5).exec()
    before = model(torch.ones(1, 4))
    model.factor = model.kept
    assert torch.equal(model(torch.ones(1, 4)), before)
    assert model.kept.shape == (3,)
