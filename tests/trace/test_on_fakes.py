"""Ops that PyTorch's shape inference refuses though their kernels do not."""

import torch
from torch.nn import functional as F

from torch_pruning.trace.tracer import Example, trace


class Grouped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 8, 12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([2, 5], dtype=torch.int32)
        return F.grouped_mm(x, self.weight, offs=ends)


def test_a_grouped_product_of_float32_needs_no_data() -> None:
    x = torch.randn(5, 8)
    program = trace(Grouped(), Example(x))
    assert program.kind == "fake"
    (call,) = [call for call in program.calls if call.op == "aten._grouped_mm.default"]
    assert [value.shape for value in call.results()] == [tuple(Grouped()(x).shape)] == [(5, 12)]
