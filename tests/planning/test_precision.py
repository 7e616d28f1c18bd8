"""What the oracle does with code that asks for other types than float64."""

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
