"""Least squares, means and batch-norm statistics against closed forms, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning import recovery

EXACT = {"strengths": (0.0,), "held_out": 0.0}


def plan_of(net: nn.Module, x: Tensor, ratio: float = 0.5) -> tp.Plan:
    return tp.plan(net, x[:2], pruning_ratio=ratio, importance="random")


def kept(plan: tp.Plan, name: str, dim: int) -> list[int]:
    return list(plan.kept[name][dim])


def fitted(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(weight, bias) that minimise |rows weight^T + bias - targets|: rows [N, I], targets [N, O]."""
    ones = torch.ones(len(rows), 1, dtype=rows.dtype)
    solution = torch.linalg.lstsq(torch.cat([rows, ones], 1), targets).solution
    return solution[:-1].T, solution[-1]


def test_linear_is_the_regression_on_what_stays() -> None:
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 7)).double()
    x = torch.randn(200, 5).double()
    plan = plan_of(net, x)
    hidden = net[1](net[0](x))
    weight, bias = fitted(hidden[:, kept(plan, "2.weight", 1)], net[2](hidden))
    recovery.reconstruct(plan, x.split(64), **EXACT)
    torch.testing.assert_close(net[2].weight, weight, rtol=0, atol=1e-8)
    torch.testing.assert_close(net[2].bias, bias, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"padding": "same"},
        {"stride": 2, "padding": (2, 0)},
        {"dilation": 2, "padding": 2},
        {"groups": 2, "padding": 1},
        {"groups": 4, "stride": (1, 2)},
    ],
    ids=str,
)
def test_convolution_is_the_regression_on_its_patches(options: dict) -> None:
    first, second = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3, **options)
    net = nn.Sequential(first, nn.Tanh(), second).double()
    x = torch.randn(40, 2, 9, 9).double()
    plan = plan_of(net, x)
    dense = net(x)
    recovery.reconstruct(plan, x.split(16), **EXACT)
    inputs = net[1](net[0](x)).detach()
    # The error of a regression is orthogonal to what it regresses on: here to every input at every tap.
    error = (dense - net(x)).detach()
    weight = net[2].weight.detach().clone().requires_grad_()
    out = F.conv2d(inputs, weight, None, second.stride, second.padding, second.dilation, net[2].groups)
    (out * error).sum().backward()
    assert error.norm() > 1, "nothing is left to be orthogonal"
    assert weight.grad.abs().max() < 1e-8 * out.detach().norm() * error.norm()
    assert error.sum(dim=(0, 2, 3)).abs().max() < 1e-8 * error.abs().sum()


@pytest.mark.parametrize(
    ("rank", "options"),
    [
        (1, {}),
        (2, {}),
        (3, {"stride": 2}),
        (2, {"stride": 2, "padding": 1, "output_padding": 1}),
        (2, {"stride": (2, 1), "padding": (0, 2), "bias": False}),
        (2, {"dilation": 2, "stride": 2}),
    ],
    ids=str,
)
def test_transposed_convolution_is_the_regression_on_its_taps(rank: int, options: dict) -> None:
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    transposed = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[rank]
    net = nn.Sequential(convolution(2, 8, 3), nn.Tanh(), transposed(8, 3, 3, **options)).double()
    x = torch.randn(12, 2, *[5] * rank).double()
    plan = plan_of(net, x)
    dense = net(x)
    (row,) = recovery.reconstruct(plan, x.split(4), **EXACT).solved
    inputs = net[1](net[0](x)).detach()
    error = (dense - net(x)).detach()
    weight = net[2].weight.detach().clone().requires_grad_()
    bare = copy.deepcopy(net[2])
    torch.func.functional_call(bare, {"weight": weight}, inputs).mul(error).sum().backward()
    assert error.norm() > 1, "nothing is left to be orthogonal"
    assert weight.grad.abs().max() < 1e-8 * dense.detach().norm() * error.norm()
    assert row.after < row.before


def test_a_grouped_transposed_convolution_is_left_alone_and_named() -> None:
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.ConvTranspose2d(8, 4, 3, groups=2)).double()
    x = torch.randn(12, 2, 7, 7).double()
    report = recovery.reconstruct(plan_of(net, x), [x])
    assert not report.solved
    assert "conv_transpose2d" in report.refused[0].reason


class Experts(nn.Module):
    """A stack of weights, each for its own rows: a product, but not with one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.mixing = nn.Parameter(torch.randn(4, 16, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(torch.tanh(self.first(x)) @ self.mixing))


def test_a_stack_of_weights_is_left_alone_and_named() -> None:
    net = Experts().double()
    x = torch.randn(12, 4, 9, 6).double()
    report = recovery.reconstruct(plan_of(net, x), [x])
    assert [row.weight for row in report.solved] == ["last.weight"]
    assert [row.name for row in report.refused] == ["mixing"]


def test_one_dimensional_convolution_without_batch() -> None:
    net = nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 3, padding=1)).double()
    x = torch.randn(3, 100).double()
    plan = tp.plan(net, x, pruning_ratio=0.5)
    dense = net(x)
    recovery.reconstruct(plan, [x], **EXACT)
    rows = F.pad(net[1](net[0](x)), (1, 1)).unfold(1, 3, 1).transpose(0, 1).flatten(1)
    weight, bias = fitted(rows.detach(), dense.T.detach())
    torch.testing.assert_close(net[2].weight.flatten(1), weight, rtol=0, atol=1e-8)
    torch.testing.assert_close(net[2].bias, bias, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_units_that_are_linear_in_the_kept_ones_are_not_missed(kind: str) -> None:
    """Eight channels of rank four: whichever four of them stay (in general position), nothing is lost."""
    if kind == "linear":
        net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)).double()
        x = torch.randn(100, 4).double()
    else:
        net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 3, 3, bias=False)).double()
        net[0].bias.data.zero_()
        x = torch.randn(10, 4, 6, 6).double()
    dense = net(x)
    plan = plan_of(net, x)
    masked = copy.deepcopy(net)
    plan.exec(model=masked)
    assert (masked(x) - dense).norm() > 0.1 * dense.norm(), "pruning alone does no harm: nothing to show"
    recovery.reconstruct(plan, [x], **EXACT)
    torch.testing.assert_close(net(x), dense, rtol=0, atol=1e-8)


@pytest.mark.parametrize("bias", [True, False])
def test_means_make_up_for_constant_units(bias: bool) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3, bias=bias)).double()
    net[0].weight.data[::2] = 0  # every other unit is a constant, and the least important by its weights
    net[0].bias.data[::2] = torch.linspace(-0.02, 0.02, 4).double()
    net[2].weight.data[:, ::2] *= 1e-3
    x = torch.randn(50, 4).double()
    dense = net(x)
    plan = tp.plan(net, x[:1], pruning_ratio=0.5)
    assert kept(plan, "2.weight", 1) == [1, 3, 5, 7]
    recovery.compensate_mean(plan, x.split(20))
    torch.testing.assert_close(net(x), dense, rtol=0, atol=1e-12)
    assert net[2].bias is not None


def test_means_of_units_that_vary_go_into_the_bias() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    x = torch.randn(50, 4).double()
    plan = plan_of(net, x)
    contribution = net[1](net[0](x))[:, plan.removed["2.weight"][1]] @ net[2].weight[:, plan.removed["2.weight"][1]].T
    expected = net[2].bias + contribution.mean(0)
    weight = net[2].weight[:, kept(plan, "2.weight", 1)].clone()
    recovery.compensate_mean(plan, x.split(20))
    torch.testing.assert_close(net[2].bias, expected, rtol=0, atol=1e-12)
    assert net[2].weight.equal(weight)


def test_each_layer_is_solved_on_what_the_pruned_layers_before_give() -> None:
    net = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 3)).double()
    x = torch.randn(200, 8).double()
    dense = copy.deepcopy(net)
    plan = plan_of(net, x)
    recovery.reconstruct(plan, [x], **EXACT)
    hidden, wanted = net[1](net[0](x)), dense[:2](x)
    for n in (2, 4, 6):
        wanted = dense[n](wanted)
        rows = list(range(3)) if n == 6 else kept(plan, f"{n}.weight", 0)
        weight, bias = fitted(hidden.detach(), wanted[:, rows].detach())
        torch.testing.assert_close(net[n].weight, weight, rtol=0, atol=1e-8)
        torch.testing.assert_close(net[n].bias, bias, rtol=0, atol=1e-8)
        if n < 6:
            hidden, wanted = net[n + 1](net[n](hidden)), dense[n + 1](wanted)


class Twice(nn.Module):
    """One layer that is used at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 10), nn.Linear(3, 10)
        self.shared = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.shared(torch.tanh(self.first(x)))
        return self.shared(torch.relu(self.second(torch.tanh(x[:, :3])))) - y


def test_a_shared_consumer_is_solved_on_all_its_uses_together() -> None:
    net = Twice().double()
    x = torch.randn(100, 4).double()
    hidden = torch.cat([torch.tanh(net.first(x)), torch.relu(net.second(torch.tanh(x[:, :3])))])
    plan = plan_of(net, x)
    weight, bias = fitted(hidden[:, kept(plan, "shared.weight", 1)], net.shared(hidden))
    recovery.reconstruct(plan, x.split(50), **EXACT)
    torch.testing.assert_close(net.shared.weight, weight, rtol=0, atol=1e-8)
    torch.testing.assert_close(net.shared.bias, bias, rtol=0, atol=1e-8)


class Sum(nn.Module):
    """Two terms that read the same channels; the later one can make up for what the other lacks."""

    def __init__(self, normed: bool, in_place: bool) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.left, self.right = nn.Linear(12, 4), nn.Linear(12, 4, bias=not normed)
        self.norm = nn.BatchNorm1d(4) if normed else nn.Identity()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        left = self.left(x)
        right = self.norm(self.right(torch.relu(x)))
        if self.in_place:
            right += left
            return torch.relu(right)
        return torch.relu(left + right)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_the_last_term_of_a_sum_is_solved_for_the_sum(normed: bool, in_place: bool) -> None:
    net = Sum(normed, in_place).double().eval()
    if normed:
        net.norm.running_var.uniform_(0.5, 2)
        net.norm.weight.data.uniform_(-2, -1)
    x = torch.randn(300, 6).double()

    def terms() -> tuple[Tensor, Tensor]:
        """The sum before the last activation, and the inputs of its last term."""
        hidden = torch.tanh(net.first(x))
        return (net.left(hidden) + net.norm(net.right(torch.relu(hidden)))).detach(), torch.relu(hidden).detach()

    dense, _ = terms()
    plan = plan_of(net, x)
    recovery.reconstruct(plan, [x], clamps=False, **EXACT)
    found, inputs = terms()
    error = dense - found
    assert error.norm() > 0.1
    assert (inputs.T @ error).abs().max() < 1e-8
    assert error.sum(0).abs().max() < 1e-8


def test_statistics_of_batch_norm_are_those_of_all_batches() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).double()
    batches = torch.randn(4, 32, 3).double() * 3 + 1
    assert recovery.reestimate_batch_norm(net, batches.unbind()) == ["1"]
    hidden = net[0](batches)
    torch.testing.assert_close(net[1].running_mean, hidden.mean((0, 1)), rtol=0, atol=1e-12)
    torch.testing.assert_close(net[1].running_var, hidden.var(1).mean(0), rtol=0, atol=1e-12)
    assert net[1].momentum == 0.1


def test_a_shift_before_batch_norm_goes_into_its_mean() -> None:
    net = (
        nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)).double().eval()
    )
    net[3].running_mean.normal_()
    net[3].running_var.uniform_(1, 2)
    x = torch.randn(20, 2, 4, 4).double()
    dense = net(x)
    plan = plan_of(net, x)
    report = recovery.reconstruct(plan, [x], **EXACT)
    assert net[2].bias is None
    error = (net(x) - dense).mean((0, 2, 3))
    assert error.abs().max() < 1e-10
    assert report.batch_norms == ()


def test_rows_held_out_choose_the_strength() -> None:
    """With fewer rows than columns and noise in the targets, the weakest ridge fits noise: a stronger one is chosen."""
    net = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 20)).double()
    noisy = torch.randn(48, 40).double()
    plan = plan_of(net, noisy)
    chosen = recovery.reconstruct(plan, [noisy]).solved[-1]
    assert chosen.strength > 1e-5
    assert chosen.held_out_after < chosen.held_out_before


def test_without_a_place_for_a_shift_the_regression_goes_through_the_origin() -> None:
    """Without a place for a shift the regression goes through the origin."""
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 7, bias=False)).double()
    x = torch.randn(200, 5).double()
    plan = plan_of(net, x)
    hidden = net[1](net[0](x))
    expected = torch.linalg.lstsq(hidden[:, kept(plan, "2.weight", 1)], net[2](hidden)).solution.T
    recovery.reconstruct(plan, [x], **EXACT)
    assert net[2].bias is None
    torch.testing.assert_close(net[2].weight, expected, rtol=0, atol=1e-8)
