"""Where a pruning function's width of a layer lies: the tensor, its dimension, and all its positions as one axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torch_pruning.axes.expression import Axis, resolve
from torch_pruning.dependency.rows import Root
from torch_pruning.dependency.sides import PruningFunction, held_tensor, side_meant, width_axis
from torch_pruning.errors import PositionError, StalePlanError
from torch_pruning.graph.graph import Graph
from torch_pruning.layers import prune_parameter_in_channels, prune_parameter_out_channels
from torch_pruning.trace.substitute import named_tensors


def find_root(graph: Graph, layer: Any, prune_fn: PruningFunction, parameter_dims: Mapping[int, int]) -> Root:
    """The root for a function on a layer, or on a Parameter, of which `parameter_dims` may say the dimension.

    Raises:
        ValueError: for a layer that is not in the model.
        TypeError: for a function of another kind of layer.
        PositionError: for a layer without channels of its own.
        StalePlanError: if the model was changed by other means.
    """
    if isinstance(layer, nn.Parameter):
        return _root_of_parameter(graph, layer, prune_fn, parameter_dims.get(id(layer), -1))
    path = next((path for path, module in graph.model.named_modules() if module is layer), None)
    if path is None:
        raise ValueError(
            f"the layer must be a module of the model given to build_dependency; found {layer!r}, "
            "which is not in it: take it from the model itself"
        )
    if path in graph.customized:
        return _root_of_customized(graph, path, layer, prune_fn)
    shared = isinstance(layer, nn.PReLU) and layer.num_parameters == 1  # one weight for all channels
    for attribute, dim in side_meant(prune_fn, layer).dims(layer).items():
        held = held_tensor(layer, attribute)
        if held is None or shared:
            continue
        name = _name_in(graph, path, *held)
        axes = _axes_now(graph, name, held[1])
        return Root(path, layer, prune_fn, name, dim, width_axis(layer, axes, dim))
    raise PositionError(
        f"the layer must hold a tensor with one entry per channel; found none in {path} ({layer!r}): "
        "prune the layer that makes its input"
    )


def _root_of_customized(graph: Graph, path: str, layer: nn.Module, prune_fn: PruningFunction) -> Root:
    assert graph.example.customized is not None
    pruner, call = graph.example.customized.pruners[path], graph.customized[path]
    if prune_fn == pruner.prune_out_channels:
        return Root(path, layer, prune_fn, "", 0, resolve(call.leaving))
    if prune_fn == pruner.prune_in_channels:
        return Root(path, layer, prune_fn, "", 0, resolve(call.entering))
    raise TypeError(
        f"a customized layer is pruned by its own pruner; found {prune_fn!r} for {path}: pass "
        f"prune_out_channels or prune_in_channels of {pruner!r}"
    )


def _root_of_parameter(graph: Graph, parameter: nn.Parameter, prune_fn: PruningFunction, dim: int) -> Root:
    name = next((name for name, tensor in named_tensors(graph.model) if tensor is parameter), None)
    if name is None:
        raise ValueError(
            f"the Parameter must be one of the model's; found one of shape {list(parameter.shape)} that is not"
        )
    if prune_fn not in (prune_parameter_out_channels, prune_parameter_in_channels):
        raise TypeError(
            f"a Parameter is pruned by prune_parameter_out_channels; found {prune_fn!r} for {name}: "
            "pass the layer itself for a function of layers"
        )
    dim = dim % parameter.dim()
    return Root(name, parameter, prune_fn, name, dim, _axes_now(graph, name, parameter)[dim])


def _axes_now(graph: Graph, name: str, tensor: Tensor) -> tuple[Axis, ...]:
    """The axes of a tensor, if it is as the graph knows it."""
    axes = graph.axes.get(name)
    sizes = None if axes is None else [axis.size for axis in axes]
    if axes is None or sizes != list(tensor.shape):
        raise StalePlanError(
            f"{name} must be as it was when the graph was built, {sizes}; found {list(tensor.shape)}: "
            "the model was changed by other means, call build_dependency again"
        )
    return axes


def _name_in(graph: Graph, path: str, name: str, tensor: Tensor) -> str:
    """The graph's name of a layer's tensor; one that several layers hold has the name of the first."""
    full = f"{path}.{name}".lstrip(".")
    if full in graph.axes:
        return full
    return next((other for other, found in named_tensors(graph.model) if found is tensor), full)
