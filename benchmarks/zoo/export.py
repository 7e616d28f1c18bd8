"""Whether `torch.export` takes a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from torch_pruning.trace.tracer import Example, copied


class Tensors(nn.Module):
    """A model of whose outputs only tensors are given: a cache that comes with them is nothing export knows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        return [leaf for leaf in _pytree.tree_leaves(self.model(*args, **kwargs)) if isinstance(leaf, Tensor)]


def exports(model: nn.Module, example: Example) -> str:
    """ "yes", or "NO: " and the error."""
    inputs = copied(example.inputs, lambda _, tensor: tensor.detach().clone())
    by_name = isinstance(inputs, dict)
    args = () if by_name else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    try:
        with torch.no_grad():
            torch.export.export(Tensors(model), args, inputs if by_name else None, strict=False)
    except Exception as error:
        return f"NO: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "yes"
