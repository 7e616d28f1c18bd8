"""Integers on the model that no code asked for in the run, and that say the size of something a plan prunes."""

from __future__ import annotations

from collections.abc import Mapping

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.graph.counts import Counts, size_under
from torch_pruning.graph.graph import Graph


def unread_attributes(graph: Graph, counts: Counts) -> tuple[AttributeSource, ...]:
    """Where they stand. They keep their values, as nothing says what they are for: a `config.head_dim` that equals the
    number of head dims, but as well a number of classes that happens to be as large as a width.

    Attributes of torch's own layers are not among them: those that people read are written.
    """
    pruned = _sizes(graph.axes, counts)
    found = []
    for source, value in graph.constraints.attribute_values.items():
        prefixes = pruned.get(value, ()) if value > 1 and source not in graph.constraints.definitions else ()
        near = f"{source.module}." if source.module else ""
        if any(name.startswith(near) for name in prefixes) and not _of_torch(graph, source):
            found.append(source)
    return tuple(found)


def _sizes(of_state: Mapping[str, tuple[Axis, ...]], counts: Counts) -> dict[int, list[str]]:
    """Every size that changes, of a dimension or of an axis within it, with the tensors on which it does."""
    found: dict[int, list[str]] = {}
    for name, axes in of_state.items():
        for axis in axes:
            gone = [leaf for leaf in leaves(axis) if leaf in counts]
            if gone and size_under(axis, counts) != axis.size:
                for size in {axis.size, *(leaf.size for leaf in gone if isinstance(leaf, Free))}:
                    found.setdefault(size, []).append(name)
    return found


def _of_torch(graph: Graph, source: AttributeSource) -> bool:
    return type(graph.model.get_submodule(source.module)).__module__.startswith("torch.nn.")
