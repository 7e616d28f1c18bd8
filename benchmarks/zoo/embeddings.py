"""Tables of embeddings: their rows are looked up by data, so that no choice of units removes a row."""

from __future__ import annotations

import math

from torch_pruning.graph.graph import Graph
from torch_pruning.pruner.allot import unprunable_elements

_LOOK_UPS = ("aten.embedding.", "aten.embedding_bag.", "aten._embedding_bag")


def embedding_parameters(graph: Graph) -> int:
    """Elements of all parameters that a look-up reads, a head that is tied to one among them."""
    return sum(_elements(graph, name) for name in _tables(graph))


def share_without_embeddings(graph: Graph) -> float | None:
    """The share of elements that lie on a group, among parameters that no look-up reads; None where there are none."""
    others = graph.parameters - _tables(graph)
    elements = sum(_elements(graph, name) for name in others)
    frozen = sum(unprunable_elements(graph, name) for name in others)
    return 1 - frozen / elements if elements else None


def _tables(graph: Graph) -> frozenset[str]:
    """The parameters whose memory is the first argument of a look-up, in any of the programs."""
    found: set[str] = set()
    for program in (inferred.program for inferred in graph.programs):
        read = {call.inputs()[0].storage for call in program.calls if call.op.startswith(_LOOK_UPS)}
        found |= {name for name, value in program.state.items() if value.storage in read}
    return graph.parameters & found


def _elements(graph: Graph, name: str) -> int:
    return math.prod(axis.size for axis in graph.axes[name])
