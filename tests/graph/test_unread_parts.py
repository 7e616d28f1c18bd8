"""What is cut off a tensor and read by nothing belongs to inputs that no example showed."""

import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.tracer import Example


class Positions(nn.Module):
    """A table of positions, added as far as the input is long."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)
        self.table = nn.Parameter(torch.randn(1, 20, 6))

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, 4)
        return self.down(self.up(x) + self.table[:, : x.shape[1]])


class Halves(nn.Module):
    """One weight for two layers, of which the second half of the outputs is thrown away after it was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 12), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).chunk(2, dim=-1)[0])


def test_positions_beyond_the_example_stay() -> None:
    model = Positions().eval()
    graph = build_graph(model, [Example(torch.randn(2, 5, 4))])
    (group,) = graph.groups
    assert {(member.tensor, member.dim) for member in group.members} == {
        ("up.weight", 0), ("up.bias", 0), ("table", 2), ("down.weight", 1)
    }  # fmt: skip
    tp.plan(graph, pruning_ratio=0.5).exec()
    assert model.table.shape == (1, 20, 3)
    assert model(torch.randn(2, 20, 4)).shape == (2, 20, 2)


def test_what_was_computed_and_thrown_away_was_read() -> None:
    graph = build_graph(Halves().eval(), [Example(torch.randn(2, 4))])
    assert [group.size for group in graph.groups] == [6, 6]


def test_what_one_of_two_examples_reads_was_read() -> None:
    class Tied(Positions):
        """Positions beyond the fifth meet units of a layer."""

        def __init__(self) -> None:
            super().__init__()
            self.mix, self.back = nn.Linear(6, 15), nn.Linear(15, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] < 6:
                return super().forward(x)
            return self.back(self.mix(self.up(x)) + (self.up(x) @ self.table[0, 5:].T))

    short, long = Example(torch.randn(2, 5, 4)), Example(torch.randn(2, 6, 4))
    sizes = {group.size for group in build_graph(Tied().eval(), [short], unused="ignore").groups}
    assert sizes == {6}
    sizes = {group.size for group in build_graph(Tied().eval(), [short, long]).groups}
    assert sizes == {6, 15}


class EndsEarly(nn.Module):
    """The first of some numbers is picked, and used where data have decided a shape and the trace is over."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 3)
        self.factors = torch.tensor([8.0, 16.0, 32.0])

    def forward(self, x: Tensor) -> Tensor:
        out = self.down(self.up(x))
        first = self.factors[0]
        return out[out > 0] * first * self.factors[1]


def test_what_was_picked_before_a_trace_ended_may_be_read_behind() -> None:
    with torch.device("meta"):  # there are no data that could decide
        graph = build_graph(EndsEarly().eval(), [Example(torch.randn(2, 4))])
    assert graph.programs[0].program.failure is not None
    assert [group.name for group in graph.groups] == ["up"]


def test_where_data_decide_a_trace_goes_on_with_real_tensors() -> None:
    graph = build_graph(EndsEarly().eval(), [Example(torch.randn(2, 4))])
    assert all(part.program.failure is None and part.program.kind == "real" for part in graph.programs)
    assert [group.name for group in graph.groups] == ["up"]


class AskedForItsType(nn.Module):
    """A mean whose operand a number is cast after: its values are read by the mean alone."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 6)
        self.factor = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        return x.mean(-1) * self.factor.type_as(x)


def test_who_asks_for_a_type_does_not_see_a_factor() -> None:
    model, x = AskedForItsType().eval(), torch.randn(2, 4)
    plan = tp.plan(model, x, pruning_ratio=0.5)
    assert plan.exact
    assert tp.verify(model, plan).exact
