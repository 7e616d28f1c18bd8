"""Meeting a budget: a search over the cost polynomial, to within the cheapest admissible step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Free
from torch_pruning.errors import BudgetError
from torch_pruning.graph.clusters import Cluster
from torch_pruning.pruner.allot import uniform_counts


@dataclass(frozen=True, slots=True)
class Budget:
    """What the result may cost. `kind` is "ratio", "macs" or "params"; at most 1 is a share to keep (ratio: remove)."""

    kind: str
    value: float


def meet_budget(
    clusters: Sequence[tuple[Cluster, list[int]]], cost: Callable[[dict[Free, int]], float], target: float, name: str
) -> dict[Free, int]:
    """The smallest uniform ratio that costs at most `target`, then single steps given back as long as they fit.

    Raises:
        BudgetError: with the lowest reachable cost, if that is above the target.
    """
    lowest = uniform_counts(clusters, 1.0)
    if cost(lowest) > target:
        raise BudgetError(
            f"{name} of at most {target:,.0f} was asked for; the lowest reachable is {cost(lowest):,.0f}: "
            "raise the budget, ignore less, or allow inexact groups"
        )
    low, high = 0.0, 1.0  # cost(low) may be too high, cost(high) fits
    if cost(uniform_counts(clusters, 0.0)) <= target:
        return uniform_counts(clusters, 0.0)
    for _ in range(40):
        middle = (low + high) / 2
        if cost(uniform_counts(clusters, middle)) <= target:
            high = middle
        else:
            low = middle
    counts = uniform_counts(clusters, high)
    return _give_back(clusters, counts, high, cost, target)


def _give_back(
    clusters: Sequence[tuple[Cluster, list[int]]],
    counts: dict[Free, int],
    ratio: float,
    cost: Callable[[dict[Free, int]], float],
    target: float,
) -> dict[Free, int]:
    """Clusters that were rounded down the furthest get a step back first."""

    def lag(entry: tuple[Cluster, list[int]]) -> float:
        cluster, _ = entry
        axis = cluster.axes[0]
        return counts[axis] / axis.size - (1 - ratio)

    for cluster, steps in sorted(clusters, key=lag):
        axis = cluster.axes[0]
        current = counts[axis] * cluster.steps // axis.size
        later = [t for t in steps if t > current]
        if later:
            trial = {**counts, **cluster.counts(later[0])}
            if cost(trial) <= target:
                counts = trial
    return counts
