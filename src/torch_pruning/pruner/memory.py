"""Memory as a cost: what the parameters take, and what the activations take where they take the most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_pruning.axes.expression import Axis, resolve
from torch_pruning.axes.polynomials import Polynomial
from torch_pruning.axes.sizes import size_polynomial
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import Inferred
from torch_pruning.pruner.costs import Cost, Terms
from torch_pruning.trace.program import Value
from torch_pruning.trace.substitute import named_tensors

Term = tuple[float, list[Polynomial]]


def memory_cost(graph: Graph, clusters: Sequence[Cluster]) -> Cost:
    """Bytes of all parameters + max over calls of the bytes of all activations that are still needed.

    Of the run in evaluation mode, for the example as given (its whole batch), without autograd. A tensor counts from
    the call that makes it to the last that reads it; views share the memory of what they are views of; the inputs and
    the outputs count. What an op needs within itself is not seen.
    """
    tensors = dict(named_tensors(graph.model))
    weights = Terms([_term(tensors[n].element_size(), graph.axes[n]) for n in sorted(graph.parameters)], clusters)
    inferred = graph.programs[0]
    lives = _lives(inferred)
    held = Terms([_term(value.dtype.itemsize, inferred.axes[value.index]) for value, _, _ in lives], clusters)
    births = torch.tensor([birth for _, birth, _ in lives], dtype=torch.long)
    deaths = torch.tensor([death + 1 for _, _, death in lives], dtype=torch.long)
    calls = len(inferred.program.calls) + 2

    def cost(steps: Tensor) -> Tensor:
        size = held(steps)  # (choices, values)
        change = size.new_zeros(len(steps), calls).index_add(1, births, size).index_add(1, deaths, -size)
        return weights(steps).sum(1) + change.cumsum(1).amax(1)

    return cost


def _term(bytes_each: float, axes: Sequence[Axis]) -> Term:
    factor, varying = float(bytes_each), []
    for axis in axes:
        polynomial = size_polynomial(resolve(axis))
        if polynomial.value is not None:
            factor *= polynomial.value
        else:
            varying.append(polynomial)
    return factor, varying


def _lives(inferred: Inferred) -> list[tuple[Value, int, int]]:
    """The first value of each storage that is no state, with the first and the last call that touches it."""
    program = inferred.program
    calls = program.live_calls()
    state = {value.storage for value in program.state.values()}
    end = max(len(calls) - 1, 0)
    found: dict[int, tuple[Value, int, int]] = {}

    def touch(value: Value, call: int) -> None:
        if value.storage not in state and value.index in inferred.axes:
            first, birth, _ = found.get(value.storage, (value, call, call))
            found[value.storage] = (first, birth, call)

    for value in program.inputs:
        touch(value, 0)
    for index, call in enumerate(calls):
        for value in (*call.inputs(), *call.results()):
            touch(value, index)
    for value in (*program.inputs, *program.outputs):
        touch(value, end)
    return list(found.values())
