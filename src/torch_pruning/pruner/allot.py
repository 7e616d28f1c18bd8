"""Allotment: how many units each axis keeps, and which ones, given scores."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from torch_pruning.axes.expression import Axis, Concat, Free, Product, resolve
from torch_pruning.axes.positions import Choice, Kept
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.graph import Graph
from torch_pruning.importance.base import Importance, Scores
from torch_pruning.importance.weight import RandomImportance
from torch_pruning.trace.substitute import named_tensors


@dataclass(frozen=True, slots=True)
class Rounding:
    """Kept counts are multiples of `to` where the axis is at least that large; never below `minimum`, and never more
    than the share `most` removed."""

    to: int = 1
    minimum: int = 1
    most: float = 1.0


def admissible_steps(
    cluster: Cluster, graph: Graph, rounding: Rounding, sizes: Mapping[Free, int] | None = None
) -> list[int]:
    """The steps t (ascending, the last one is "all") at which every axis of the cluster has an admissible count.

    `sizes` are those that shares refer to, where they are not the present ones.
    """
    steps = cluster.steps
    lowest, multiple = 1, 1
    for axis in cluster.axes:
        group, per_step = graph.group_of.get(axis), axis.size // steps
        size = axis.size if sizes is None else sizes.get(axis, axis.size)
        few = math.ceil((1 - rounding.most) * size - 1e-9 * size)  # 1 - 0.9 is not 0.1
        minimum = min(max(rounding.minimum, group.minimum if group else 1, few), axis.size)
        lowest = max(lowest, -(-minimum // per_step))
        multiple = math.lcm(multiple, rounding.to // math.gcd(rounding.to, per_step))
    found = list(range(-(-lowest // multiple) * multiple, steps, multiple))
    if graph.looks_at(cluster.axes):
        found = [t for t in found if _agrees(graph, cluster.counts(t))]
    return [*found, steps]


def _agrees(graph: Graph, counts: Mapping[Free, int]) -> bool:
    return graph.defines_integers(counts) and not graph.broken_guards(counts)


def uniform_counts(clusters: Iterable[tuple[Cluster, list[int]]], ratio: float) -> dict[Free, int]:
    """Remove the share `ratio` of every cluster, rounded to the nearest admissible step (fewer on a tie)."""
    counts: dict[Free, int] = {}
    for cluster, steps in clusters:
        target = (1 - ratio) * cluster.steps
        # The last step, which keeps all, is at least the target.
        above = bisect_left(steps, target)
        t = steps[above]
        if above and target - steps[above - 1] < t - target:
            t = steps[above - 1]
        counts.update(cluster.counts(t))
    return counts


def keeping_guards(graph: Graph, counts: Mapping[Free, int]) -> dict[Free, int]:
    """The counts, with all units given back to clusters whose counts *together* would flip a comparison in the code.

    Every step of a cluster is admissible by itself; a comparison such as `a.shape[1] < b.shape[1]` looks at two.
    """
    kept = dict(counts)
    while broken := graph.broken_guards(kept):
        looked_at = {axis for check in broken for axis in check.axes}
        for cluster in graph.clusters:
            if looked_at.intersection(cluster.axes):
                kept.update(cluster.counts(cluster.steps))
    return kept


def choose_units(
    graph: Graph, counts: Mapping[Free, int], importance: Importance, tensors: Mapping[str, Tensor]
) -> Choice:
    """The highest-scoring units of each axis, exactly as many as asked for. Of equal scores the first stays.

    Raises:
        ValueError: for scores that are not numbers.
    """
    reduced = [axis for axis, count in counts.items() if count < axis.size]
    return best_units(graph, counts, score_axes(graph, reduced, importance, tensors))


def score_axes(
    graph: Graph, axes: Iterable[Free], importance: Importance, tensors: Mapping[str, Tensor]
) -> dict[Free, Scores]:
    """The scores of each axis that lies on a tensor of the model: [lanes, units].

    Raises:
        ValueError: for scores that are not numbers.
    """
    found: dict[Free, Scores] = {}
    for axis in axes:
        if axis not in graph.group_of:
            continue
        group = graph.group_of[axis]
        scores = found[axis] = importance(group, tensors)
        if not torch.isfinite(scores).all():
            raise ValueError(
                f"scores of {group.name} must be finite, found {int((~torch.isfinite(scores)).sum())} that are not: "
                "check its tensors"
            )
    return found


def best_units(graph: Graph, counts: Mapping[Free, int], scores: Mapping[Free, Scores]) -> Choice:
    """The highest-scoring units of each axis, exactly as many as asked for. Of equal scores the first stays."""
    choice: dict[Free, Kept] = {}
    for axis, count in counts.items():
        if count == axis.size:
            continue
        group = graph.group_of.get(axis)
        if group is None:  # lies on no tensor of the model
            choice[axis] = Kept({(): tuple(range(count))})
            continue
        choice[axis] = kept_by_score(scores[axis], count, tuple(group.lanes))
    return choice


def kept_by_score(scores: Scores, count: int, lanes: tuple[Free, ...]) -> Kept:
    """The `count` best units of every lane, in ascending order: [lanes, units] -> Kept."""
    order = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :count]
    rows = order.sort(dim=1).values.tolist()
    keys = product(*(range(lane.size) for lane in lanes))
    return Kept(dict(zip(keys, map(tuple, rows), strict=True)), lanes)


def random_choice(graph: Graph, ratio: float, *, exact_only: bool = False, seed: int = 0) -> Choice:
    """Random units of *every* cluster, outer and inner factors of a product alike: what verification removes.

    `exact_only` leaves out clusters in which removing is not the same as zeroing.
    """
    clusters = [
        (cluster, admissible_steps(cluster, graph, Rounding()))
        for cluster in graph.clusters
        if not exact_only or all(graph.group_of[axis].exact for axis in cluster.axes if axis in graph.group_of)
    ]
    counts = keeping_guards(graph, uniform_counts(clusters, ratio))
    return choose_units(graph, counts, RandomImportance(seed), dict(named_tensors(graph.model)))


def prunable_parameters(graph: Graph) -> int:
    """Elements of all parameters that lie on at least one group."""
    return graph.cost().parameters - sum(unprunable_elements(graph, name) for name in graph.parameters)


def unprunable_elements(graph: Graph, tensor: str) -> int:
    """Elements of a tensor that lie on no group."""
    return math.prod(_on_no_group(axis, graph) for axis in graph.axes[tensor])


def _on_no_group(axis: Axis, graph: Graph) -> int:
    """How many positions lie on no group: (A * B) -> a * b of them, [A + B] -> a + b."""
    axis = resolve(axis)
    if isinstance(axis, Product):
        return math.prod(_on_no_group(factor, graph) for factor in axis.factors)
    if isinstance(axis, Concat):
        return sum(_on_no_group(part, graph) for part in axis.parts)
    return 0 if axis in graph.group_of else axis.size
