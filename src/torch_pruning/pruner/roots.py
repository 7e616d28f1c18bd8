"""From the engine's axes to layers: which width of which layer stands for a group, and users' scores of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.dependency import DependencyGraph, PruningGroup
from torch_pruning.dependency.rows import Root, parameter_at
from torch_pruning.errors import PruningError
from torch_pruning.graph.groups import Group
from torch_pruning.importance.base import Scores
from torch_pruning.importance.units import lane_index, unit_index
from torch_pruning.layers import prune_parameter_out_channels


class Roots:
    """For every axis the width of a layer that produces it, the last layers of a model first.

    Layers of the wanted types come first; with `others`, other layers and Parameters stand in where there is none.
    """

    def __init__(self, owner: DependencyGraph, wanted: tuple[type, ...], others: bool = True) -> None:
        self.owner = owner
        self._first: dict[Free, Root] = {}
        self._order: dict[Free, int] = {}
        for kinds in (wanted, (nn.Module,)) if others else (wanted,):
            for layer in owner.layers_from_the_end(kinds):
                for outputs in (True, False) if kinds != wanted else (True,):
                    function = owner.function_of(layer, outputs)
                    if function is not None:
                        self._add(layer, function)
        for group in owner.graph.groups if others else ():
            for member in group.members if group.axis not in self._first else ():
                parameter = parameter_at(owner.model, member.tensor)
                if parameter is not None:
                    self._add(parameter, prune_parameter_out_channels)

    def _add(self, layer: Any, function: Any) -> None:
        try:
            root = self.owner.root(layer, function)
        except PruningError:  # a layer without channels of its own
            return
        for axis in leaves(root.axis):
            if axis not in self._first:
                self._first[axis], self._order[axis] = root, len(self._order)

    def __contains__(self, axis: object) -> bool:
        return axis in self._first

    def first(self, axes: Iterable[Free]) -> Root:
        """The root that stands for these axes: of several, the one nearest to the model's output.

        Raises:
            LookupError: if no layer or Parameter does.
        """
        known = [axis for axis in axes if axis in self._first]
        if not known:
            names = [axis.name for axis in axes]
            raise LookupError(f"a group must have a layer or Parameter as its root; found none for {names}")
        return self._first[min(known, key=self._order.__getitem__)]

    def order(self, axes: Iterable[Free]) -> int:
        """Where a group stands, counted from the model's output."""
        return min(self._order.get(axis, len(self._order)) for axis in axes)


class ScoresOfGroups:
    """Scores by position of a root, as users' functions of a group give them, as scores of units: [lanes, units]."""

    def __init__(self, roots: Roots, function: Callable[[PruningGroup], Tensor | None]) -> None:
        self.roots = roots
        self.function = function
        self._scores: dict[str, tuple[Root, Tensor | None]] = {}

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        root, scores = self._of_root(group.axis)
        if scores is None:
            return torch.zeros(_lanes(group), group.size)
        units = unit_index(root.axis, group.axis)
        inside = bool(group.lanes) and set(group.lanes) <= set(leaves(root.axis))
        lanes = lane_index(root.axis, group.lanes) if inside else torch.zeros_like(units)
        owned = (units >= 0) & (lanes >= 0)
        slots = (lanes * group.size + units)[owned].to(scores.device)
        total = scores.new_zeros((_lanes(group) if inside else 1) * group.size)
        # A unit has several positions where it is a head, say: it scores their mean.
        mean = total.index_add(0, slots, scores[owned.to(scores.device)]) / total.index_add(
            0, slots, torch.ones_like(slots, dtype=scores.dtype)
        )
        return mean.view(-1, group.size).expand(_lanes(group), group.size)

    def left_alone(self) -> list[str]:
        """Names of tensors of the groups that the function gave None for."""
        graph = self.roots.owner.graph
        return [
            member.tensor
            for group in graph.groups
            if group.axis in self.roots and self._of_root(group.axis)[1] is None
            for member in group.members
            if member.role != "contracted"
        ]

    def _of_root(self, axis: Free) -> tuple[Root, Tensor | None]:
        root = self.roots.first([axis])
        key = f"{root.path}/{root.function.__name__}"
        if key not in self._scores:
            group = self.roots.owner.group_of_units(root, None)
            self._scores[key] = (root, self._checked(group, self.function(group)))
        return self._scores[key]

    def _checked(self, group: PruningGroup, scores: Any) -> Tensor | None:
        if scores is None:
            return None
        found = torch.as_tensor(scores).detach()
        found = found if found.is_floating_point() else found.float()
        if found.shape != (len(group.idxs),):
            raise ValueError(
                f"an importance must give one score per position of the root, [{len(group.idxs)}]; found "
                f"{list(found.shape)} for {group.root.path}: reduce over everything else"
            )
        return found


def _lanes(group: Group) -> int:
    total = 1
    for lane in group.lanes:
        total *= lane.size
    return total


def takes_tensors(importance: Any) -> bool:
    """Whether a criterion takes a group of the graph and the model's tensors, as those of this package do; users' own
    functions take a group alone."""
    try:
        parameters = inspect.signature(importance).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.kind in positional for parameter in parameters].count(True) == 2
