"""What the oracle does with code that asks for other types than float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning.planning.precision import in_double


def test_new_tensors_and_casts_are_float64() -> None:
    x = torch.ones(3, dtype=torch.float64)
    with in_double():
        made = [torch.zeros(2), x.float(), x.to(torch.float32), torch.ones(2, dtype=torch.bfloat16)]
    assert [tensor.dtype for tensor in made] == [torch.float64] * 4
    assert torch.zeros(1).dtype == torch.float32


def test_a_grouped_product_is_the_products_of_its_groups() -> None:
    x, weight = torch.randn(7, 8), torch.randn(3, 8, 4)
    ends = torch.tensor([2, 2, 6], dtype=torch.int32)
    with in_double():
        found = F.grouped_mm(x.double(), weight.double(), offs=ends)
    expected = F.grouped_mm(x, weight, offs=ends)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:6].float(), expected[:6])
    assert not found[6:].any()


def test_other_forms_of_it_are_refused() -> None:
    with in_double(), pytest.raises(NotImplementedError, match="no float64 stand-in"):
        F.grouped_mm(torch.randn(3, 8).double(), torch.randn(8, 4).double(), offs=torch.tensor([3], dtype=torch.int32))


class Repeated(torch.nn.Module):
    """As many frames of each token as a layer predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 12), torch.nn.Linear(12, 3)
        self.length = torch.nn.Linear(12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        times = (self.length(x).squeeze(-1).abs() * 20).round().long()
        return self.last(x.repeat_interleave(times, dim=0))


def test_outputs_whose_length_the_data_decide_are_compared() -> None:
    torch.manual_seed(0)
    model, x = Repeated(), torch.randn(5, 4)
    chosen = tp.plan(model, x, pruning_ratio=0.5)
    seen = tp.verify(model, chosen, gradients=False)
    assert seen.exact
    assert seen.sensitivity == float("inf")


class Overwriting(torch.nn.Module):
    """Writes over what its backward pass needs, outside training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 12), torch.nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).sigmoid()
        if not self.training:
            x.mul_(2)
        return self.last(x)


def test_an_original_without_gradients_is_compared_by_values() -> None:
    model, x = Overwriting().eval(), torch.randn(5, 4)
    chosen = tp.plan(model, x, pruning_ratio=0.5)
    seen = tp.verify(model, chosen)
    assert seen.exact
    assert seen.gradient_error is None
    assert tp.verify(model, chosen, mode="train").gradient_error is not None


class Tokens(torch.nn.Module):
    """A map that is normalised and flattened to tokens."""

    def __init__(self, norm: type[torch.nn.Module]) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 4)
        self.norm = norm(8, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)).flatten(2).transpose(1, 2).contiguous())


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d, torch.nn.InstanceNorm2d])
def test_one_image_gives_no_false_alarm(norm: type[torch.nn.Module], mode: str) -> None:
    torch.manual_seed(0)
    model, x = Tokens(norm), torch.randn(1, 3, 4, 5)
    chosen = tp.plan(model, x, pruning_ratio=0.5)
    assert chosen.parameters_removed
    seen = tp.verify(model, chosen, mode=mode)
    assert seen.gradient_error is not None
    assert seen.exact


@pytest.mark.parametrize("norm", [torch.batch_norm, torch.nn.functional.batch_norm])
def test_gradients_of_a_batch_norm_do_not_depend_on_their_layout(norm: Any) -> None:
    x, mean, weight = torch.randn(1, 4, 3, 5), torch.zeros(4), torch.rand(4, requires_grad=True)
    grad = torch.randn(1, 15, 4).transpose(1, 2).view(1, 4, 3, 5)
    running = {torch.batch_norm: (x, weight, None, mean, mean + 1, False, 0.1, 1e-5, False)}
    with in_double():
        out = norm(*running.get(norm, (x, mean, mean + 1, weight)))
    (found,) = torch.autograd.grad(out, weight, grad)
    torch.testing.assert_close(found, (grad * x).sum((0, 2, 3)), atol=1e-4, rtol=1e-4)


def test_a_batch_whose_statistics_are_rounding_errors_is_no_mistake() -> None:
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(6, 24),
        torch.nn.BatchNorm1d(24, affine=False),
        torch.nn.Linear(24, 24, bias=False),
        torch.nn.Linear(24, 3, bias=False),
    ]
    model, x = torch.nn.Sequential(*layers).double(), torch.randn(1, 6, dtype=torch.float64)
    alike = torch.cat([x, x + 1e-11 * torch.randn(1, 6)])
    chosen = tp.plan(model, alike, pruning_ratio=0.3)
    assert tp.verify(model, chosen, mode="train", rescale=True).exact


def test_a_mistake_in_training_mode_stays_one_when_the_batch_grows() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8, eps=1e-9), torch.nn.Linear(8, 3)]
    model, x = torch.nn.Sequential(*layers), torch.randn(2, 6)
    chosen = tp.plan(model, x, pruning_ratio=0.5)
    wrong = {
        **chosen.kept,
        "2.weight": {1: [position for position in range(8) if position not in chosen.kept["2.weight"][1]]},
    }
    seen = tp.verify(model, replace(chosen, kept=wrong), mode="train")
    assert not seen.exact
    assert seen.error > 1e-3


class Scoring(torch.nn.Module):
    """Scores that change when units go, for a norm takes them all into account."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = torch.nn.Linear(4, 12), torch.nn.LayerNorm(12), torch.nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.norm(self.first(x)).relu())


class Barred(Scoring):
    """Two of its five classes are never to be chosen."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = super().forward(x)
        return scores.masked_fill(torch.tensor([True, False, False, True, False]), torch.finfo(scores.dtype).min)


class Counting(Scoring):
    """Gives a large number beside its scores."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), torch.full((len(x),), 10**12)


@pytest.mark.parametrize("kind", [Barred, Counting])
def test_large_numbers_do_not_hide_the_others(kind: type[Scoring]) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.randn(5, 4)
    seen = tp.verify(model, tp.plan(model, x, pruning_ratio=0.5))
    assert seen.error > 1e-3
    assert seen.sensitivity > 1e-3
