"""Meeting a budget: a search over what every choice costs, to within the cheapest admissible step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.errors import BudgetError
from torch_pruning.pruner.candidates import Candidates, Pool, Ranking
from torch_pruning.pruner.costs import Cost

KINDS = ("pruning_ratio", "macs", "params", "memory", "latency")


@dataclass(frozen=True, slots=True)
class Budget:
    """What the result may cost. At most 1 is a share to keep; of `pruning_ratio`, the share of units to remove."""

    kind: str
    value: float

    def target(self, dense: float) -> float:
        """The cost that may not be exceeded, given that of the whole model."""
        return self.value * dense if self.value <= 1 else self.value


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A cost that may be at most `limit`. `name` and `unit` are for messages."""

    cost: Cost
    limit: float
    name: str
    unit: str = ""

    def of(self, candidates: Candidates, levels: Tensor) -> float:
        return float(self.cost(candidates.steps_at(levels)[None]))

    def fits(self, candidates: Candidates, levels: Tensor) -> bool:
        return self.of(candidates, levels) <= self.limit * (1 + 1e-12)


class Allotment:
    """How many units each candidate of some pools keeps, as a function of one share that rises from 0 to 1."""

    def __init__(self, candidates: Candidates, pools: Sequence[Pool]) -> None:
        self.candidates = candidates
        self.pools = tuple(pools)
        self._rankings = {pool: Ranking(candidates, pool.members) for pool in pools if len(pool.members) > 1}

    def levels(self, share: float) -> Tensor:
        """The levels when every pool without a ratio of its own loses `share` of its units."""
        levels = self.candidates.top.clone()
        for pool in self.pools:
            ratio = share if pool.ratio is None else pool.ratio
            if pool in self._rankings:
                levels[list(pool.members)] = self._rankings[pool].levels(ratio)
            else:
                for index in pool.members:
                    levels[index] = self.candidates.nearest(index, ratio)
        return levels

    @property
    def movable(self) -> Tensor:
        """Which candidates the budget moves: [candidates]"""
        moved = torch.zeros(len(self.candidates), dtype=torch.bool)
        for pool in self.pools:
            moved[list(pool.members)] = pool.ratio is None
        return moved

    @property
    def lowest(self) -> Tensor:
        """The levels at which as little stays as may."""
        return torch.where(self.movable, torch.zeros_like(self.candidates.top), self.levels(0.0))


def unreachable(target: Target, reachable: float) -> BudgetError:
    shown = (f"{value:,.4g}" if target.unit == "ms" else f"{value:,.0f}" for value in (target.limit, reachable))
    asked, closest = (f"{value} {target.unit}".strip() for value in shown)
    return BudgetError(
        f"{target.name} of at most {asked} was asked for; the lowest reachable is {closest}: "
        "raise the budget, ignore less, lower the minimum or the rounding, or allow inexact groups"
    )


def meet(allotment: Allotment, target: Target, *, by_score: bool) -> Tensor:
    """The levels of the smallest share that fits, with single steps given back until no further one fits.

    Steps go back to the highest scores first, or, not `by_score`, to whoever has kept the least.

    Raises:
        BudgetError: with the lowest reachable cost, if that is above the target.
    """
    candidates = allotment.candidates
    if not target.fits(candidates, allotment.lowest):
        raise unreachable(target, target.of(candidates, allotment.lowest))
    if target.fits(candidates, allotment.levels(0.0)):
        return allotment.levels(0.0)
    low, high = 0.0, 1.0  # low costs too much, high fits
    for _ in range(40):
        middle = (low + high) / 2
        if target.fits(candidates, allotment.levels(middle)):
            high = middle
        else:
            low = middle
    levels = allotment.levels(high) if high < 1 else allotment.lowest
    return give_back(candidates, levels, target, allotment.movable, by_score=by_score)


def give_back(
    candidates: Candidates, levels: Tensor, target: Target, movable: Tensor, *, by_score: bool = True
) -> Tensor:
    """Single steps added for as long as one fits."""
    while True:
        able = (movable & (levels < candidates.top)).nonzero().flatten()
        if not len(able):
            return levels
        now = target.of(candidates, levels)
        trials = levels.repeat(len(able), 1)
        trials[torch.arange(len(able)), able] += 1
        extra = target.cost(candidates.steps_at(trials)) - now
        fitting = extra <= target.limit * (1 + 1e-12) - now
        able, extra = able[fitting], extra[fitting]
        if not len(able):
            return levels
        order = _worth(candidates, levels, able, by_score).argsort(descending=True, stable=True)
        levels = _add(candidates, levels, target, able[order], extra[order])


def _worth(candidates: Candidates, levels: Tensor, able: Tensor, by_score: bool) -> Tensor:
    here = candidates.start[able] + levels[able]
    steps = candidates.steps
    if not by_score:
        return -steps[here] / steps[candidates.start[able] + candidates.top[able]]
    return (candidates.kept[here + 1] - candidates.kept[here]) / (steps[here + 1] - steps[here])


def _add(candidates: Candidates, levels: Tensor, target: Target, order: Tensor, extra: Tensor) -> Tensor:
    """One step for as many of the first candidates as fit together; one always does.

    Steps cost more together than alone, where sizes are multiplied, so the sum of `extra` is a bound to start from.
    """
    room = target.limit * (1 + 1e-12) - target.of(candidates, levels)
    number = max(1, int((extra.cumsum(0) <= room).sum()))
    while number > 1:
        trial = levels.clone()
        trial[order[:number]] += 1
        if target.fits(candidates, trial):
            return trial
        number //= 2
    trial = levels.clone()
    trial[order[0]] += 1
    return trial
