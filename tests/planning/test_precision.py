"""What the oracle does with code that asks for other types than float64."""

import pytest
import torch
from torch.nn import functional as F

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
