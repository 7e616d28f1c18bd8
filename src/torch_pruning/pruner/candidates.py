"""What may lose units, as a table: for every cluster its admissible steps, and how much importance each of them keeps.

A *level* is an index into a cluster's admissible steps. Everything that decides works on one tensor of levels, one for
each cluster, from 0 (as little as may stay) to `top` (all).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.axes.expression import Free
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.graph import Graph
from torch_pruning.importance.base import Scores
from torch_pruning.pruner.allot import Rounding, admissible_steps


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One cluster: its admissible steps, ascending, and the importance that each keeps (float64, as many).

    `whole` is the number of steps at the start, which ratios refer to: more than there are now if the cluster has been
    pruned since. `units` is how many units a step holds, over its axes; `entries` counts each once per lane.
    """

    cluster: Cluster
    steps: tuple[int, ...]
    kept: Tensor
    whole: int
    units: int
    entries: int


def candidate(
    graph: Graph,
    cluster: Cluster,
    scores: Mapping[Free, Scores],
    rounding: Rounding,
    sizes: Mapping[Free, int] | None = None,
) -> Candidate:
    """A cluster with the importance of its steps.

    Of each axis the highest scores stay, as many in each lane, so step t keeps the sum of the t best: a concave curve.
    `sizes` are those at the start, if they were others.
    """
    gains = torch.zeros(cluster.steps, dtype=torch.float64)
    units = entries = 0
    for axis in cluster.axes:
        if axis in graph.group_of:
            of_units = scores[axis].double().sort(dim=1, descending=True).values  # (lanes, units)
            gains += of_units.sum(0).view(cluster.steps, -1).sum(1).cpu()
            units += axis.size // cluster.steps
            entries += of_units.numel() // cluster.steps
    steps = admissible_steps(cluster, graph, rounding, sizes)
    first = cluster.axes[0]
    whole = cluster.steps * (sizes or {}).get(first, first.size) // first.size
    total = torch.cat([gains.new_zeros(1), gains.cumsum(0)])
    return Candidate(cluster, tuple(steps), total[list(steps)], whole, max(units, 1), max(entries, 1))


class Candidates:
    """All candidates of one decision, flat: level l of candidate c stands at `start[c] + l`."""

    def __init__(self, rows: Sequence[Candidate]) -> None:
        self.rows = tuple(rows)
        lengths = torch.tensor([len(row.steps) for row in rows], dtype=torch.long)
        self.top = lengths - 1
        self.start = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])[:-1]
        self.steps = torch.tensor([step for row in rows for step in row.steps], dtype=torch.float64)
        self.kept = torch.cat([row.kept for row in rows]) if rows else torch.zeros(0, dtype=torch.float64)
        self.units = torch.tensor([row.units for row in rows], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.rows)

    def steps_at(self, levels: Tensor) -> Tensor:
        """The step of each candidate at these levels: [..., candidates]."""
        return self.steps[self.start + levels]

    def importance_at(self, levels: Tensor) -> float:
        """The importance that stays, over all candidates."""
        return float(self.kept[self.start + levels].sum()) if len(self) else 0.0

    def units_at(self, levels: Tensor) -> float:
        """How many units stay."""
        return float((self.steps_at(levels) * self.units).sum())

    def counts(self, levels: Tensor) -> dict[Free, int]:
        """How many units each axis keeps."""
        found: dict[Free, int] = {}
        for row, level in zip(self.rows, levels.tolist(), strict=True):
            found.update(row.cluster.counts(row.steps[level]))
        return found

    def nearest(self, index: int, ratio: float) -> int:
        """The level of one candidate at which the share `ratio` is removed as nearly as possible (fewer on a tie)."""
        row = self.rows[index]
        target = (1 - ratio) * row.whole
        if target >= row.steps[-1]:
            return len(row.steps) - 1
        above = bisect_left(row.steps, target - 1e-9 * row.whole)  # 1 - 0.9 is not 0.1
        if above and target - row.steps[above - 1] < row.steps[above] - target - 1e-9 * row.whole:
            return above - 1
        return above


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates that share one ranking, by index. `ratio`: the share of units to remove; None: as the budget says."""

    members: tuple[int, ...]
    ratio: float | None = None


class Ranking:
    """The order in which a pool loses units: the least important first, of equal ones the last first.

    What goes at once is the difference of two admissible steps; it counts with the mean score of its units.
    """

    def __init__(self, candidates: Candidates, members: Sequence[int]) -> None:
        self.members = torch.tensor(members, dtype=torch.long)
        self.top = candidates.top[self.members]
        owners, units, scores = [], [], []
        for place, index in enumerate(members):
            row = candidates.rows[index]
            size = torch.tensor(row.steps, dtype=torch.float64).diff()
            # Means of a falling sequence fall; cummin takes away what rounding makes of equal ones.
            scores.append((row.kept.diff() / (size * row.entries)).cummin(0).values if len(size) else size)
            units.append(size * row.units)
            owners.append(torch.full((len(size),), place))
        order = torch.argsort(torch.cat(scores).flip(0), stable=True)
        self.owners = torch.cat(owners).flip(0)[order]
        self.units = torch.cat(units).flip(0)[order]
        self.removed = self.units.cumsum(0)
        rows = [candidates.rows[index] for index in members]
        self.total = sum(row.units * row.whole for row in rows)
        self.gone = sum(row.units * (row.whole - row.steps[-1]) for row in rows)

    def levels(self, ratio: float) -> Tensor:
        """The level of each member when the share `ratio` of all units goes, as nearly as possible."""
        goal = ratio * self.total - self.gone
        taken = int(torch.searchsorted(self.removed, goal + 1e-6, right=True))  # these go within the goal
        gone = torch.bincount(self.owners[:taken], minlength=len(self.members))
        left = goal - (float(self.removed[taken - 1]) if taken else 0.0)
        if taken < len(self.units):
            gone = self._nearer(gone, taken, left)
        return self.top - gone

    def _nearer(self, gone: Tensor, taken: int, left: float) -> Tensor:
        """What remains to the goal goes in smaller pieces from further up the ranking, or in one piece too many."""
        owners, units = self.owners[taken:], self.units[taken:]
        blocked: set[int] = set()
        place = 0
        while left >= 0.5 and place < len(units):
            fitting = (units[place:] <= left + 1e-6).nonzero().flatten()
            if not len(fitting):
                break
            blocked.update(owners[place : place + int(fitting[0])].tolist())
            place += int(fitting[0])
            if (owner := int(owners[place])) not in blocked:
                gone[owner] += 1
                left -= float(units[place])
            place += 1
        smallest = int(units.argmin())
        if left >= 0.5 and float(units[smallest]) < 2 * left and gone[owners[smallest]] < self.top[owners[smallest]]:
            gone[owners[smallest]] += 1
        return gone
