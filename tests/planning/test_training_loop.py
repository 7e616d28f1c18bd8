"""Pruning in the middle of training: the same optimizer object goes on, gradients and momentum of kept units stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torch_pruning as tp
from torch_pruning.errors import OptimizerError

pytestmark = pytest.mark.ops


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def batch() -> torch.Tensor:
    return torch.randn(6, 3, 4, 4)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = model(batch()).square().mean()
    loss.backward()
    optimizer.step()
    return loss


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_with_the_same_optimizer_and_an_older_loss_alive(name: str) -> None:
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    held = [step(model, optimizer) for _ in range(3)]  # graphs of earlier losses stay referenced
    pending = model(batch()).square().mean()
    parameters = list(model.parameters())
    state = {key: copy.deepcopy(entry) for key, entry in optimizer.state[model[0].weight].items()}
    grad = model[0].weight.grad.clone()
    plan = tp.plan(model, batch(), pruning_ratio=0.5)
    gone = plan.removed["0.weight"][0]
    kept = [position for position in range(12) if position not in gone.tolist()]
    plan.exec(optimizer)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(model[0].weight.grad, grad[kept])
    for key, entry in state.items():
        now = optimizer.state[model[0].weight][key]
        expected = entry[kept] if isinstance(entry, torch.Tensor) and entry.dim() else entry
        assert torch.equal(torch.as_tensor(now), torch.as_tensor(expected)), key
    before = model[0].weight.detach().clone()
    held += [step(model, optimizer) for _ in range(3)]
    assert model[0].weight.shape == (6, 3, 3, 3)
    assert not torch.equal(before, model[0].weight)
    assert all(torch.isfinite(loss) for loss in (*held, pending))


def test_the_optimizer_does_what_one_on_the_small_model_would_have_done() -> None:
    """One more AdamW step after pruning equals that step computed by hand from the kept moments."""
    model = net().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    x = batch().double()
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    plan = tp.plan(model, x, pruning_ratio=0.5)
    plan.exec(optimizer)
    optimizer.zero_grad()
    model(x).square().mean().backward()
    weight = model[3].weight
    entry = optimizer.state[weight]
    m = 0.9 * entry["exp_avg"] + 0.1 * weight.grad
    v = 0.999 * entry["exp_avg_sq"] + 0.001 * weight.grad**2
    expected = weight - 1e-2 * (m / (1 - 0.9**3)) / ((v / (1 - 0.999**3)).sqrt() + 1e-8)
    optimizer.step()
    assert torch.allclose(weight, expected, rtol=1e-12, atol=1e-14)


def test_an_optimizer_that_was_not_told_is_found_out_before_it_changes_anything() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    tp.prune(model, batch(), pruning_ratio=0.5)
    weights = copy.deepcopy(model.state_dict())
    model(batch()).square().mean().backward()
    with pytest.raises(OptimizerError, match=r"pass the optimizer when pruning"):
        optimizer.step()
    assert all(
        torch.equal(weights[key], value)
        for key, value in model.state_dict().items()
        if "num_batches" not in key and "running" not in key
    )
    fresh = torch.optim.AdamW(model.parameters())
    step(model, fresh)


def test_state_of_another_shape_is_refused_and_nothing_changes() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, optimizer)
    optimizer.state[model[0].weight]["factored"] = torch.zeros(5)
    before = copy.deepcopy(model.state_dict())
    plan = tp.plan(model, batch(), pruning_ratio=0.5)
    with pytest.raises(OptimizerError, match=r"'factored' of 0.weight has \[5\]"):
        plan.exec(optimizer)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert optimizer.state[model[0].weight]["momentum_buffer"].shape == (12, 3, 3, 3)


def test_what_has_no_state_is_no_optimizer() -> None:
    model = net()
    plan = tp.plan(model, batch(), pruning_ratio=0.5)
    with pytest.raises(TypeError, match="mapping `state`"):
        plan.exec(object())
    assert model[0].out_channels == 12


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_flags_dtype_and_memory_format_survive(layout: torch.memory_format) -> None:
    model = net().to(memory_format=layout).to(torch.bfloat16)
    model[3].weight.requires_grad_(False)
    tp.prune(model, batch().to(torch.bfloat16), pruning_ratio=0.5)
    assert model[0].weight.is_contiguous(memory_format=layout)
    assert model[0].weight.dtype == torch.bfloat16
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, False, True, True, True]
    assert model[1].num_features == 6
