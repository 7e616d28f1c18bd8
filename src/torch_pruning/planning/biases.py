"""Biases of layers that were built without one: what recovery found to be lacking on average has to go somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.errors import StalePlanError


def may_take_bias(module: nn.Module) -> bool:
    """Whether it is a layer of torch's own with a weight, and a place for a bias with none in it."""
    own = type(module).forward.__module__.startswith("torch.nn.modules")
    parameters = module._parameters
    return own and parameters.get("weight") is not None and "bias" in parameters and parameters["bias"] is None


def create_bias(model: nn.Module, path: str, values: Tensor, optimizers: Iterable[Any] = ()) -> Callable[[], None]:
    """Give the layer a bias of these values, which joins its weight in the optimizers; returns what undoes it.

    Raises:
        StalePlanError: if the layer is of another kind, or has a bias.
    """
    module = model.get_submodule(path)
    if not may_take_bias(module):
        raise StalePlanError(
            f"a bias was created for {path}, which must be a layer of torch.nn built with bias=False; found "
            f"{type(module).__name__}{' with a bias' if getattr(module, 'bias', None) is not None else ''}: build the "
            "model that was pruned, with the same arguments"
        )
    weight = module._parameters["weight"]
    assert weight is not None
    with torch.inference_mode(False):
        bias = nn.Parameter(values.detach().clone().to(weight), weight.requires_grad)
    module._parameters["bias"] = bias
    joined = [
        group["params"]
        for optimizer in optimizers
        for group in getattr(optimizer, "param_groups", ())
        if any(parameter is weight for parameter in group["params"])
    ]
    for parameters in joined:
        parameters.append(bias)

    def undo() -> None:
        module._parameters["bias"] = None
        for parameters in joined:
            parameters.pop()

    return undo
