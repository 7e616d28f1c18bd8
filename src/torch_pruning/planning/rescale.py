"""Random weights brought to a size at which a deep network lets a signal through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.planning.precision import in_double
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example


def rescale_weights(model: nn.Module, example: Example, inputs: Any) -> None:
    """Unit variance at the output of every layer with a weight matrix, in the order they run (LSUV, Mishkin 2016)."""
    _perturb_constants(model)
    with _unit_outputs(model), torch.no_grad(), in_double():
        example.call(model, inputs)


def _perturb_constants(model: nn.Module) -> None:
    """Entries that all start alike (biases of 0, norm weights of 1, layer scales of 1e-6) hide what they act on.

    They become 1 (biases and means: 0) plus noise.
    """
    generator = torch.Generator().manual_seed(2)
    for name, tensor in named_tensors(model):
        if not tensor.is_floating_point() or tensor.numel() < 2 or not bool((tensor == tensor.flatten()[0]).all()):
            continue
        noise = 0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        centre = 0.0 if name.endswith(("bias", "mean")) else 1.0
        tensor.data.copy_(noise + centre)


@contextmanager
def _unit_outputs(model: nn.Module) -> Iterator[None]:
    done: set[int] = set()

    def scale(module: nn.Module, args: Any, out: Any) -> Any:
        weight = getattr(module, "weight", None)
        if (
            not isinstance(out, Tensor)
            or not isinstance(weight, Tensor)
            or weight.dim() < 2
            or id(module) in done
            or out.numel() < 2
        ):
            return None
        done.add(id(module))
        if not weight.any():  # a layer that starts at zero shows nothing of what comes before it
            weight.data.normal_(std=weight[0].numel() ** -0.5, generator=torch.Generator().manual_seed(len(done)))
            return None
        deviation = float(out.std())
        if not 0 < deviation < float("inf"):
            return None
        weight.data /= deviation
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.data /= deviation
        return out / deviation

    handles = [
        module.register_forward_hook(scale)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
