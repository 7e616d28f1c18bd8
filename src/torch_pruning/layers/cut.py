"""What one layer loses, as a value, and the one place where a layer is changed accordingly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_pruning.planning.tensors import assign, shrink

Layer = TypeVar("Layer", bound=nn.Module)
Shrinker = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LayerCut:
    """What one layer loses: how each of its tensors shrinks (the gradient likewise), and its attributes afterwards.

    Tensors that the layer has as None (no bias, no running statistics) are passed over. Names may lead to a layer
    inside, "out_proj.weight".
    """

    tensor_to_shrinker: Mapping[str, Shrinker]
    attribute_to_value: Mapping[str, object]


def along(dim: int, kept: Tensor) -> Shrinker:
    """The shrinker that gathers the kept positions of one dimension."""
    return partial(shrink, dim_to_kept={dim: kept})


def carry_out(cut: LayerCut, layer: Layer, inplace: bool = True, dry_run: bool = False) -> tuple[Layer, int]:
    """The layer after the cut and the number of parameter elements removed (buffers are not counted).

    Everything is computed before anything is assigned. `inplace=False` cuts a deep copy; `dry_run=True` only counts
    and returns the layer as it is.

    Raises: `ValueError` where a tensor is not held by the layer but computed from others (a parametrization, a mask).
    """
    shrinking = {name: shrinker for name, shrinker in cut.tensor_to_shrinker.items() if _shrinks(layer, name, shrinker)}
    num_pruned = sum(
        parameter.numel() - shrinking[name](_shape_only(parameter)).numel()
        for name, parameter in layer.named_parameters()
        if name in shrinking
    )
    if dry_run:
        return layer, num_pruned
    target = layer if inplace else copy.deepcopy(layer)
    swaps: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for name, shrinker in shrinking.items():
        tensor = _held_tensor(target, name)
        assert tensor is not None
        swaps.append((tensor, shrinker(tensor), None if tensor.grad is None else shrinker(tensor.grad)))
    for tensor, data, grad in swaps:
        assign(tensor, data, grad)
    for name, value in cut.attribute_to_value.items():
        owner, attribute = _owner(target, name)
        setattr(owner, attribute, value)
    return target, num_pruned


def _shrinks(layer: nn.Module, name: str, shrinker: Shrinker) -> bool:
    tensor = _held_tensor(layer, name)
    return tensor is not None and shrinker(_shape_only(tensor)).shape != tensor.shape


def _shape_only(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _held_tensor(layer: nn.Module, name: str) -> Tensor | None:
    """The parameter or buffer of that name; None where the layer is configured to have none."""
    owner, attribute = _owner(layer, name)
    if attribute in owner._parameters:
        return owner._parameters[attribute]
    if attribute in owner._buffers:
        return owner._buffers[attribute]
    if attribute in vars(owner) and vars(owner)[attribute] is None:
        return None
    raise ValueError(
        f"`{name}` must be a parameter or buffer of the layer itself; found a tensor that is computed from others "
        f"(a parametrization, weight norm or a pruning mask) in {layer!r}: remove the parametrization first, "
        "or prune through the dependency graph, which sees the tensors underneath"
    )


def _owner(layer: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module on which a name ends, and its last part: "out_proj.weight" -> (layer.out_proj, "weight")."""
    path, _, attribute = name.rpartition(".")
    return layer.get_submodule(path), attribute
