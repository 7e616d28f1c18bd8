"""The model itself on float64 copies of its tensors, for the length of a run.

Hooks, closures and bound methods hold on to the model they were made with, so that a deep copy of it would run partly
on the original. Here the model stays, and its tensors are put back afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torch_pruning.trace.caches import caches_forgotten
from torch_pruning.trace.substitute import named_tensors, substituted


@contextlib.contextmanager
def on_copies(model: nn.Module, state: Mapping[str, Tensor], training: bool) -> Iterator[None]:
    """The model in float64, without dropout, in the given mode; `state` replaces what stands on it, by name.

    Tensors, attributes and modes come back as they were, whatever happens inside.
    """

    def fresh(name: str, tensor: Tensor) -> Tensor:
        data = state.get(name, tensor).detach().clone()
        data = data.double() if data.is_floating_point() else data
        return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(caches_forgotten(model))
        stack.enter_context(_mode_of(model, training))
        stack.enter_context(substituted(model, fresh, None, {}))
        stack.enter_context(_scripts_in_float64(model))
        model.train(training)
        _without_dropout(model)
        stack.enter_context(_NoDropout())
        yield


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors of the model as they are now, by name."""
    return {name: tensor.detach().clone() for name, tensor in named_tensors(model)}


@contextlib.contextmanager
def _mode_of(model: nn.Module, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, flag in before:
            module.training = flag


@contextlib.contextmanager
def _scripts_in_float64(model: nn.Module) -> Iterator[None]:
    """Scripted modules keep their tensors out of reach; only the data can be exchanged."""
    scripted = [module for module in model.modules() if isinstance(module, torch.jit.ScriptModule)]
    tensors = [tensor for module in scripted for tensor in (*module.parameters(), *module.buffers())]
    before = [(tensor, tensor.data, tensor.grad) for tensor in tensors if tensor.is_floating_point()]
    try:
        for tensor, data, _ in before:
            tensor.grad = None
            tensor.data = data.double()
        yield
    finally:
        for tensor, data, grad in before:
            tensor.grad = None
            tensor.data = data
            tensor.grad = grad


# What functional dropout, with a rate of the model's own, comes down to.
_DROPOUTS = {getattr(place, name) for place in (torch.nn.functional, torch) for name in dir(place) if "dropout" in name}


class _NoDropout(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]  # attention and recurrent layers
