"""Which axes the user names: to be left alone, or to lose a share of their own."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.graph.graph import Graph
from torch_pruning.rules.call import CONTRACTED, LOOKED_UP, PRODUCED

Ignored = nn.Module | nn.Parameter | str


def ignored_axes(graph: Graph, ignore: Iterable[Ignored]) -> set[Free]:
    """The free axes that ignored modules produce or carry: dim 0 of their weights (their inputs may shrink).

    Raises:
        ValueError: for a module that is not in the model, or a pattern that matches nothing.
    """
    single = isinstance(ignore, (str, nn.Module, nn.Parameter))
    names = matched_names(graph, [ignore] if single else list(ignore))  # type: ignore[list-item]
    return {
        group.axis
        for group in graph.groups
        if any(member.tensor in names and member.role != CONTRACTED for member in group.members)
    }


def produced_axes(graph: Graph, items: Iterable[Ignored]) -> set[Free]:
    """The free axes that these modules, parameters or patterns produce; of those that produce none, what they carry.

    Raises:
        ValueError: for a module that is not in the model, or a pattern that matches nothing.
    """
    names = matched_names(graph, list(items))
    produced = {
        group.axis
        for group in graph.groups
        if any(member.tensor in names and member.role in (PRODUCED, LOOKED_UP) for member in group.members)
    }
    return produced or ignored_axes(graph, items)


def matched_names(graph: Graph, ignore: Sequence[Ignored]) -> set[str]:
    """The names of the tensors that modules, parameters, names and patterns stand for.

    Raises:
        ValueError: for a module that is not in the model, or a pattern that matches nothing.
    """
    paths = {id(module): path for path, module in graph.model.named_modules()}
    names: set[str] = set()
    for item in ignore:
        if isinstance(item, nn.Parameter):
            matched = {
                name for name, parameter in graph.model.named_parameters(remove_duplicate=False) if parameter is item
            }
            if not matched:
                raise ValueError(f"a parameter of the model is needed, found one of shape {list(item.shape)} not in it")
        elif isinstance(item, nn.Module):
            if id(item) not in paths:
                raise ValueError(f"a module of the model is needed, found a {type(item).__name__} that is not in it")
            prefix = paths[id(item)] + "." if paths[id(item)] else ""
            matched = {name for name in graph.axes if name.startswith(prefix)}
        elif isinstance(item, str):
            matched = {n for n in graph.axes if fnmatch.fnmatchcase(n, item) or n.startswith(f"{item}.")}
            if not matched:
                raise ValueError(
                    f"pattern {item!r} matches no tensor; names are those of named_parameters, "
                    f"such as {list(graph.axes)[:3]}"
                )
        else:
            raise ValueError(f"modules, parameters, names or patterns are needed, found {type(item).__name__}")
        names |= matched
    return names
