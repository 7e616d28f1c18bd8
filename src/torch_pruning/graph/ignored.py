"""Which axes the user wants left alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.graph.graph import Graph

Ignored = nn.Module | str


def ignored_axes(graph: Graph, ignore: Iterable[Ignored]) -> set[Free]:
    """The free axes that ignored modules produce: dim 0 of their weights (an ignored layer's inputs may shrink).

    Raises:
        ValueError: for a module that is not in the model, or a pattern that matches nothing.
    """
    names = _ignored_names(graph, list(ignore) if not isinstance(ignore, (str, nn.Module)) else [ignore])
    found: set[Free] = set()
    for group in graph.groups:
        for member in group.members:
            if member.tensor in names and member.role != "contracted":
                found.add(group.axis)
    return found


def _ignored_names(graph: Graph, ignore: Sequence[Ignored]) -> set[str]:
    paths = {id(module): path for path, module in graph.model.named_modules()}
    names: set[str] = set()
    for item in ignore:
        if isinstance(item, nn.Module):
            if id(item) not in paths:
                raise ValueError(
                    f"ignore must hold modules of the model, found a {type(item).__name__} that is not in it"
                )
            prefix = paths[id(item)] + "." if paths[id(item)] else ""
            matched = {name for name in graph.axes if name.startswith(prefix)}
        elif isinstance(item, str):
            matched = {n for n in graph.axes if fnmatch.fnmatchcase(n, item) or n.startswith(f"{item}.")}
            if not matched:
                raise ValueError(
                    f"ignore pattern {item!r} matches no tensor; names are those of named_parameters, "
                    f"such as {list(graph.axes)[:3]}"
                )
        else:
            raise ValueError(f"ignore must hold modules, names or patterns, found {type(item).__name__}")
        names |= matched
    return names
