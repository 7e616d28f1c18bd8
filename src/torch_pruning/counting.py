"""How many parameters and prunable channels a module holds. Shared layers and tied parameters count once."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example


def count_params(module: nn.Module) -> int:
    """The number of parameter elements, frozen ones included, buffers not.

    >>> count_params(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    240
    """
    return sum(parameter.numel() for parameter in module.parameters())


def count_prunable_channels(module: nn.Module) -> int:
    """The output channels of all convolutions and linear layers in the module.

    >>> count_prunable_channels(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10)))
    18
    """
    channels = 0
    for layer in module.modules():
        if isinstance(layer, _ConvNd):
            channels += layer.out_channels
        elif isinstance(layer, nn.Linear):
            channels += layer.out_features
    return channels


def count_prunable_params(module: nn.Module) -> int:
    """The parameter elements of all convolutions, linear layers, batch norms and per-channel PReLUs in the module.

    A PReLU with one weight for all channels has nothing that can go.

    >>> count_prunable_params(nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(), nn.LayerNorm(8)))
    224
    """
    prunable = {
        id(parameter): parameter.numel()
        for layer in module.modules()
        if isinstance(layer, _ConvNd | nn.Linear | _BatchNorm)
        or (isinstance(layer, nn.PReLU) and layer.num_parameters > 1)
        for parameter in layer.parameters()
    }
    return sum(prunable.values())


def count_ops_and_params(model: nn.Module, example_inputs: Any, layer_wise: bool = False) -> Any:
    """(multiply-accumulates of one sample, parameter elements); with `layer_wise` also a dict of each by module.

    Everything that multiplies counts: convolutions, linear layers, attention, matrix products, recurrent layers and
    calls of functions. A module's own count includes what runs inside it. The size of the batch makes no difference,
    and nothing is computed: the model is traced without data, and comes back as it was.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> count_ops_and_params(net, torch.randn(16, 4))
    (48, 58)
    """
    graph = build_graph(model, [Example(example_inputs)], unused="ignore", modes=("eval",))
    macs, params = graph.cost().macs, count_params(model)
    if not layer_wise:
        return macs, params
    costs = [
        (cost.module, cost.factor * math.prod([axis.size for axis in cost.axes]))
        for cost in graph.programs[0].facts.costs
    ]
    # The graph's total is that of one sample, the rows are those of the example's batch.
    batch = sum(value for _, value in costs) / macs if macs else 1
    layer_macs = {
        module: round(sum(value for where, value in costs if _is_in(where, path)) / batch)
        for path, module in model.named_modules()
    }
    return macs, params, layer_macs, {module: count_params(module) for module in model.modules()}


def _is_in(path: str, module: str) -> bool:
    return not module or path == module or path.startswith(f"{module}.")


def flatten_as_list(obj: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists, dicts and dataclasses, in order.

    >>> import torch
    >>> [len(tensor) for tensor in flatten_as_list({"a": torch.ones(1), "b": [torch.ones(2), (torch.ones(3),)]})]
    [1, 2, 3]
    """
    return [tensor for tensor, opaque in tensors_in(obj, inside_objects=False) if not opaque]
