"""Several steps to one budget: where each ends, what the optimizer does meanwhile, and how a bad step is taken back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import BudgetError
from torch_pruning.pruner.snapshot import Snapshot
from torch_pruning.trace.substitute import named_tensors

X = torch.randn(8, 4)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 3))


def widths(model: nn.Sequential) -> tuple[int, int]:
    return model[0].out_features, model[2].out_features


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor = X) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [(35, 18), (30, 15), (25, 13), (20, 10)]),
        ("cubic", [(28, 14), (23, 11), (20, 10), (20, 10)]),
        (lambda done: done**2, [(39, 19), (35, 18), (29, 14), (20, 10)]),
        ([0.1, 0.2, 0.2, 0.5], [(36, 18), (32, 16), (32, 16), (20, 10)]),
    ],
)
def test_ratios_refer_to_the_start(schedule: Any, expected: list[tuple[int, int]]) -> None:
    model = network()
    pruner = tp.Pruner(model, X, pruning_ratio=0.5, schedule=schedule)
    found = [widths(model) for _ in pruner.steps(4)]
    # Half a unit is kept.
    assert found == expected


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_many_steps_end_where_one_does(scope: str) -> None:
    removed = []
    for steps in (1, 5):
        model = network()
        for _ in tp.Pruner(model, X, pruning_ratio=0.4, scope=scope).steps(steps):
            pass
        removed.append(60 - sum(widths(model)))
    assert removed == [24, 24]


@pytest.mark.parametrize("kind", ["macs", "params", "memory"])
@pytest.mark.parametrize("scope", ["local", "global", "cost"])
def test_budgets_are_met_step_by_step(kind: str, scope: str) -> None:
    model = network()
    pruner = tp.Pruner(model, X, scope=scope, **{kind: 0.6})
    dense = pruner.start.costs[kind]
    for step in pruner.steps(4):
        share = {
            "macs": lambda: pruner.graph.cost().macs,
            "params": lambda: pruner.graph.cost().parameters,
            "memory": lambda: type(pruner.start).of(pruner.graph).costs["memory"],
        }[kind]() / dense
        assert share <= 1 - 0.1 * step.number + 1e-9
        assert share > 1 - 0.1 * step.number - 0.05
    assert pruner.current_step == 4


def test_absolute_budgets_start_from_the_whole_model() -> None:
    model = network()
    found = [step.report.after.parameters for step in tp.Pruner(model, X, params=583).steps(2)]
    assert 833 >= found[0] > 800
    assert 583 >= found[1] > 560


def test_max_pruning_ratio_refers_to_the_start() -> None:
    model = network()
    for _ in tp.Pruner(model, X, macs=0.4, scope="global", max_pruning_ratio=0.5).steps(3):
        pass
    assert widths(model)[0] >= 20
    assert widths(model)[1] >= 10
    pruner = tp.Pruner(network(), X, macs=0.1, max_pruning_ratio=0.5)
    with pytest.raises(BudgetError, match="lowest reachable"):
        for _ in pruner.steps(3):
            pass


def test_the_optimizer_follows() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer)
    for _ in tp.Pruner(model, X, macs=0.5, optimizer=optimizer).steps(3):
        train(model, optimizer)
        for parameter in model.parameters():
            assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape


def test_steps_that_are_over_are_over() -> None:
    pruner = tp.Pruner(network(), X, pruning_ratio=0.5)
    pruner.step()
    with pytest.raises(RuntimeError, match="all 1 steps are done"):
        pruner.step()
    assert list(pruner.steps()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "sudden"}, "schedule must be one of"),
        ({"schedule": [0.1, 0.2]}, "must end in the budget itself"),
        ({"schedule": []}, "must end in the budget itself"),
        ({"schedule": 3}, "must end in the budget itself"),
    ],
)
def test_bad_schedules_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tp.Pruner(network(), X, pruning_ratio=0.5, **options)


def test_a_list_of_budgets_takes_as_many_steps() -> None:
    assert len(list(tp.Pruner(network(), X, pruning_ratio=0.5, schedule=[0.2, 0.5]).steps())) == 2
    with pytest.raises(ValueError, match="takes as many steps"):
        tp.Pruner(network(), X, pruning_ratio=0.5, schedule=[0.2, 0.5]).step(3)
    with pytest.raises(ValueError, match=r"must stay in \[0, 1\]"):
        tp.Pruner(network(), X, pruning_ratio=0.5, schedule=lambda done: 4 * done).step(3)


# ---------------------------------------------------------------- taking a step back


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """All that a roll-back must bring back, as copies; identities as numbers."""
    state: dict[str, Any] = {}
    for name, tensor in named_tensors(model):
        state[name] = (id(tensor), tensor.detach().clone(), None if tensor.grad is None else tensor.grad.clone())
        for key, entry in optimizer.state.get(tensor, {}).items():
            state[f"{name} {key}"] = copy.deepcopy(entry)
    for path, module in model.named_modules():
        state[f"{path} class"] = type(module)
        state[f"{path} numbers"] = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, tuple))}
    state["settings"] = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return state


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


class WithAttention(nn.Module):
    """A stock attention layer, whose class and attributes surgery changes, and a batch norm, which has buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.norm, self.down = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(self.norm(self.up(x).transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("make", [torch.optim.Adam, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_roll_back_restores_everything_and_the_way_goes_on(make: Any) -> None:
    model, x = WithAttention(), torch.randn(3, 5, 16)
    optimizer = make(model.parameters())
    train(model, optimizer, x)
    graph = tp.build_graph(model, [tp.Example(x)])
    tp.plan(graph, pruning_ratio=0.25).exec(optimizer)
    train(model, optimizer, x)
    before, cost = everything(model, optimizer), graph.cost()
    expected = tp.plan(graph, pruning_ratio=0.5).to_json()
    snapshot = Snapshot(graph, [optimizer])
    for _ in range(2):
        plan = tp.plan(graph, pruning_ratio=0.5)
        assert plan.to_json() == expected
        plan.exec(optimizer)
        train(model, optimizer, x)
        optimizer.param_groups[0]["lr"] = 0.5
        assert graph.cost() != cost
        snapshot.restore()
        assert_same(before, everything(model, optimizer))
        assert graph.cost() == cost
    train(model, optimizer, x)
    tp.plan(graph, pruning_ratio=0.5).exec(optimizer)
    train(model, optimizer, x)


def test_steps_end_with_the_last_good_model() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    pruner = tp.Pruner(model, X, pruning_ratio=0.5, optimizer=optimizer)
    after: list[dict[str, Any]] = []
    for _ in pruner.steps(5, metric=lambda model: widths(model)[0] / 40, allowed=0.25):
        train(model, optimizer)
        after.append(everything(model, optimizer))
    # 36, 32, 28, 24: the third is below 40 - 10 and is taken back.
    assert len(after) == 3
    assert pruner.current_step == 2
    assert_same(after[1], everything(model, optimizer))
    train(model, optimizer)


def test_a_metric_that_is_no_number_ends_the_steps() -> None:
    model = network()
    values = iter([1.0, 1.0, float("nan")])
    pruner = tp.Pruner(model, X, pruning_ratio=0.5)
    assert len(list(pruner.steps(5, metric=lambda model: next(values)))) == 2
    assert widths(model) == (36, 18)


@pytest.mark.parametrize("penalty", [tp.GroupNormPenalty(reg=0.1), tp.GrowingPenalty(reg=0.1, delta_reg=0.05)])
def test_a_penalty_follows_the_steps(penalty: Any) -> None:
    model = network()
    pruner = tp.Pruner(model, X, pruning_ratio=0.5, penalty=penalty)
    assert pruner.regularizer is not None
    for _ in pruner.steps(2):
        pruner.regularizer.update()
        model.zero_grad()
        model(X).sum().backward()
        data = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        pruner.regularize()
        pushed = {name: parameter.grad - data[name] for name, parameter in model.named_parameters()}
        pruner.regularizer.loss().backward(inputs=list(model.parameters()))
        assert any(change.abs().max() > 1e-4 for change in pushed.values())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad - data[name], 2 * pushed[name])


def test_roll_back_brings_grown_strengths_back() -> None:
    model = network()
    pruner = tp.Pruner(model, X, pruning_ratio=0.5, penalty=tp.GrowingPenalty(reg=0.1, delta_reg=0.05))
    assert pruner.regularizer is not None
    pruner.regularizer.update()
    before = pruner.regularizer.state_dict()
    metrics = iter([1.0, 0.0])
    assert len(list(pruner.steps(2, metric=lambda _: next(metrics)))) == 1
    after = pruner.regularizer.state_dict()
    assert before.keys() == after.keys()
    for name, strengths in before.items():
        torch.testing.assert_close(after[name], strengths)
    pruner.regularize()


def test_a_pruner_without_a_penalty_says_so() -> None:
    with pytest.raises(RuntimeError, match="needs a penalty; found none"):
        tp.Pruner(network(), X, pruning_ratio=0.5).regularize()
