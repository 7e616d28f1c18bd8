"""The criterion "reconstruction" against what removing and solving anew really costs."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.recovery.models import MODELS, GatedBlock, settled
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning.errors import CalibrationError
from torch_pruning.recovery import ReconstructionScore


def lost(rows: Tensor, outputs: Tensor, kept: list[int]) -> float:
    """The share of the variance of the outputs that the kept columns cannot explain. Rows [N, I], outputs [N, O]."""
    rows, outputs = rows - rows.mean(0), outputs - outputs.mean(0)
    solution = torch.linalg.lstsq(rows[:, kept], outputs).solution
    return float((outputs - rows[:, kept] @ solution).square().sum() / outputs.square().sum())


def scores_of(net: nn.Module, x: Tensor, name: str, **options: float) -> Tensor:
    graph = tp.build_graph(net, [tp.Example(x[:2])])
    (group,) = (group for group in graph.groups if group.name == name)
    return ReconstructionScore(graph, x.split(50), **options)(group, {})


def test_the_first_removal_costs_what_the_regression_says() -> None:
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4)).double()
    x = torch.randn(200, 6).double()
    rows = net[1](net[0](x)).detach()
    outputs = net[2](rows).detach()
    alone = torch.tensor([lost(rows, outputs, [i for i in range(10) if i != unit]) for unit in range(10)])
    (scores,) = scores_of(net, x, "0", damping=1e-12)
    assert int(scores.argmin()) == int(alone.argmin())
    assert float(scores.min()) == pytest.approx(float(alone.min()), rel=1e-6)


def test_removals_one_after_another_cost_what_they_cost_together() -> None:
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4)).double()
    x = torch.randn(200, 6).double()
    rows = net[1](net[0](x)).detach()
    outputs = net[2](rows).detach()
    (scores,) = scores_of(net, x, "0", damping=1e-12)
    order = scores.argsort().tolist()
    together = [lost(rows, outputs, sorted(order[gone:])) for gone in range(1, 8)]
    assert scores.sort().values.cumsum(0)[:7].tolist() == pytest.approx(together, rel=0.02)
    # Near the best of all choices of four, and far from the worst.
    losses = sorted(lost(rows, outputs, list(kept)) for kept in itertools.combinations(range(10), 6))
    assert together[3] < losses[len(losses) // 20]


def test_a_unit_that_another_repeats_costs_nothing_and_its_twin_does() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1)).double()
    net[0].weight.data[5] = 2 * net[0].weight.data[1]
    net[0].bias.data[5] = 2 * net[0].bias.data[1]
    net[0].weight.data[5] *= 1
    x = torch.randn(100, 3, 8, 8).double()
    (scores,) = scores_of(net, x, "0", damping=1e-9)
    ranked = scores.argsort().tolist()
    assert ranked[0] in (1, 5)
    assert float(scores[ranked[0]]) < 1e-6
    assert float(scores[ranked[1]]) > 1e-4


def test_lanes_choose_for_themselves() -> None:
    """Head dims of values: each head loses the one that its own others repeat."""
    block = GatedBlock(width=16, heads=4, groups=4).double()
    block.v.weight.data[2] = block.v.weight.data[0]  # head 0: dims 0 and 2
    block.v.weight.data[3 + 4] = block.v.weight.data[1 + 4]  # head 1: dims 1 and 3
    x = torch.randn(60, 8, 16).double()
    graph = tp.build_graph(block, [tp.Example(x[:2])])
    (group,) = (g for g in graph.groups if any(m.tensor == "o.weight" for m in g.members) and g.size == 4 and g.lanes)
    scores = ReconstructionScore(graph, x.split(20), damping=1e-9)(group, {})
    assert scores.shape == (4, 4)
    assert int(scores[0].argmin()) in (0, 2)
    assert int(scores[1].argmin()) in (1, 3)
    assert scores[:2].min(1).values.max() < 1e-6
    assert scores[2:].min() > 1e-5


def test_channels_of_groups_of_a_convolution_choose_for_themselves() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2)).double()
    net[0].weight.data[3], net[0].bias.data[3] = net[0].weight.data[0], net[0].bias.data[0]
    net[0].weight.data[6], net[0].bias.data[6] = net[0].weight.data[5], net[0].bias.data[5]
    x = torch.randn(50, 3, 6, 6).double()
    graph = tp.build_graph(net, [tp.Example(x[:2])])
    (group,) = (g for g in graph.groups if g.size == 4)
    scores = ReconstructionScore(graph, [x], damping=1e-9)(group, {})
    assert int(scores[0].argmin()) in (0, 3)
    assert int(scores[1].argmin()) in (1, 2)
    assert scores.min(1).values.max() < 1e-6


def test_consumers_are_summed() -> None:
    """A unit that only one of two readers needs is needed."""

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x))
            return self.a(x) * self.b(x)

    net = Forked().double()
    net.a.weight.data[:, :3] = 0
    net.b.weight.data[:, 2:] = 0
    x = torch.randn(100, 4).double()
    (scores,) = scores_of(net, x, "first", damping=1e-9)
    net.b.weight.data[:, 0] = 0
    (without,) = scores_of(net, x, "first", damping=1e-9)
    assert float(without[0]) < 1e-9
    assert float(scores[0]) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_every_group_gets_finite_scores_and_recovers_better_than_at_random(name: str) -> None:
    make, inputs = MODELS[name]
    x = inputs()
    model = settled(make(), x)
    with torch.no_grad():
        dense = model(x)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    errors = {}
    for importance in ("random", "reconstruction"):
        pruned = make()
        pruned.load_state_dict(state)
        tp.prune(pruned.eval(), x[:2], pruning_ratio=0.4, importance=importance, calibration=x.split(8))
        with torch.no_grad():
            errors[importance] = float((pruned(x) - dense).square().mean())
    assert errors["reconstruction"] < errors["random"]
    assert all(tensor.equal(state[key]) for key, tensor in model.state_dict().items())


def test_the_name_needs_calibration_inputs_and_an_iterator_is_read_once() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(64, 4)
    with pytest.raises(CalibrationError, match="pass calibration="):
        tp.plan(net, x[:1], pruning_ratio=0.5, importance="reconstruction")
    report = tp.prune(net, x[:1], pruning_ratio=0.5, importance="reconstruction", calibration=iter(x.split(16)))
    assert [row.rows for row in report.recovery.solved] == [64]
    assert "weights solved for" in str(report)


def test_steps_recover_each_time() -> None:
    """Four steps, each solved for anew in the coordinates that the one before left."""
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(200, 6)
    with torch.no_grad():
        dense = net(x)
    options = {"importance": "reconstruction", "pruning_ratio": 0.5}
    pruner = tp.Pruner(net, x[:1], calibration=x.split(50), **options)
    solved = [len(step.report.recovery.solved) for step in pruner.steps(3)]
    assert solved == [2, 2, 2]
    assert [layer.out_features for layer in (net[0], net[2])] == [8, 8]
    with torch.no_grad():
        assert (net(x) - dense).square().mean() < 0.05 * dense.var()
    single = tp.Pruner(net, x[:1], pruning_ratio=0.5).step(calibration=[x])
    assert single.report.recovery is not None
    assert tp.Pruner(net, x[:1], pruning_ratio=0.5).step().report.recovery is None


def test_with_few_rows_units_are_not_taken_for_replaceable_that_only_seem_so() -> None:
    """Independent units, not many more rows than units: what counts is what a unit contributes, as nothing can stand
    in. In the sample others seem to; rows held out tell that they do not."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(48, 48, bias=False), nn.Linear(48, 8)).double()
    net[0].weight.data.copy_(torch.eye(48))
    net[1].weight.data.mul_(torch.linspace(0.5, 1.5, 48))
    energy = net[1].weight.detach().square().sum(0)
    x = torch.randn(80, 48).double()

    def lost(**options: float) -> float:
        """Of the twelve that go first, beyond what the best twelve lose."""
        (scores,) = scores_of(net, x, "0", **options)
        return float(energy[scores.argsort()[:12]].sum() / energy.sort().values[:12].sum()) - 1

    assert lost() < 0.1
    assert lost(damping=1e-6) > 2 * lost()


def test_damping_does_not_count_as_a_loss() -> None:
    """However strong it is, removing a unit alone costs at most what the unit contributes."""
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4)).double()
    x = torch.randn(200, 6).double()
    rows = net[1](net[0](x)).detach()
    variance = net[2](rows).detach().var(0, correction=0).sum()
    alone = net[2].weight.detach().square().sum(0) * rows.var(0, correction=0) / variance
    (scores,) = scores_of(net, x, "0", damping=1e6)
    assert float(scores.min()) == pytest.approx(float(alone.min()), rel=1e-3)


def test_what_reads_only_ignored_axes_is_not_looked_at() -> None:
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(50, 6)
    whole = ReconstructionScore(net, [x], example_inputs=x[:2])
    part = ReconstructionScore(net, [x], example_inputs=x[:2], ignore=["0"])
    assert set(whole.inputs) == {"2.weight", "4.weight"}
    assert set(part.inputs) == {"4.weight"}
    plans = [tp.plan(net, x[:2], pruning_ratio=0.5, importance=score, ignore=["0"]).kept for score in (whole, part)]
    assert plans[0] == plans[1]
