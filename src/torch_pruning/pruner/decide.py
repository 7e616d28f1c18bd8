"""From options to the units that stay: select, score, allot, choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_pruning.axes.expression import Free
from torch_pruning.axes.positions import Choice
from torch_pruning.errors import BudgetError
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.ignored import ignored_axes
from torch_pruning.importance.base import Scores
from torch_pruning.importance.names import resolve_importance
from torch_pruning.importance.tensors import ModelTensors
from torch_pruning.pruner.allot import Rounding, best_units, keeping_guards, score_axes
from torch_pruning.pruner.budget import Allotment, Budget, Target, meet
from torch_pruning.pruner.candidates import Candidates, Pool, candidate
from torch_pruning.pruner.cost_aware import most_importance
from torch_pruning.pruner.costs import Cost, total_cost
from torch_pruning.pruner.memory import memory_cost
from torch_pruning.pruner.options import Options
from torch_pruning.pruner.selection import head_axes, pools, select


@dataclass(frozen=True, slots=True)
class Start:
    """What shares refer to where the model has been pruned since: sizes of axes, and what everything cost."""

    sizes: Mapping[Free, int]
    costs: Mapping[str, float]

    @classmethod
    def of(cls, graph: Graph) -> Start:
        """The graph as it is now."""
        axes = [axis for cluster in graph.clusters for axis in cluster.axes]
        sizes = {axis: axis.size for axis in (*axes, *graph.group_of)}
        whole = torch.zeros(1, 0, dtype=torch.float64)
        return cls(sizes, {kind: float(_cost(graph, [], kind)(whole)) for kind in ("macs", "params", "memory")})


def decide(graph: Graph, options: Options, start: Start | None = None) -> Choice:
    """The units that stay of every axis that loses some. Shares refer to `start`, or to the model as it is.

    Raises:
        BudgetError: for a budget that cannot be met, with the closest reachable value.
        ValueError: for scores that are not numbers, or options that name nothing.
    """
    clusters, parts = candidates_of(graph, options)
    scores = scores_of(graph, clusters, options)
    return best_units(graph, allot(graph, clusters, scores, parts, options, start), scores)


def candidates_of(graph: Graph, options: Options) -> tuple[list[Cluster], list[Pool]]:
    """The clusters that may lose units, and which of them share a ranking or a ratio."""
    clusters, asked = select(graph, options, ignored_axes(graph, options.ignore))
    return clusters, pools(graph, clusters, asked, options.scope)


def scores_of(graph: Graph, clusters: list[Cluster], options: Options) -> dict[Free, Scores]:
    """The scores of all their axes."""
    axes = [axis for cluster in clusters for axis in cluster.axes]
    return score_axes(graph, axes, resolve_importance(options.importance, options.seed), ModelTensors(graph.model))


def allot(
    graph: Graph,
    clusters: list[Cluster],
    scores: Mapping[Free, Scores],
    parts: list[Pool],
    options: Options,
    start: Start | None = None,
    target: Target | None = None,
) -> dict[Free, int]:
    """How many units each axis of the clusters keeps. `parts` index into `clusters`; `target` is what the budget of the
    options limits, if the caller has it already.

    Comparisons in the model's code may look at several counts at once; clusters whose counts together would flip
    one stay whole, and the others make up for them.
    """
    candidates = table(graph, clusters, scores, options.rounding, start)
    if target is None and options.budget.kind != "pruning_ratio":
        target = target_of(graph, clusters, options.budget, start)
    held: set[int] = set()
    while True:
        now = [*_without(parts, held), *(Pool((index,), 0.0) for index in held)]
        levels = _levels(candidates, now, options, target)
        counts = candidates.counts(levels)
        kept = keeping_guards(graph, counts)
        flipping = {i for i, c in enumerate(clusters) if any(kept[axis] != counts[axis] for axis in c.axes)}
        if not flipping:
            break
        held |= flipping
    if start is None and target is None and torch.equal(levels, candidates.top):
        _demand_something(candidates, parts, held, options)
    return counts


def table(
    graph: Graph,
    clusters: list[Cluster],
    scores: Mapping[Free, Scores],
    rounding: Rounding,
    start: Start | None = None,
) -> Candidates:
    """The clusters with their admissible steps and what each step keeps."""
    sizes = start.sizes if start is not None else None
    # Widths are rounded, and a head is a whole width by itself.
    heads = head_axes(graph) if rounding.to > 1 else set()
    whole = replace(rounding, to=1)
    roundings = [whole if heads.issuperset(cluster.axes) else rounding for cluster in clusters]
    return Candidates(
        [candidate(graph, cluster, scores, own, sizes) for cluster, own in zip(clusters, roundings, strict=True)]
    )


def _without(parts: list[Pool], gone: set[int]) -> list[Pool]:
    left = [replace(pool, members=tuple(i for i in pool.members if i not in gone)) for pool in parts]
    return [pool for pool in left if pool.members]


def _levels(candidates: Candidates, parts: list[Pool], options: Options, target: Target | None) -> Tensor:
    if target is None:
        levels = Allotment(candidates, parts).levels(options.budget.value)
        _demand_ratios(candidates, parts, levels, options)
        return levels
    free = tuple(index for pool in parts if pool.ratio is None for index in pool.members)
    if options.scope == "cost" and free:
        return most_importance(candidates, [pool for pool in parts if pool.ratio is not None], free, target)
    return meet(Allotment(candidates, parts), target, by_score=options.scope != "local")


def target_of(graph: Graph, clusters: list[Cluster], budget: Budget, start: Start | None = None) -> Target:
    """The cost that a budget limits, as a function of the clusters' steps."""
    cost = _cost(graph, clusters, budget.kind)
    whole = torch.tensor([[cluster.steps for cluster in clusters]], dtype=torch.float64)
    dense = float(cost(whole)) if start is None else start.costs[budget.kind]
    name, unit = {"macs": ("macs", ""), "params": ("parameters", ""), "memory": ("memory", "bytes")}[budget.kind]
    return Target(cost, budget.target(dense), name, unit)


def _cost(graph: Graph, clusters: list[Cluster], kind: str) -> Cost:
    if kind == "memory":
        return memory_cost(graph, clusters)
    return total_cost(graph.cost_of.mac_terms if kind == "macs" else graph.cost_of.parameter_terms, clusters)


# ---------------------------------------------------------------- a ratio that cannot be met


def _demand_ratios(candidates: Candidates, parts: list[Pool], levels: Tensor, options: Options) -> None:
    """Raises BudgetError where a ratio is beyond the limits, or removes nothing at all."""
    asked = [(pool, options.budget.value if pool.ratio is None else pool.ratio) for pool in parts]
    for pool, ratio in asked:
        if ratio > options.max_pruning_ratio:
            raise BudgetError(
                f"a pruning ratio of {ratio} was asked for, and max_pruning_ratio is {options.max_pruning_ratio}: "
                f"the closest reachable ratio is {options.max_pruning_ratio}"
            )
        if len(pool.members) > 1:
            _demand_together(candidates, pool, ratio, levels)


def _demand_together(candidates: Candidates, pool: Pool, ratio: float, levels: Tensor) -> None:
    members = list(pool.members)
    rows = [candidates.rows[index] for index in members]
    total = sum(row.units * row.whole for row in rows)
    most = sum(row.units * (row.whole - row.steps[0]) for row in rows)
    removed = sum(row.units * (row.whole - row.steps[int(levels[i])]) for i, row in zip(members, rows, strict=True))
    if round(ratio * total) > most and removed == most:
        raise BudgetError(
            f"a pruning ratio of {ratio} was asked for, {round(ratio * total)} of {total} units that are ranked "
            f"together; at most {most} can go, so the closest reachable ratio is {most / total:.4g}: lower the ratio, "
            "the minimum or the rounding, or raise max_pruning_ratio"
        )


def _demand_something(candidates: Candidates, parts: list[Pool], held: set[int], options: Options) -> None:
    """Raises BudgetError, for levels that remove nothing, if the caller wanted something removed."""
    asked = [options.budget.value if pool.ratio is None else pool.ratio for pool in parts] or [options.budget.value]
    if max(asked) == 0:
        return
    able = [row for index, row in enumerate(candidates.rows) if index not in held and len(row.steps) > 1]
    if not able:
        raise BudgetError(
            "a pruning ratio above 0 was asked for, and no group may lose units: the closest reachable ratio is 0. "
            "graph.frozen() says what is frozen and why; minimum, round_to, ignore, exact_only and comparisons of "
            "sizes in the code hold back more"
        )
    share, name = min(
        (1 - row.steps[-2] / row.steps[-1], next((a.name for a in row.cluster.axes if a.name), "a group"))
        for row in able
    )
    raise BudgetError(
        f"a pruning ratio of {max(asked)} was asked for, which rounds to no unit anywhere; the closest "
        f"reachable ratios are 0 and {share:.4g} (of {name}): raise the ratio, or lower round_to"
    )
