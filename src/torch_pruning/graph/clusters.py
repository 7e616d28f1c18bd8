"""Count constraints made choosable: groups of axes whose counts scale together, in whole steps.

All equations that reach this point are homogeneous: each monomial has one *mover*, a count that scales, and other
factors that are *held*. Scaling all movers of a cluster by t / steps keeps every equation true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Free, Reason
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
        return {axis: axis.size // self.steps * t for axis in self.axes}


def find_clusters(
    axes: Sequence[Free], constraints: Sequence[CountConstraint], lead: str = "inner"
) -> tuple[list[Cluster], dict[Free, CountConstraint]]:
    """(clusters, held): every axis is in one cluster, or held with the constraint that holds it.

    `lead` says which factor of a product moves: "inner" (head dims, with the heads held) or "outer" (the heads).
    Constraints that cannot be met by scaling freeze their axes.
    """
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

    for constraint in constraints:
        movers = _movers(constraint.polynomial, held)
        if movers is None:
            for symbol in constraint.polynomial.symbols:
                assert isinstance(symbol, Free)
                symbol.reason = symbol.reason or Reason(f"the code needs {constraint}", constraint.where)
            continue
        for other in movers[1:]:
            parent[find(other)] = find(movers[0])
    clusters: dict[Free, list[Free]] = {}
    for axis in axes:
        if axis.reason is None and axis not in held:
            clusters.setdefault(find(axis), []).append(axis)
    # Axes that lie on no tensor (a repeat count, say) still move with their cluster.
    for constraint in constraints:
        for symbol in constraint.polynomial.symbols:
            if isinstance(symbol, Free) and symbol.reason is None and symbol not in held and find(symbol) in clusters:
                if symbol not in clusters[find(symbol)]:
                    clusters[find(symbol)].append(symbol)
    result = []
    for members in clusters.values():
        of_cluster = tuple(c for c in constraints if any(symbol in members for symbol in c.polynomial.symbols))
        result.append(Cluster(tuple(members), of_cluster))
    return result, {axis: constraint for axis, constraint in held.items() if axis.reason is None}


def _held_factors(monomial: Sequence[object], lead: str) -> list[Free]:
    factors = [symbol for symbol in monomial if isinstance(symbol, Free)]
    if len(factors) < 2:
        return []
    inner = [a for a in factors if any(b is not a and b in _outer_leaves(a) for b in factors)]
    ordered = sorted(factors, key=lambda axis: (axis in inner, axis.size))
    mover = ordered[-1] if lead == "inner" else ordered[0]
    return [axis for axis in factors if axis is not mover]


def _outer_leaves(axis: Free) -> set[Free]:
    from torch_pruning.axes.expression import leaves

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
