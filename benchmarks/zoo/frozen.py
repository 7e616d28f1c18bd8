"""The reason that keeps the most parameters from being pruned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.graph.graph import Graph
from torch_pruning.pruner.allot import unprunable_elements


def largest_frozen(graph: Graph) -> str:
    """ "12.5 %: reason at line", of the parameters that lie on no group; empty where there are none."""
    shares: Counter[str] = Counter()
    lies_on = Counter(leaf for axes in graph.axes.values() for leaf in {leaf for axis in axes for leaf in leaves(axis)})
    for name in graph.parameters:
        untouched = unprunable_elements(graph, name)
        if untouched:
            shares[_reason(graph, name, lies_on)] += untouched
    if not shares:
        return ""
    reason, elements = shares.most_common(1)[0]
    return f"{elements / max(1, graph.cost().parameters):.1%}: {reason}"


def _reason(graph: Graph, name: str, lies_on: Mapping[Free, int]) -> str:
    """That of the frozen axis of the tensor that most tensors have: a width, and not a vocabulary; else the largest."""
    frozen = [leaf for axis in graph.axes[name] for leaf in leaves(axis) if leaf.reason is not None]
    if not frozen:
        return "sizes of one"
    reason = max(frozen, key=lambda leaf: (lies_on[leaf], leaf.size)).reason
    assert reason is not None
    return str(reason)
