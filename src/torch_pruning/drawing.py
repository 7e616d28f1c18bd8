"""Pictures of a dependency graph, as matrices. matplotlib (the extra `report`) is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_pruning.dependency import DependencyGraph

if TYPE_CHECKING:
    from torch_pruning.dependency import PruningGroup

_Size = tuple[float, float]


def draw_computational_graph(
    DG: DependencyGraph,  # noqa: N803  (the name that users of Torch-Pruning 1.x pass)
    save_as: Any,
    title: str = "Computational Graph",
    figsize: _Size = (16, 16),
    dpi: float = 200,
    cmap: Any = None,
) -> tuple[Any, Any]:
    """Figure and axes of a matrix of the model's operations: [i, j] is marked if j reads what i makes."""
    flow = DG.flows[0]
    labels = [f"{call.where.module} {call.op.removeprefix('aten.')}".strip() for call in flow.inferred.calls]
    matrix = torch.zeros(len(labels), len(labels))
    for place, call in enumerate(flow.inferred.calls):
        for value in call.inputs():
            if value.index in flow.maker:
                matrix[flow.order[id(flow.maker[value.index])], place] = 1
    return _drawn(matrix, labels, save_as, title, (figsize, dpi, cmap))


def draw_dependency_graph(
    DG: DependencyGraph,  # noqa: N803
    save_as: Any,
    title: str = "Group",
    figsize: _Size = (16, 16),
    dpi: float = 200,
    cmap: Any = None,
) -> tuple[Any, Any]:
    """Figure and axes of a matrix of layers and operators: [i, j] is marked if pruning i makes pruning j necessary."""
    groups = list(DG.get_all_groups())
    labels = list(dict.fromkeys(name for group in groups for item in group for name in _ends(item.dep)))
    places = {name: place for place, name in enumerate(labels)}
    matrix = torch.zeros(len(labels), len(labels))
    for group in groups:
        for item in group:
            source, target = _ends(item.dep)
            matrix[places[source], places[target]] = 1
    return _drawn(matrix, labels, save_as, title, (figsize, dpi, cmap))


def draw_groups(
    DG: DependencyGraph,  # noqa: N803
    save_as: Any,
    title: str = "Group",
    figsize: _Size = (16, 16),
    dpi: float = 200,
    cmap: Any = None,
) -> tuple[Any, Any]:
    """Figure and axes of a matrix of layers: [i, j] is marked if i and j lose channels together."""
    members = [_layers(group) for group in DG.get_all_groups()]
    labels = list(dict.fromkeys(name for layers in members for name in layers))
    places = {name: place for place, name in enumerate(labels)}
    matrix = torch.zeros(len(labels), len(labels))
    for layers in members:
        chosen = torch.tensor([places[name] for name in layers])
        matrix[chosen[:, None], chosen[None, :]] = 1
    return _drawn(matrix, labels, save_as, title, (figsize, dpi, cmap))


def _ends(dep: Any) -> tuple[str, str]:
    source, target = (node.path if node.module is not None else f"{node.path} {node.text}" for node in _nodes(dep))
    return source, target


def _nodes(dep: Any) -> tuple[Any, Any]:
    return dep.source, dep.target


def _layers(group: PruningGroup) -> list[str]:
    return [item.dep.target.path for item in group if item.dep.target.module is not None]


def _drawn(
    matrix: Tensor, labels: list[str], save_as: Any, title: str, look: tuple[_Size, float, Any]
) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing needs matplotlib, which is not installed: pip install 'torch-pruning[report]'"
        ) from error
    figsize, dpi, cmap = look
    figure = Figure(figsize=figsize)
    axes = figure.subplots()
    axes.imshow(matrix.numpy(), cmap=cmap or "Greys")
    axes.set_title(title)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    figure.tight_layout()
    if save_as is not None:
        figure.savefig(save_as, dpi=dpi)
    return figure, axes
