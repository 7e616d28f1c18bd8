"""Cost-aware allotment: the most importance that a budget buys.

What is sought is the choice of steps with the largest sum of kept scores whose cost is within the budget. Kept
importance of a cluster is a concave function of its steps (the best units stay), so if costs were sums over clusters,
removing whatever loses the least importance for the cost it saves would be optimal up to the last step (marginal
allocation: B. Fox, "Discrete optimization via marginal analysis", Management Science 13, 1966). Costs are products of
sizes, and what a unit saves depends on what else goes. So the saving is taken anew from the gradient of the cost many
times on the way down: a heuristic, after which these are certain: the budget is met, no further step fits, and no less
importance is kept than by ranking all units together or by one ratio for all, because the best of these is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_pruning.pruner.budget import Allotment, Target, give_back, meet, unreachable
from torch_pruning.pruner.candidates import Candidates, Pool
from torch_pruning.pruner.costs import gradient

_ROUNDS = 24  # from the whole model to the budget; the gradient is taken anew before each
_TINY = 1e-30


def most_importance(candidates: Candidates, fixed: list[Pool], free: tuple[int, ...], target: Target) -> Tensor:
    """The levels that keep the most importance within the budget, of all that are tried.

    Raises:
        BudgetError: with the lowest reachable cost, if that is above the target.
    """
    together = Allotment(candidates, [*fixed, Pool(free)])
    alike = Allotment(candidates, [*fixed, *(Pool((index,)) for index in free)])
    start = together.levels(0.0)
    if target.fits(candidates, start):
        return start
    if not target.fits(candidates, together.lowest):
        raise unreachable(target, target.of(candidates, together.lowest))
    found = [
        give_back(candidates, _descend(candidates, start, target, together.movable), target, together.movable),
        meet(together, target, by_score=True),
        meet(alike, target, by_score=False),
    ]
    return max(found, key=candidates.importance_at)


def _descend(candidates: Candidates, levels: Tensor, target: Target, movable: Tensor) -> Tensor:
    """Steps removed by importance lost per cost saved, in rounds, until the target is met."""
    pieces = _Pieces(candidates, movable)
    portion = (target.of(candidates, levels) - target.limit) / _ROUNDS
    while (above := target.of(candidates, levels) - target.limit) > 0:
        saving = gradient(target.cost, candidates.steps_at(levels)).clamp_min(_TINY)
        levels = levels - pieces.cheapest(levels, saving, min(portion, above))
    return levels


class _Pieces:
    """Everything that can go: the difference of two admissible steps of one candidate, flat."""

    def __init__(self, candidates: Candidates, movable: Tensor) -> None:
        length = candidates.top + 1
        owners = torch.repeat_interleave(torch.arange(len(candidates)), length)
        level = torch.arange(len(owners)) - candidates.start[owners]
        able = (level > 0) & movable[owners]
        here = able.nonzero().flatten()
        self.owners, self.level = owners[here], level[here]
        self.size = candidates.steps[here] - candidates.steps[here - 1]
        self.loss = candidates.kept[here] - candidates.kept[here - 1]
        self.count = len(candidates)

    def cheapest(self, levels: Tensor, saving: Tensor, portion: float) -> Tensor:
        """How many levels each candidate goes down, for a saving of about `portion`; at least one goes."""
        left = (self.level <= levels[self.owners]).nonzero().flatten()
        owners = self.owners[left]
        saved = self.size[left] * saving[owners]
        order = torch.argsort(self.loss[left] / saved, stable=True)
        enough = int(torch.searchsorted(saved[order].cumsum(0), portion)) + 1
        return torch.bincount(owners[order[:enough]], minlength=self.count)
