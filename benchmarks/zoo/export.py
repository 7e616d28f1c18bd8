"""Whether `torch.export` takes a model."""

from __future__ import annotations

import torch
from torch import nn

from torch_pruning.trace.tracer import Example, copied


def exports(model: nn.Module, example: Example) -> str:
    """ "yes", or "NO: " and the error."""
    inputs = copied(example.inputs, lambda _, tensor: tensor.detach().clone())
    by_name = isinstance(inputs, dict)
    args = () if by_name else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    try:
        with torch.no_grad():
            torch.export.export(model, args, inputs if by_name else None, strict=False)
    except Exception as error:
        return f"NO: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "yes"
