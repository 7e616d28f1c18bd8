"""What holds for every network: the oracle for what is exact, and that it runs for what is not."""

from __future__ import annotations

import torch

import torch_pruning as tp
from random_architectures.networks import Network, RandomNet
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.pruner.allot import random_choice
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example

TOLERANCE = 1e-9
RATIO = 0.4


def check(network: Network, seed: int) -> list[str]:
    """Prune a network twice, at random; returns the names of the groups that were exact.

    Raises:
        AssertionError: where the pruned network is not the masked one, or its outputs change their shapes.
    """
    torch.manual_seed(seed)
    net = RandomNet(network).eval()
    inputs = net.inputs()
    graph = build_graph(net, [Example(inputs)])
    assert graph.ops_without_rule() == {}
    exact = [group.name for group in graph.groups if group.exact]
    shapes = shapes_of(net(*inputs))
    oracle(net, build_plan(graph, random_choice(graph, RATIO, exact_only=True, seed=seed)))
    every = build_plan(graph, random_choice(graph, RATIO, seed=seed))
    every.exec()
    assert shapes_of(net(*inputs)) == shapes
    oracle(net, _again(graph, seed + 1))
    return exact


def _again(graph: Graph, seed: int) -> Plan:
    """A second plan of the same graph, in the coordinates that the first one left."""
    return build_plan(graph, random_choice(graph, RATIO, exact_only=True, seed=seed))


def oracle(net: RandomNet, plan: Plan) -> None:
    for mode in ("eval", "train"):
        seen = tp.verify(net, plan, rescale=True, mode=mode)
        assert seen.shapes_equal, f"{mode}: {seen}\n{plan}"
        assert seen.error <= TOLERANCE, f"{mode}: {seen}\n{plan}"
        assert seen.gradient_error is not None
        assert seen.gradient_error <= TOLERANCE, f"{mode}: {seen}\n{plan}"


def shapes_of(outputs: object) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor, _ in tensors_in(outputs)]
