"""Groups of positions of layers: the shares of (dependency, idxs) rows, scored by the position of their root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from torch_pruning.dependency.sides import SIDES, held_tensor, side_meant
from torch_pruning.importance.shares import Share
from torch_pruning.rules.call import CARRIED


@dataclass(frozen=True, slots=True)
class PositionGroup:
    """The shares of all rows, in order."""

    name: str
    shares: tuple[Share, ...]


class PositionShare(Share):
    """Positions `idxs` of one dimension of a layer's tensor; `roots` numbers the unit that each belongs to."""

    def __init__(self, name: str, tensor: Tensor, layer: nn.Module, dim: int, indices: tuple[Tensor, Tensor, int]):
        self.name, self.tensor, self.layer, self.dim, self.role = name, tensor, layer, dim, CARRIED
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.idxs, self.roots, self.units = indices

    def own(self, full: Tensor) -> Tensor:
        return self._by_position(full).index_select(0, self.idxs.to(full.device))

    def _by_position(self, full: Tensor) -> Tensor:
        """All positions of the width before the rest."""
        groups = self.layer.groups if isinstance(self.layer, _ConvNd) and self.dim == 1 else 1
        if groups > 1:  # dim 1 counts within a group: [G * O, I, ...] -> [G * I, O, ...]
            assert isinstance(groups, int)
            split = full.reshape(groups, full.shape[0] // groups, *full.shape[1:])
            return split.transpose(1, 2).reshape(groups * full.shape[1], -1)
        leading = full.movedim(self.dim, 0)
        if isinstance(self.layer, nn.RNNBase | nn.RNNCellBase) and self.dim == 0:
            gates = full.shape[0] // self._hidden()
            return leading.reshape(gates, self._hidden(), -1).transpose(0, 1)
        return leading

    def _hidden(self) -> int:
        size = self.layer.hidden_size  # type: ignore[union-attr]
        assert isinstance(size, int)
        return size if self.tensor.shape[0] % size == 0 else self.tensor.shape[0]

    def sums(self, entries: Tensor) -> Tensor:
        return self._to_units(entries.flatten(1).sum(1) if entries.dim() > 1 else entries)

    def positions(self, vector: Tensor) -> Tensor:
        return self._to_units(vector[self.idxs.to(vector.device)])

    def _to_units(self, numbers: Tensor) -> Tensor:
        totals = numbers.new_zeros(self.units)
        return totals.index_add_(0, self.roots.to(numbers.device), numbers).view(1, -1)

    def rows(self, entries: Tensor | None = None) -> Tensor:
        entries = (self.values if entries is None else entries).reshape(len(self.idxs), -1)
        counts = torch.bincount(self.roots, minlength=self.units)
        order = torch.argsort(self.roots, stable=True)
        rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[self.roots[order]]
        # A root without positions here, or with fewer than others, is filled up with zeros.
        table = entries.new_zeros(self.units, int(counts.max()), entries.shape[1])
        table[self.roots[order].to(entries.device), rank.to(entries.device)] = entries[order.to(entries.device)]
        return table.view(1, self.units, -1)


def position_group(group: Any) -> PositionGroup:
    """The shares of an iterable of (dependency, idxs) items with `dep`, `idxs` and `root_idxs`.

    Units are the root's positions, in the order of the first item's.

    Raises:
        TypeError: for anything else.
    """
    try:
        items = list(group)
        root_idxs = [list(getattr(item, "root_idxs", item[1])) for item in items]
        rows = [(item[0], list(item[1])) for item in items]
    except (TypeError, AttributeError, IndexError):
        raise TypeError(
            f"an importance scores a group; found {type(group).__name__}: pass a group of a dependency graph, "
            "an iterable of (dependency, idxs)"
        ) from None
    if not rows:
        return PositionGroup("an empty group", ())
    unit_of = {root: unit for unit, root in enumerate(dict.fromkeys(root_idxs[0]))}
    shares: list[Share] = []
    for (dependency, idxs), roots in zip(rows, root_idxs, strict=True):
        indices = torch.tensor(idxs), torch.tensor([unit_of[root] for root in roots]), len(unit_of)
        shares += _shares_of(dependency, indices)
    return PositionGroup(f"the group of {rows[0][0].target.name}", tuple(shares))


def _shares_of(dependency: Any, indices: tuple[Tensor, Tensor, int]) -> Iterator[Share]:
    layer = dependency.layer
    if not isinstance(layer, nn.Module) or not len(indices[0]):
        return
    path = getattr(dependency.target, "path", "")
    for attribute, dim in _dims(layer, dependency.handler).items():
        held = held_tensor(layer, attribute)
        if held is not None and isinstance(held[1], nn.Parameter):
            name = f"{path}.{held[0]}" if path else held[0]
            yield PositionShare(name, held[1], layer, dim, indices)


def _dims(layer: nn.Module, function: Any) -> Mapping[str, int]:
    """Attribute to dimension, of the width that a function prunes; nothing for one that prunes no known layer."""
    for side in SIDES:
        if side.function is function and isinstance(layer, side.kinds):
            return side.dims(layer)
    try:
        return side_meant(function, layer).dims(layer)
    except TypeError:
        return {}
