"""The time of one op over the widths that may change: measured on a grid, interpolated in between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_pruning.axes.expression import Free
from torch_pruning.axes.polynomials import Polynomial
from torch_pruning.graph.clusters import Cluster
from torch_pruning.pruner.latency.ops import Shape, Work

# Shares of the present size at which an op is measured, by the number of widths that change independently.
GRID: dict[int, tuple[float, ...]] = {1: (0.125, 0.25, 0.5, 0.75, 1.0), 2: (0.2, 0.6, 1.0), 3: (0.3, 1.0)}
_WHOLE_KERNELS = 8  # widths of the grid are multiples of it, where they are large: kernels work on blocks


@dataclass(frozen=True, slots=True, eq=False)
class Variables:
    """What the time of a work is a function of.

    Either sizes that change independently of one another, or steps of clusters, or, where there are too many of both,
    all clusters together: then the one variable is the number of elements read and written.
    """

    sizes: tuple[Polynomial, ...] = ()
    clusters: tuple[int, ...] = ()
    together: bool = False

    @property
    def count(self) -> int:
        return 1 if self.together else len(self.sizes) + len(self.clusters)


def variables_of(work: Work, clusters: Sequence[Cluster], of_axis: Mapping[Free, int]) -> Variables:
    """The fewest variables that say everything about the shapes of a work; none if they do not change."""
    sizes = [size for size in work.varying() if any(symbol in of_axis for symbol in size.symbols)]
    touched = [{of_axis[s] for s in size.symbols if isinstance(s, Free) and s in of_axis} for size in sizes]
    all_touched = sorted(set().union(*touched))
    independent = sum(map(len, touched)) == len(all_touched)
    if independent and len(sizes) <= max(GRID):
        return Variables(sizes=tuple(sizes))
    if len(all_touched) < max(GRID):
        return Variables(clusters=tuple(all_touched))
    return Variables(together=True)


@dataclass(frozen=True, slots=True)
class Point:
    """Shapes at one point of a grid, and the values of the variables there."""

    shapes: tuple[Shape, ...]
    values: tuple[float, ...]


def grid(work: Work, variables: Variables, clusters: Sequence[Cluster], coarse: bool) -> list[Point]:
    """The points at which a work is measured, the last variable running fastest. `coarse`: the ends alone."""
    if variables.count == 0:
        return [Point(work.shapes(_whole), ())]
    shares = GRID[variables.count]
    shares = (shares[0], shares[-1]) if coarse else shares
    return [_point(work, variables, clusters, each) for each in itertools.product(shares, repeat=variables.count)]


def _point(work: Work, variables: Variables, clusters: Sequence[Cluster], shares: tuple[float, ...]) -> Point:
    if variables.sizes:
        value_of = {size: _share_of(size.evaluate(_whole), share) for size, share in _pairs(variables.sizes, shares)}
        shapes = tuple(
            tuple(value_of[size] if size in value_of else size.evaluate(_whole) for size in dims)
            for dims in (*work.inputs, work.result)
        )
        return Point(shapes, tuple(float(value_of[size]) for size in variables.sizes))
    moved = range(len(clusters)) if variables.together else variables.clusters
    each = shares * len(clusters) if variables.together else shares
    counts: dict[Free, int] = {}
    steps = []
    for index, share in zip(moved, each, strict=False):
        step = _share_of(clusters[index].steps, share)
        counts.update(clusters[index].counts(step))
        steps.append(float(step))
    shapes = work.shapes(lambda axis: counts.get(axis, axis.size))
    if variables.together:
        return Point(shapes, (elements(shapes),))
    return Point(shapes, tuple(steps))


def _pairs(sizes: Sequence[Polynomial], shares: Sequence[float]) -> list[tuple[Polynomial, float]]:
    return list(zip(sizes, shares, strict=True))


def _whole(axis: Any) -> int:
    size: int = axis.size
    return size


def _share_of(size: int, share: float) -> int:
    block = _WHOLE_KERNELS if size >= 8 * _WHOLE_KERNELS else 1
    return size if share == 1 else max(1, round(share * size / block) * block)


def elements(shapes: Sequence[Shape]) -> float:
    """Elements read and written."""
    return float(sum(math.prod(shape) for shape in shapes))


class Interpolated:
    """Times of many works with equally many variables: multilinear between the points of their grids.

    `nodes` is [works, variables, g], ascending along g; `times` [works, g, ..., g].
    """

    def __init__(self, columns: Tensor, nodes: Tensor, times: Tensor) -> None:
        self.columns = columns  # which features are the variables: [works, variables]
        self.nodes = nodes
        self.times = times.flatten(1)
        self.size = nodes.shape[-1]

    def __call__(self, features: Tensor) -> Tensor:
        """[choices, features] -> [choices, works]"""
        x = features[:, self.columns]  # (choices, works, variables)
        cell = (x.detach()[..., None] >= self.nodes[None, ..., 1:-1]).sum(-1)  # (choices, works, variables)
        nodes = self.nodes[None].expand(len(x), -1, -1, -1)
        low = nodes.gather(-1, cell[..., None]).squeeze(-1)
        high = nodes.gather(-1, cell[..., None] + 1).squeeze(-1)
        weight = (x - low) / (high - low).clamp_min(1e-9)  # beyond the ends the last piece goes on
        total = x.new_zeros(x.shape[:2])
        for corner in itertools.product((0, 1), repeat=x.shape[-1]):
            place = torch.zeros_like(cell[..., 0])
            share = torch.ones_like(total)
            for variable, upper in enumerate(corner):
                place = place * self.size + cell[..., variable] + upper
                share = share * (weight[..., variable] if upper else 1 - weight[..., variable])
            total = total + share * self.times[None].expand(len(x), -1, -1).gather(-1, place[..., None]).squeeze(-1)
        return total.clamp_min(0.0)


def refined(times: Tensor, count: int, shares: Sequence[float]) -> Tensor:
    """Times at the ends of a grid, [2] * count, filled in linearly for all shares: [g] * count."""
    ends = (shares[0], shares[-1])
    along = torch.tensor([(share - ends[0]) / (ends[1] - ends[0]) for share in shares], dtype=torch.float64)
    blend = torch.stack([1 - along, along])  # (2, g)
    result = times.reshape([2] * count)
    for _ in range(count):
        result = torch.tensordot(result, blend, dims=([0], [0]))  # takes the first axis away, adds the new one last
    return result
