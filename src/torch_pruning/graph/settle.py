"""Equal axis expressions made the same object, once nothing binds axes any more.

Networks say the same thing over and over: an activation has the axes of the one before it, a layer those of its
normalisation. What is worked out for one expression then serves all the others, by identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, resolve
from torch_pruning.graph.infer import Inferred


def settle(programs: Iterable[Inferred], of_state: dict[str, tuple[Axis, ...]]) -> None:
    """Replace the axes of every value and every tensor of the model by their normal form, shared where equal."""
    shared = _Shared()
    for name, axes in of_state.items():
        of_state[name] = shared.dimensions(axes)
    for inferred in programs:
        for index, axes in inferred.axes.items():
            inferred.axes[index] = shared.dimensions(axes)


class _Shared:
    """One object per expression. What is in the tables stays alive, so that identities stay unique."""

    def __init__(self) -> None:
        self.axes: dict[Any, Axis] = {}
        self.tuples: dict[tuple[int, ...], tuple[Axis, ...]] = {}
        self.before: dict[int, tuple[tuple[Axis, ...], tuple[Axis, ...]]] = {}

    def dimensions(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        known = self.before.get(id(axes))
        if known is None:
            settled = tuple(map(self.axis, axes))
            settled = self.tuples.setdefault(tuple(map(id, settled)), settled)
            known = self.before[id(axes)] = (axes, settled)
        return known[1]

    def axis(self, axis: Axis) -> Axis:
        axis = resolve(axis)
        if isinstance(axis, Free):
            return axis
        if isinstance(axis, Fixed):
            return self.axes.setdefault(axis.size, axis)
        if isinstance(axis, Product):
            return self._composed(Product, axis.factors)
        assert isinstance(axis, Concat)
        return self._composed(Concat, axis.parts)

    def _composed(self, kind: type[Product] | type[Concat], children: tuple[Axis, ...]) -> Axis:
        settled = tuple(map(self.axis, children))
        key = (kind, *map(id, settled))
        found = self.axes.get(key)
        if found is None:
            found = self.axes[key] = kind(settled)
        return found
