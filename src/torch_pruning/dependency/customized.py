"""Which layers of a model their users prune themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from torch_pruning.graph.graph import Graph
from torch_pruning.trace.customized import CustomizedLayers


def customized_layers(model: nn.Module, asked: Mapping[Any, Any]) -> CustomizedLayers | None:
    """The users' pruners by path, from {type of layer or layer: pruner}; of a layer inside of another one of these only
    the outer counts."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules() if asked else ():
        kinds = [key for key in asked if isinstance(key, type) and isinstance(module, key)]
        key = module if module in asked else next(iter(kinds), None)
        if key is not None and not any(path.startswith(f"{outer}.") for outer in found):
            found[path] = asked[key]
    return CustomizedLayers(found) if found else None


def pruner_of(graph: Graph, layer: Any) -> Any | None:
    """The user's pruner of a layer; None where there is none."""
    customized = graph.example.customized
    if customized is None:
        return None
    paths = (path for path, module in graph.model.named_modules() if module is layer)
    return customized.pruners.get(next(paths, ""))
