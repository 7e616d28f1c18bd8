"""Distillation losses against their formulas; features are those of the units that both models have."""

import copy

import pytest
import torch
from torch import nn

import torch_pruning as tp
from torch_pruning.errors import CalibrationError
from torch_pruning.recovery import distillation_loss, match_features


def test_logits_by_the_formula() -> None:
    student, teacher = torch.randn(3, 5, 7).double(), torch.randn(3, 5, 7).double().requires_grad_()
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    found = distillation_loss(student.requires_grad_(), teacher, temperature=3.0)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0, check_dtype=False)
    found.backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize(("other", "temperature"), [(torch.zeros(2, 4), 2.0), (torch.zeros(2, 3), 0.0)])
def test_what_cannot_be_compared_is_refused(other: torch.Tensor, temperature: float) -> None:
    with pytest.raises(ValueError, match="must"):
        distillation_loss(torch.zeros(2, 3), other, temperature)


def test_features_are_matched_through_the_kept_units() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(6 * 16, 4)).double()
    teacher, x = copy.deepcopy(net), torch.randn(5, 3, 6, 6).double()
    plan = tp.plan(net, x[:1], pruning_ratio=0.5, importance="random")
    plan.exec()
    with match_features(plan, net, teacher) as features:
        net(x)
        teacher(x)
        assert list(features.kept) == ["0", "2"]
        found = features.loss()
        with pytest.raises(CalibrationError, match="run both"):
            features.loss()
    first = teacher[0](x)[:, list(plan.kept["0.weight"][0])]
    torch.testing.assert_close(net[0](x), first)  # the first layer only lost rows
    second = teacher[:3](x)[:, list(plan.kept["2.weight"][0])]
    expected = (net[:3](x) - second).square().sum() / second.square().sum() / 2
    torch.testing.assert_close(found, expected)
    assert not any(module._forward_hooks for model in (net, teacher) for module in model.modules())


def test_hooks_are_gone_after_an_error_and_other_layers_are_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    teacher, x = copy.deepcopy(net), torch.randn(5, 4)
    plan = tp.plan(net, x[:1], pruning_ratio=0.5)
    plan.exec()

    def fails() -> None:
        with match_features(plan, net, teacher, layers=["0", "2"]) as features:
            assert list(features.kept) == ["0", "2"]
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not any(module._forward_hooks for model in (net, teacher) for module in model.modules())
    with pytest.raises(ValueError, match="found ReLU at '1'"), match_features(plan, net, teacher, layers=["1"]):
        pass


def test_a_step_on_both_losses_brings_the_student_nearer() -> None:
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    teacher, x = copy.deepcopy(net), torch.randn(64, 4)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    plan = tp.plan(net, x[:1], pruning_ratio=0.5)
    plan.exec(optimizer)
    losses = []
    with match_features(plan, net, teacher) as features:
        for _ in range(30):
            optimizer.zero_grad()
            loss = distillation_loss(net(x), teacher(x)) + features.loss()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
