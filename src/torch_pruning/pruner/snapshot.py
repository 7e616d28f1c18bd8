"""A model as it is now, to come back to: tensors, attributes, classes, optimizer state, and the graph's sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.tensors import assign
from torch_pruning.trace.substitute import Dictionaries, named_tensors


class Snapshot:
    """Copies of everything that pruning and training change. `restore` may be called more than once.

    Tensors come back into the same objects, so whoever holds a parameter holds the right one. Objects on a module that
    are changed in place (a list that forward appends to) are not looked into.
    """

    def __init__(self, graph: Graph, optimizers: Iterable[Any] = ()) -> None:
        self.graph = graph
        self.classes = [(module, type(module)) for module in graph.model.modules()]
        self.attributes = Dictionaries.of(graph.model.modules())
        self.tensors = [(tensor, _copy(tensor), _gradient(tensor)) for _, tensor in named_tensors(graph.model)]
        self.optimizers = [(optimizer, _state(optimizer), _settings(optimizer)) for optimizer in optimizers]
        axes = {axis for cluster in graph.clusters for axis in cluster.axes}.union(graph.group_of)
        self.sizes = {axis: axis.size for axis in axes}
        self.executed = list(graph.executed)
        self.repairs = list(graph.repairs)
        self.attribute_values = dict(graph.constraints.attribute_values)
        self.known = dict(graph.axes), graph.parameters, graph.cost_of
        self.members = [(group, group.members) for group in graph.groups]

    def restore(self) -> None:
        """Everything as it was when the snapshot was taken."""
        for module, cls in self.classes:
            module.__class__ = cls
        self.attributes.restore()
        for tensor, data, gradient in self.tensors:
            assign(tensor, _copy(data), None if gradient is None else _copy(gradient))
        for optimizer, state, settings in self.optimizers:
            optimizer.state.clear()
            optimizer.state.update(_copied_state(state))
            for group, values in zip(optimizer.param_groups, settings, strict=True):
                group.update({**values, "params": list(values["params"])})
        for axis, size in self.sizes.items():
            axis.shrink(size)
        self.graph.executed[:] = self.executed
        self.graph.repairs = list(self.repairs)
        axes, self.graph.parameters, self.graph.cost_of = self.known
        self.graph.axes.clear()
        self.graph.axes.update(axes)
        for group, members in self.members:
            group.members = members
        self.graph.constraints.attribute_values.clear()
        self.graph.constraints.attribute_values.update(self.attribute_values)


def _copy(tensor: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return tensor.detach().clone(memory_format=torch.preserve_format)


def _gradient(tensor: Tensor) -> Tensor | None:
    return _copy(tensor.grad) if tensor.is_leaf and tensor.grad is not None else None


def _state(optimizer: Any) -> dict[Any, Any]:
    return _copied_state(optimizer.state)


def _copied_state(state: Any) -> dict[Any, Any]:
    def copied(entry: Any) -> Any:
        if isinstance(entry, Tensor):
            return _copy(entry)
        return {key: copied(item) for key, item in entry.items()} if isinstance(entry, dict) else entry

    return {parameter: copied(entries) for parameter, entries in state.items()}


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """Learning rates and the like, and which parameters there are."""
    return [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
