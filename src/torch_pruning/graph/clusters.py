"""Count constraints made choosable: groups of axes whose counts scale together, in whole steps.

All equations that reach this point are homogeneous: each monomial has one *mover*, a count that scales, and other
factors that are *held*. Scaling all movers of a cluster by t / steps keeps every equation true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.axes.sizes import Polynomial
from torch_pruning.graph.constraints import CountConstraint


@dataclass(eq=False, slots=True)
class Cluster:
    """Axes that scale together: each has `size * t / steps` units for one whole number t."""

    axes: tuple[Free, ...]
    constraints: tuple[CountConstraint, ...] = ()

    @property
    def steps(self) -> int:
        return math.gcd(*(axis.size for axis in self.axes))

    def counts(self, t: int) -> dict[Free, int]:
        """The counts of all axes at step t of `steps`."""
        steps = self.steps
        return {axis: axis.size // steps * t for axis in self.axes}


@dataclass(frozen=True, slots=True)
class Clusters:
    """Every axis is in one of the `clusters`, or held by a constraint, or named by one of the `unmet` ones,
    which no scaling keeps true."""

    clusters: list[Cluster]
    held: dict[Free, CountConstraint]
    unmet: list[CountConstraint]


def find_clusters(axes: Sequence[Free], constraints: Sequence[CountConstraint], lead: str = "inner") -> Clusters:
    """Axes that must scale together. `lead` says which factor of a product scales with a width that is tied to it:
    "inner" (head dims, with the heads held) or "outer" (the heads)."""
    held: dict[Free, CountConstraint] = {}
    for constraint in constraints:
        for monomial in constraint.polynomial.terms:
            for axis in _held_factors(monomial, lead):
                held.setdefault(axis, constraint)
    parent: dict[Free, Free] = {}

    def find(axis: Free) -> Free:
        while parent.get(axis, axis) is not axis:
            axis = parent[axis]
        return axis

    unmet: list[CountConstraint] = []
    tied: dict[Free, None] = {}  # axes that lie on no tensor (a repeat count, say) still move with their cluster
    for constraint in constraints:
        movers = _movers(constraint.polynomial, held)
        if movers is None:
            unmet.append(constraint)
            continue
        tied.update(dict.fromkeys(movers))
        for other in movers[1:]:
            parent[find(other)] = find(movers[0])
    blocked = {symbol for constraint in unmet for symbol in constraint.polynomial.symbols}
    on_tensors = set(axes)
    members: dict[Free, dict[Free, None]] = {}
    for axis in (*axes, *tied):
        if axis.reason is None and axis not in held and axis not in blocked:
            members.setdefault(find(axis), {})[axis] = None
    of_axis: dict[Free, list[CountConstraint]] = {}
    for constraint in constraints:
        for symbol in constraint.polynomial.symbols:
            assert isinstance(symbol, Free)
            of_axis.setdefault(symbol, []).append(constraint)
    result = [
        Cluster(tuple(group), tuple(dict.fromkeys(c for axis in group for c in of_axis.get(axis, ()))))
        for group in members.values()
        if on_tensors.intersection(group)
    ]
    return Clusters(result, held, unmet)


def _held_factors(monomial: Sequence[object], lead: str) -> list[Free]:
    factors = [symbol for symbol in monomial if isinstance(symbol, Free)]
    if len(factors) < 2:
        return []
    inner = [a for a in factors if any(b is not a and b in _outer_leaves(a) for b in factors)]
    ordered = sorted(factors, key=lambda axis: (axis in inner, axis.size))
    mover = ordered[-1] if lead == "inner" else ordered[0]
    return [axis for axis in factors if axis is not mover]


def _outer_leaves(axis: Free) -> set[Free]:
    return {leaf for outer in axis.outers for leaf in leaves(outer)}


def _movers(polynomial: Polynomial, held: dict[Free, CountConstraint]) -> list[Free] | None:
    """The one factor of each monomial that is not held; None if a monomial has none or several."""
    movers: list[Free] = []
    for monomial in polynomial.terms:
        moving = [symbol for symbol in monomial if isinstance(symbol, Free) and symbol not in held]
        if len(moving) != 1:
            return None
        movers.append(moving[0])
    return movers
