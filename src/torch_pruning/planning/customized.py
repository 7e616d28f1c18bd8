"""Layers that their users prune: what a plan takes from them, and how that is done and undone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.axes.expression import leaves, resolve
from torch_pruning.axes.positions import Choice, kept_positions
from torch_pruning.errors import OptimizerError
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import CustomizedCut
from torch_pruning.planning.tensors import assign, shrink


def customized_cuts(graph: Graph, choice: Choice) -> tuple[CustomizedCut, ...]:
    """What a choice takes from every customized layer."""
    cuts = []
    for path, call in graph.customized.items():
        sides = [(True, call.leaving)] if call.coupled else [(False, call.entering), (True, call.leaving)]
        for outputs, axis in sides:
            axis = resolve(axis)
            if any(leaf in choice for leaf in leaves(axis)):
                stays = set(kept_positions(axis, choice))
                idxs = tuple(position for position in range(axis.size) if position not in stays)
                cuts.append(_cut(graph, path, outputs, idxs))
    return tuple(cuts)


def _cut(graph: Graph, path: str, outputs: bool, idxs: tuple[int, ...]) -> CustomizedCut:
    assert graph.example.customized is not None
    pruner, layer = graph.example.customized.pruners[path], graph.model.get_submodule(path)
    trial = copy.deepcopy(layer)
    prune_side(pruner, trial, outputs, idxs)
    return CustomizedCut(path, pruner, outputs, idxs, _elements(layer) - _elements(trial))


def prune_side(pruner: Any, layer: nn.Module, outputs: bool, idxs: tuple[int, ...]) -> None:
    """Call the user's function."""
    (pruner.prune_out_channels if outputs else pruner.prune_in_channels)(layer, list(idxs))


def _elements(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


class CustomizedSurgery:
    """One layer under its user's function: identities of parameters stay, the optimizers' state follows, and everything
    can be put back."""

    def __init__(self, layer: nn.Module) -> None:
        self.entries: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for module in layer.modules():
            for entries in (module.__dict__, module._parameters, module._buffers, module._modules):
                self.entries.append((entries, dict(entries)))
        self.parameters = dict(layer.named_parameters())
        held = [*self.parameters.values(), *layer.buffers()]
        self.tensors = [(tensor, tensor.data, tensor.grad if tensor.is_leaf else None) for tensor in held]
        self.shapes = {name: tensor.shape for name, tensor in self.parameters.items()}
        self.states: list[tuple[dict[Any, Any], Any, Any]] = []

    def apply(self, cut: CustomizedCut, layer: nn.Module, optimizers: list[Any]) -> None:
        """Prune, keep the Parameter objects, and let the optimizers' state follow."""
        prune_side(cut.pruner, layer, cut.outputs, cut.idxs)
        for name, old in self.parameters.items():
            path, _, attribute = name.rpartition(".")
            holder = layer.get_submodule(path)
            new = holder._parameters.get(attribute)
            if new is not None and new is not old:
                assign(old, new.data, new.grad)
                holder._parameters[attribute] = old
            if new is not None and old.shape != self.shapes[name]:
                self._follow(cut, name, old, optimizers)

    def _follow(self, cut: CustomizedCut, name: str, parameter: Tensor, optimizers: list[Any]) -> None:
        before = self.shapes[name]
        for optimizer in optimizers:
            state: Mapping[Any, Any] = optimizer.state.get(parameter, {})
            for key, entry in list(state.items()):
                if isinstance(entry, Tensor) and entry.shape == before and entry.dim():
                    self.states.append((optimizer.state[parameter], key, entry))
                    optimizer.state[parameter][key] = _shrunk(entry, parameter.shape, cut, name)

    def undo(self) -> None:
        for state, key, old in reversed(self.states):
            state[key] = old
        for tensor, data, grad in self.tensors:
            if tensor.data is not data:
                assign(tensor, data, grad)
        for entries, before in self.entries:
            entries.clear()
            entries.update(before)


def _shrunk(entry: Tensor, shape: torch.Size, cut: CustomizedCut, name: str) -> Tensor:
    """State of an optimizer, if it is the cut's own positions that went from one dimension."""
    smaller = [dim for dim, (old, new) in enumerate(zip(entry.shape, shape, strict=True)) if old != new]
    fits = [dim for dim in smaller if entry.shape[dim] - shape[dim] == len(cut.idxs)]
    if len(smaller) != 1 or not fits or max(cut.idxs) >= entry.shape[fits[0]]:
        raise OptimizerError(
            f"optimizer state must follow its parameter; {name} of {cut.path} went from {list(entry.shape)} to "
            f"{list(shape)} by the layer's own pruner: build a new optimizer after pruning"
        )
    gone = set(cut.idxs)
    kept = torch.tensor([i for i in range(entry.shape[fits[0]]) if i not in gone], dtype=torch.long)
    return shrink(entry, {fits[0]: kept})
