"""What a run of the model takes, as a function of the steps of clusters, from measured times of its ops."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.axes.expression import Free
from torch_pruning.axes.positions import Choice
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.counts import Counts, counted
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.build import build_plan
from torch_pruning.progress import track
from torch_pruning.pruner.costs import Sizes, Terms
from torch_pruning.pruner.latency.cache import Times
from torch_pruning.pruner.latency.clock import device_key, device_of, milliseconds, model_milliseconds
from torch_pruning.pruner.latency.ops import Shape, Work, all_work, runner, signature
from torch_pruning.pruner.latency.table import (
    GRID,
    Interpolated,
    Variables,
    elements,
    grid,
    refined,
    variables_of,
)

_SMALL = 0.003  # works that take less than this share of the whole are measured at the ends of the grid only


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """Works that are alike share the variables of the first; `times` fill the grid."""

    work: Work
    variables: Variables
    nodes: list[list[float]]
    times: Tensor


class LatencyModel:
    """Milliseconds of a run on the example, in evaluation mode: scale * (sum over ops of their times) + offset.

    Times of ops are measured alone, on random tensors. `scale` and `offset` are what the whole model, also measured,
    adds or saves: Python between ops, caches that are cold or warm.
    """

    def __init__(self, graph: Graph, clusters: Sequence[Cluster], times: Times | None = None) -> None:
        self.graph = graph
        self.clusters = list(clusters)
        self.device = device_of(graph.model)
        self.times = Times(device_key(self.device)) if times is None else times
        self.works = all_work(graph)
        of_axis = {axis: index for index, cluster in enumerate(clusters) for axis in cluster.axes}
        self._tables(of_axis)
        self.times.save()
        self.dense_ms = model_milliseconds(graph.model, graph.example, self.device)
        whole = torch.tensor([[cluster.steps for cluster in clusters]], dtype=torch.float64)
        self._readings = [(float(self._sum(whole)), self.dense_ms)]
        self.scale, self.offset = self.dense_ms / self._readings[0][0], 0.0

    # ---- measuring

    def _measured(self, work: Work, shapes: tuple[Shape, ...]) -> float:
        def measure() -> float:
            try:
                return milliseconds(runner(work, shapes, self.device), self.device)
            except Exception:
                return float("nan")  # arguments that do not suit these sizes: see `_filled`

        return self.times.get(signature(work, shapes), measure)

    def _tables(self, of_axis: dict[Free, int]) -> None:
        dense = [self._measured(work, work.shapes(counted({}))) for work in track(self.works, "Timing ops")]
        total = sum(time for time in dense if time == time)
        alike: dict[tuple[object, ...], _Row] = {}
        rows: list[_Row] = []
        for work, time in track(list(zip(self.works, dense, strict=True)), "Timing widths"):
            variables = variables_of(work, self.clusters, of_axis)
            coarse = not time > _SMALL * total
            points = grid(work, variables, self.clusters, coarse)
            key = tuple((point.shapes, point.values) for point in points)
            name = (signature(work, points[-1].shapes), key)
            if name not in alike:
                alike[name] = self._row(work, variables, coarse)
            rows.append(_Row(work, variables, alike[name].nodes, alike[name].times))
        self._compile(rows)

    def _row(self, work: Work, variables: Variables, coarse: bool) -> _Row:
        points = grid(work, variables, self.clusters, coarse)
        times = torch.tensor([self._measured(work, point.shapes) for point in points], dtype=torch.float64)
        times = _filled(times, [elements(point.shapes) for point in points])
        count = variables.count
        if count == 0:
            return _Row(work, variables, [], times)
        if coarse:
            times = refined(times, count, GRID[count])
        fine = grid(work, variables, self.clusters, coarse=False)
        nodes = [sorted({point.values[variable] for point in fine}) for variable in range(count)]
        if any(len(each) != len(GRID[count]) for each in nodes):  # a width so small that points of the grid coincide
            nodes, times = _spread(nodes, times, count)
        return _Row(work, variables, nodes, times.reshape([len(GRID[count])] * count))

    # ---- predicting

    def _compile(self, rows: list[_Row]) -> None:
        """Features of a choice (sizes, steps, elements), and for each number of variables one table over them."""
        sizes = list(dict.fromkeys(size for row in rows for size in row.variables.sizes))
        together = [row for row in rows if row.variables.together]
        self._sizes = Sizes(sizes, self.clusters)
        self._elements = [
            Terms([(1.0, list(dims)) for dims in (*row.work.inputs, row.work.result)], self.clusters)
            for row in together
        ]
        column_of = {size: index for index, size in enumerate(sizes)}
        steps_start, elements_start = len(sizes), len(sizes) + len(self.clusters)
        self._constant = sum(float(row.times) for row in rows if row.variables.count == 0)
        by_count: dict[int, list[tuple[list[int], _Row]]] = defaultdict(list)
        for row in rows:
            of = row.variables
            if of.together:
                columns = [elements_start + next(i for i, other in enumerate(together) if other is row)]
            else:
                columns = [column_of[size] for size in of.sizes] + [steps_start + index for index in of.clusters]
            by_count[of.count].append((columns, row))
        self._interpolated = [
            Interpolated(
                torch.tensor([columns for columns, _ in found]),
                torch.tensor([row.nodes for _, row in found], dtype=torch.float64),
                torch.stack([row.times for _, row in found]),
            )
            for count, found in by_count.items()
            if count
        ]

    def _sum(self, steps: Tensor) -> Tensor:
        parts = [self._sizes(steps), steps, *(terms(steps).sum(1, keepdim=True) for terms in self._elements)]
        features = torch.cat(parts, dim=1)
        total = steps.new_full((len(steps),), self._constant)
        for table in self._interpolated:
            total = total + table(features).sum(1)
        return total

    def __call__(self, steps: Tensor) -> Tensor:
        """[choices, clusters] -> milliseconds, [choices]"""
        return self.scale * self._sum(steps) + self.offset

    # ---- against the whole model

    def steps_of(self, counts: Counts) -> Tensor:
        """The steps of the clusters under these counts: [clusters]"""
        first = [cluster.axes[0] for cluster in self.clusters]
        found = [counts.get(a, a.size) * c.steps // a.size for a, c in zip(first, self.clusters, strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    def measure(self, choice: Choice) -> float:
        """What a copy of the model takes that is pruned so."""
        pruned = copy.deepcopy(self.graph.model)
        build_plan(self.graph, choice).exec(model=pruned, check=False)
        return model_milliseconds(pruned, self.graph.example, self.device)

    def calibrate(self, counts: Counts, measured: float) -> None:
        """Let the prediction go through what was measured here: the offset if the whole model stays plausible, else the
        scale."""
        here = float(self._sum(self.steps_of(counts)[None]))
        (dense, dense_ms) = self._readings[0]
        slope = (dense_ms - measured) / (dense - here) if dense > here else 0.0
        if 0.3 * self.dense_ms / dense < slope < 3 * self.dense_ms / dense:
            self.scale, self.offset = slope, dense_ms - slope * dense
        else:
            self.scale, self.offset = measured / here, 0.0


def _filled(times: Tensor, sizes: list[float]) -> Tensor:
    """Times of points that could not be run follow the number of elements; an op that cannot be run takes no time."""
    missing = torch.isnan(times)
    if not missing.any():
        return times
    whole = torch.nan_to_num(times[-1])
    return torch.where(missing, whole * torch.tensor(sizes, dtype=torch.float64) / max(sizes[-1], 1.0), times)


def _spread(nodes: list[list[float]], times: Tensor, count: int) -> tuple[list[list[float]], Tensor]:
    """Nodes of a grid whose points coincide: as many as elsewhere, with times between those of the ends."""
    size = len(GRID[count])
    cube = times.reshape([size] * count) if times.numel() == size**count else times.reshape([2] * count)
    ends = cube[tuple([slice(None, None, cube.shape[0] - 1)] * count)]
    spread = [
        [each[0] + (max(each[-1], each[0] + 1e-6) - each[0]) * place / (size - 1) for place in range(size)]
        for each in nodes
    ]
    return spread, refined(ends, count, [place / (size - 1) for place in range(size)])
