"""What a choice costs, for many choices at once and with a gradient: the graph's polynomials over steps of clusters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from torch_pruning.axes.expression import Free
from torch_pruning.axes.polynomials import Polynomial
from torch_pruning.graph.clusters import Cluster

# Steps of all clusters, [choices, clusters] -> costs, [choices].
Cost: TypeAlias = Callable[[Tensor], Tensor]


class Sizes:
    """Values of polynomials at steps of clusters; axes in no cluster keep all their units.

    A polynomial over counts is one over steps, because each axis of a cluster has `size / steps` units for every step.
    """

    def __init__(self, polynomials: Sequence[Polynomial], clusters: Sequence[Cluster]) -> None:
        of_axis = {axis: (index, axis.size // c.steps) for index, c in enumerate(clusters) for axis in c.axes}
        owners, factors, variables = [], [], []
        for owner, polynomial in enumerate(polynomials):
            for variable, factor in _over_steps(polynomial, of_axis).items():
                owners.append(owner)
                factors.append(float(factor))
                variables.append(variable)
        self.count = len(polynomials)
        self.owners = torch.tensor(owners, dtype=torch.long)
        self.factors = torch.tensor(factors, dtype=torch.float64)
        self.variables = padded(variables, fill=len(clusters))

    def __call__(self, steps: Tensor) -> Tensor:
        """[choices, clusters] -> [choices, polynomials]"""
        monomials = self.factors * product_of(steps, self.variables)
        return steps.new_zeros(len(steps), self.count).index_add(1, self.owners, monomials)


def _over_steps(polynomial: Polynomial, of_axis: Mapping[Free, tuple[int, int]]) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    for monomial, factor in polynomial.terms.items():
        variables = []
        for axis in monomial:
            assert isinstance(axis, Free)
            index, per_step = of_axis.get(axis, (-1, axis.size))
            factor *= per_step
            if index >= 0:
                variables.append(index)
        key = tuple(sorted(variables))
        found[key] = found.get(key, 0) + factor
    return found


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of indices, made equally long with the index of a column of ones: [rows, longest]."""
    width = max([1, *map(len, rows)])
    table = torch.full((len(rows), width), fill, dtype=torch.long)
    for index, row in enumerate(rows):
        table[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return table


def product_of(values: Tensor, indices: Tensor) -> Tensor:
    """Products of the columns that each row of indices names: [choices, n], [rows, k] -> [choices, rows]."""
    with_one = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
    result = with_one[:, indices[:, 0]]
    for column in indices.unbind(1)[1:]:
        result = result * with_one[:, column]
    return result


class Terms:
    """Sums of products of sizes, each with a factor: [choices, clusters] -> [choices, terms]."""

    def __init__(self, terms: Sequence[tuple[float, Sequence[Polynomial]]], clusters: Sequence[Cluster]) -> None:
        place: dict[Hashable, int] = {}
        polynomials: list[Polynomial] = []
        for _, factors in terms:
            for polynomial in factors:
                if id(polynomial) not in place:
                    place[id(polynomial)] = len(polynomials)
                    polynomials.append(polynomial)
        self.sizes = Sizes(polynomials, clusters)
        self.factors = torch.tensor([factor for factor, _ in terms], dtype=torch.float64)
        self.indices = padded([[place[id(p)] for p in factors] for _, factors in terms], fill=len(polynomials))

    def __call__(self, steps: Tensor) -> Tensor:
        return self.factors * product_of(self.sizes(steps), self.indices)


def total_cost(terms: Sequence[tuple[float, Sequence[Polynomial]]], clusters: Sequence[Cluster]) -> Cost:
    """The sum of the terms."""
    each = Terms(terms, clusters)
    return lambda steps: each(steps).sum(1)


def gradient(cost: Cost, steps: Tensor) -> Tensor:
    """What one more step of each cluster would cost, to first order: [clusters] -> [clusters]."""
    with torch.inference_mode(False), torch.enable_grad():
        variable = steps.detach().clone().requires_grad_()
        (result,) = torch.autograd.grad(cost(variable[None]).sum(), variable)
    return result
