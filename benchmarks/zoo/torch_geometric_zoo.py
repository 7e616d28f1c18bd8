"""torch_geometric: most of its models on one small graph, and two layers of most of its convolutions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch_geometric.nn as geometric
from case import Case, Recipe, tiny_cases
from torch import Tensor, nn

PACKAGES = ("torch", "torch_geometric")

NODES, EDGES, IN, HIDDEN, OUT, EDGE = 10, 40, 16, 32, 5, 6
_PNA: dict[str, Any] = {
    "aggregators": ["mean", "max", "std"],
    "scalers": ["identity", "amplification"],
    "deg": torch.tensor([0, 2, 4, 3, 1]),
}
_RELATIONS = 3


def _x() -> Tensor:
    return torch.randn(NODES, IN)


def _edges() -> Tensor:
    return torch.randint(0, NODES, (2, EDGES))


def _attributes() -> Tensor:
    return torch.rand(EDGES, EDGE)


def _one_graph() -> Tensor:
    """Which graph of a batch each node belongs to."""
    return torch.zeros(NODES, dtype=torch.long)


def _kinds() -> Tensor:
    return torch.randint(0, _RELATIONS, (EDGES,))


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


MODELS: dict[str, Recipe] = {
    "GCN": (lambda: geometric.GCN(IN, HIDDEN, 3, OUT), lambda: (_x(), _edges())),
    "GCN, batch norm": (lambda: geometric.GCN(IN, HIDDEN, 3, OUT, norm="batch"), lambda: (_x(), _edges())),
    "GCN, jumping": (lambda: geometric.GCN(IN, HIDDEN, 3, OUT, jk="cat"), lambda: (_x(), _edges())),
    "GraphSAGE": (lambda: geometric.GraphSAGE(IN, HIDDEN, 3, OUT), lambda: (_x(), _edges())),
    "GIN": (lambda: geometric.GIN(IN, HIDDEN, 3, OUT), lambda: (_x(), _edges())),
    "GAT": (lambda: geometric.GAT(IN, HIDDEN, 3, OUT, heads=4), lambda: (_x(), _edges())),
    "GATv2": (lambda: geometric.GAT(IN, HIDDEN, 3, OUT, heads=4, v2=True), lambda: (_x(), _edges())),
    "PNA": (lambda: geometric.PNA(IN, HIDDEN, 3, OUT, **_PNA), lambda: (_x(), _edges())),
    "EdgeCNN": (lambda: geometric.EdgeCNN(IN, HIDDEN, 3, OUT), lambda: (_x(), _edges())),
    "MLP": (lambda: geometric.MLP([IN, HIDDEN, HIDDEN, OUT]), lambda: (_x(),)),
    "GraphUNet": (lambda: geometric.GraphUNet(IN, HIDDEN, OUT, 2), lambda: (_x(), _edges())),
    "AttentiveFP": (
        lambda: geometric.AttentiveFP(IN, HIDDEN, OUT, EDGE, 2, 2),
        lambda: (_x(), _edges(), _attributes(), _one_graph()),
    ),
    "LINKX": (lambda: geometric.LINKX(NODES, IN, HIDDEN, OUT, 2), lambda: (_x(), _edges())),
    "LightGCN": (lambda: geometric.LightGCN(NODES, HIDDEN, 2), lambda: (_edges(),)),
    "RECT_L": (lambda: geometric.RECT_L(IN, HIDDEN), lambda: (_x(), _edges())),
    "PMLP": (lambda: geometric.PMLP(IN, HIDDEN, OUT, 3), lambda: (_x(), _edges())),
    "NeuralFingerprint": (
        lambda: geometric.NeuralFingerprint(IN, HIDDEN, OUT, 2),
        lambda: (_x(), _edges(), _one_graph()),
    ),
    "SGFormer": (
        lambda: geometric.SGFormer(IN, HIDDEN, OUT),
        lambda: (_x(), _edges(), _one_graph()),
    ),
    "Polynormer": (
        lambda: geometric.Polynormer(IN, HIDDEN, OUT),
        lambda: (_x(), _edges(), _one_graph()),
    ),
    "SignedGCN": (lambda: geometric.SignedGCN(IN, HIDDEN, 2), lambda: (_x(), _edges(), _edges())),
    "GNNFF": (lambda: geometric.GNNFF(16, 16, 2), lambda: (torch.randint(1, 9, (6,)), torch.randn(6, 3))),
    "SchNet": (lambda: geometric.SchNet(16, 16, 2, 8), lambda: (torch.randint(1, 9, (6,)), torch.randn(6, 3))),
    "DimeNet++": (
        lambda: geometric.DimeNetPlusPlus(16, 1, 2, 8, 8, 8, 3, 3),
        lambda: (torch.randint(1, 9, (6,)), torch.randn(6, 3)),
    ),
}

# Convolutions: what makes one of (in, out), and what it takes beside x and the edges. Named alike in the package.
_Layer = Callable[[int, int], nn.Module]
_MORE: dict[str, tuple[_Layer, Callable[[], tuple[Any, ...]]]] = {
    "ChebConv": (lambda i, o: geometric.ChebConv(i, o, 3), tuple),
    "GatedGraphConv": (lambda i, o: geometric.GatedGraphConv(HIDDEN, 2), tuple),
    "GINConv": (lambda i, o: geometric.GINConv(_mlp(i, 24, o)), tuple),
    "GINEConv": (lambda i, o: geometric.GINEConv(_mlp(i, 24, o), edge_dim=EDGE), lambda: (_attributes(),)),
    "SSGConv": (lambda i, o: geometric.SSGConv(i, o, 0.5), tuple),
    "RGCNConv": (lambda i, o: geometric.RGCNConv(i, o, _RELATIONS), lambda: (_kinds(),)),
    "RGCNConv, bases": (lambda i, o: geometric.RGCNConv(i, o, _RELATIONS, num_bases=2), lambda: (_kinds(),)),
    "FastRGCNConv": (lambda i, o: geometric.FastRGCNConv(i, o, _RELATIONS), lambda: (_kinds(),)),
    "RGATConv": (lambda i, o: geometric.RGATConv(i, o, _RELATIONS, heads=1), lambda: (_kinds(),)),
    "GMMConv": (lambda i, o: geometric.GMMConv(i, o, EDGE, 4), lambda: (_attributes(),)),
    "NNConv": (lambda i, o: geometric.NNConv(i, o, _mlp(EDGE, 8, i * o)), lambda: (_attributes(),)),
    "CGConv": (lambda i, o: geometric.CGConv(i, EDGE), lambda: (_attributes(),)),
    "EdgeConv": (lambda i, o: geometric.EdgeConv(_mlp(2 * i, 24, o)), tuple),
    "PNAConv": (lambda i, o: geometric.PNAConv(i, o, **_PNA), tuple),
    "PANConv": (lambda i, o: _First(geometric.PANConv(i, o, 2)), tuple),
    "GENConv": (lambda i, o: geometric.GENConv(i, o, edge_dim=EDGE), lambda: (_attributes(),)),
    "EGConv": (lambda i, o: geometric.EGConv(i, o, num_heads=1), tuple),
    "PDNConv": (lambda i, o: geometric.PDNConv(i, o, EDGE, 8), lambda: (_attributes(),)),
    "GeneralConv": (lambda i, o: geometric.GeneralConv(i, o, EDGE), lambda: (_attributes(),)),
    "TransformerConv, edges": (lambda i, o: geometric.TransformerConv(i, o, edge_dim=EDGE), lambda: (_attributes(),)),
    "GATConv, edges": (lambda i, o: geometric.GATConv(i, o, edge_dim=EDGE), lambda: (_attributes(),)),
    "GATv2Conv, edges": (lambda i, o: geometric.GATv2Conv(i, o, edge_dim=EDGE), lambda: (_attributes(),)),
    "GCNConv, weights": (lambda i, o: geometric.GCNConv(i, o), lambda: (torch.rand(EDGES),)),
    "GPSConv": (lambda i, o: geometric.GPSConv(i, geometric.GCNConv(i, i), heads=4), tuple),
    "AntiSymmetricConv": (lambda i, o: geometric.AntiSymmetricConv(i), tuple),
    "DirGNNConv": (lambda i, o: geometric.DirGNNConv(geometric.SAGEConv(i, o)), tuple),
}
_PLAIN = (
    "GCNConv", "SAGEConv", "GraphConv", "ResGatedGraphConv", "GATConv", "GATv2Conv", "TransformerConv", "TAGConv",
    "ARMAConv", "SGConv", "MFConv", "FeaStConv", "HypergraphConv", "LEConv", "ClusterGCNConv", "SuperGATConv",
    "FiLMConv",
)  # fmt: skip
_KEEPING = ("GatedGraphConv", "CGConv", "GPSConv", "AntiSymmetricConv")  # as wide as what they get


class _First(nn.Module):
    """A convolution that gives more than the nodes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any) -> Tensor:
        nodes: Tensor = self.layer(*args)[0]
        return nodes


class TwoLayers(nn.Module):
    """Two convolutions of one kind; those that keep the width stand between linear layers."""

    def __init__(self, layer: _Layer, keeping: bool) -> None:
        super().__init__()
        self.before: nn.Module = nn.Linear(IN, HIDDEN) if keeping else nn.Identity()
        self.first = layer(HIDDEN if keeping else IN, HIDDEN)
        self.second = layer(HIDDEN, HIDDEN if keeping else OUT)
        self.behind: nn.Module = nn.Linear(HIDDEN, OUT) if keeping else nn.Identity()

    def forward(self, x: Tensor, edges: Tensor, *more: Any) -> Tensor:
        x = torch.relu(self.first(self.before(x), edges, *more))
        out: Tensor = self.behind(self.second(x, edges, *more))
        return out


def _layers(name: str) -> Recipe:
    layer, more = _MORE[name] if name in _MORE else (getattr(geometric, name), tuple)
    return lambda: TwoLayers(layer, name in _KEEPING), lambda: (_x(), _edges(), *more())


def cases() -> list[Case]:
    return tiny_cases(MODELS | {name: _layers(name) for name in (*_PLAIN, *_MORE)})
