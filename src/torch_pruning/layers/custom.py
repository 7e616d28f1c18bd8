"""What users derive from to prune layers of their own."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.planning.tensors import Positions, assign, kept_positions, shrink


class BasePruningFunc(ABC):
    """How a layer of one's own is pruned, and how wide it is. `idxs` are positions of the layer's width as it is now.

    A layer whose every output channel comes from the input channel at the same position says so by having one function
    for both sides: `prune_in_channels = prune_out_channels`. Register it with
    `DependencyGraph.register_customized_layer`, or pass `customized_pruners={LayerType: Pruner()}`.

    >>> class Scale(nn.Module):
    ...     def __init__(self, width):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.ones(width))
    >>> class ScalePruner(BasePruningFunc):
    ...     def prune_out_channels(self, layer, idxs):
    ...         kept = [i for i in range(len(layer.weight)) if i not in idxs]
    ...         layer.weight = self._prune_parameter_and_grad(layer.weight, kept, 0)
    ...         return layer
    ...
    ...     def get_out_channels(self, layer):
    ...         return len(layer.weight)
    ...
    ...     prune_in_channels, get_in_channels = prune_out_channels, get_out_channels
    >>> ScalePruner()(Scale(4), [0, 1])[1]
    2
    """

    def __init__(self, pruning_dim: int = 1) -> None:
        self.pruning_dim = pruning_dim

    @abstractmethod
    def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        """The layer without these output channels."""

    @abstractmethod
    def prune_in_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        """The layer without these input channels."""

    @abstractmethod
    def get_out_channels(self, layer: nn.Module) -> int:
        """How many output channels the layer has now."""

    @abstractmethod
    def get_in_channels(self, layer: nn.Module) -> int:
        """How many input channels the layer has now."""

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        """Into how many equal groups the output channels fall; each must lose equally many."""
        return 1

    def get_in_channel_groups(self, layer: nn.Module) -> int:
        """Into how many equal groups the input channels fall; each must lose equally many."""
        return 1

    def check(self, layer: nn.Module, idxs: Positions, to_output: bool) -> None:
        """Raises PositionError for positions that are out of range, repeated, or all there are."""
        width = self.get_out_channels(layer) if to_output else self.get_in_channels(layer)
        kept_positions(int(width), idxs, layer)

    def __call__(
        self, layer: nn.Module, idxs: Positions, to_output: bool = True, inplace: bool = True, dry_run: bool = False
    ) -> tuple[nn.Module, int]:
        """The layer after pruning one side, and the number of parameter elements removed."""
        self.check(layer, idxs, to_output)
        target = layer if inplace and not dry_run else copy.deepcopy(layer)
        before = _elements(layer)
        pruned = (self.prune_out_channels if to_output else self.prune_in_channels)(target, idxs)
        return (layer if dry_run else pruned), before - _elements(pruned)

    def _prune_parameter_and_grad(self, weight: Tensor, keep_idxs: Any, pruning_dim: int) -> Any:
        """The same parameter with the kept positions of one dimension; its gradient likewise. It shrinks in place, so
        that an optimizer still holds it."""
        kept = torch.as_tensor(keep_idxs, dtype=torch.long)
        dims = {pruning_dim % weight.dim(): kept}
        assign(weight, shrink(weight, dims), None if weight.grad is None else shrink(weight.grad, dims))
        return weight


def _elements(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
