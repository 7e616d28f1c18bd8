"""Biases that recovery creates: they are in the report, in the plan and in what is saved, and go when it is undone."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

import torch_pruning as tp
from torch_pruning import recovery
from torch_pruning.errors import StalePlanError


def fresh() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 2, bias=False)
    )


X = torch.randn(64, 4)


def recovered() -> tuple[nn.Sequential, tp.Plan, recovery.RecoveryReport]:
    net = fresh()
    plan = tp.plan(net, X[:1], pruning_ratio=0.5)
    return net, plan, recovery.compensate_mean(plan, [X])


def test_report_and_plan_name_them() -> None:
    _, plan, report = recovered()
    assert report.biases == ("2", "4")
    assert "2: has a bias now" in report.summary()
    assert plan.biases == {"2": 4, "4": 2}
    assert "2: gets a bias" in plan.summary()


def test_a_saved_plan_makes_room_for_the_state_dict_of_the_recovered_model() -> None:
    net, plan, _ = recovered()
    other = fresh()
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    tp.Plan.from_json(plan.to_json()).exec(optimizer, model=other)
    assert other[2].bias.equal(torch.zeros(4))
    assert any(parameter is other[2].bias for parameter in optimizer.param_groups[0]["params"])
    other.load_state_dict(net.state_dict())
    assert other(X).equal(net(X))


def test_a_saved_model_is_loaded_into_a_fresh_one() -> None:
    net, _, _ = recovered()
    file = io.BytesIO()
    tp.save(net, file)
    file.seek(0)
    assert tp.load(file, model=fresh())(X).equal(net(X))


def test_a_plan_is_refused_where_there_is_no_room_and_nothing_is_touched() -> None:
    _, plan, _ = recovered()
    other = fresh()
    other[4] = nn.Linear(8, 2)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(StalePlanError, match=r"created for 4, .* found Linear with a bias"):
        tp.Plan.from_json(plan.to_json()).exec(model=other)
    assert other[2].bias is None
    assert all(before[name].equal(tensor) for name, tensor in other.state_dict().items())


def test_a_step_that_is_taken_back_takes_its_biases_along() -> None:
    net = fresh()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    pruner = tp.Pruner(net, X[:1], pruning_ratio=0.5, optimizer=optimizer, calibration=[X], recovery="mean")
    for _ in pruner.steps(2, metric=lambda model: model[0].out_features, allowed=2):
        pass
    assert (net[0].out_features, pruner.current_step) == (6, 1)
    assert net[2].bias.shape == (6,)
    assert len(optimizer.param_groups[0]["params"]) == 6
    pruner = tp.Pruner(net, X[:1], pruning_ratio=0.5, optimizer=optimizer, calibration=[X], recovery="mean")
    for _ in pruner.steps(1, metric=lambda model: model[0].out_features):
        pass
    assert pruner.current_step == 0
    assert tp.plan(pruner.graph, pruning_ratio=0.5).after.parameters < sum(p.numel() for p in net.parameters())


def test_a_first_step_that_is_taken_back_leaves_no_bias() -> None:
    net = fresh()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    pruner = tp.Pruner(net, X[:1], pruning_ratio=0.5, optimizer=optimizer, calibration=[X], recovery="mean")
    for _ in pruner.steps(1, metric=lambda model: model[0].out_features):
        pass
    assert net[2].bias is None
    assert len(optimizer.param_groups[0]["params"]) == 4
    plan = tp.plan(pruner.graph, pruning_ratio=0.5)
    assert "2.bias" not in plan.shapes
    plan.exec(optimizer)
    net(X).sum().backward()
    optimizer.step()
