"""Size equations in which attributes cancel each other."""

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp


class WidthTwice(nn.Module):
    """Asks for its hidden width as `width * other // other`, both attributes defined by the same axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.last = nn.Linear(8, 2)
        self.width = 8
        self.other = 8

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).view(-1, self.width).view(-1, self.other)
        return self.last(hidden.view(-1, self.width * self.other // self.other))


@pytest.mark.models
def test_attributes_that_cancel_are_an_identity() -> None:
    model, x = WidthTwice(), torch.randn(3, 4)
    plan = tp.plan(model, x, pruning_ratio=0.5)
    assert tp.verify(model, plan).exact
    plan.exec()
    assert (model.width, model.other) == (4, 4)
    assert model.first.weight.shape == (4, 4)
    assert model(x).shape == (3, 2)
