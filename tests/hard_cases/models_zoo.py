"""What models of the zoos do, written out small."""

from __future__ import annotations

import torch
from drive import Case, Units
from torch import Tensor, nn


class number_in_a_tensor(nn.Module):
    """A width becomes a tensor, and a divisor: removal is not exact unless the number is put right."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) / torch.sqrt(torch.tensor(x.shape[1]))


def _rows() -> tuple[Tensor, ...]:
    return (torch.randn(4, 6),)


CASES = (
    Case(
        number_in_a_tensor,
        _rows,
        (Units("a:0 b:1", 8, reason="its size is used as a number", line="torch.tensor(x.shape[1])"),),
    ),
)
