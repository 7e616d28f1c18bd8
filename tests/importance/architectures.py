"""Small models in float64, with what each unit owns written down by hand: nothing here asks the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.trace.tracer import Example

Index = Any
Owned = list[tuple[str, Index]]  # (tensor, index of the entries of one unit in it)
ALL = slice(None)


@dataclass(frozen=True)
class Architecture:
    """A model and one of its groups. `owned(lane, unit)` lists the unit's entries, member by member; `makes` and
    `reads` the rows and columns of layers that make and read it, as (module, channels)."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    group: Callable[[Group], bool]
    lanes: int
    units: int
    owned: Callable[[int, int], Owned]
    makes: Callable[[int, int], list[tuple[str, list[int]]]]
    reads: Callable[[int, int], list[tuple[str, list[int]]]]

    def model(self) -> nn.Module:
        torch.manual_seed(1)
        model = self.build().double()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        return model

    def batch(self, seed: int, size: int = 3) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(size, *self.shape, dtype=torch.float64, generator=generator)

    def found(self, model: nn.Module) -> tuple[Graph, Group]:
        graph = build_graph(model, [Example(self.batch(0))])
        (group,) = [group for group in graph.groups if self.group(group)]
        return graph, group


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.narrow, self.wide = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.wide(self.narrow(x).relu())).relu()
        return self.last(x.mean((2, 3)))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3, groups=4, stride=2, padding=1)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.query, self.key, self.value = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2) for layer in self.layers())
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).flatten(2))

    def layers(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x)[0])


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, (3, 2), stride=2, dilation=(1, 2)),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4),
    )  # fmt: skip


def _named(name: str, lanes: int = 1) -> Callable[[Group], bool]:
    def fits(group: Group) -> bool:
        count = 1
        for lane in group.lanes:
            count *= lane.size
        return any(member.tensor == f"{name}" for member in group.members) and count == lanes

    return fits


def _gates(unit: int, size: int = 5) -> list[int]:
    return [unit + size * gate for gate in range(4)]


def _recurrent_owned(lane: int, u: int) -> Owned:
    """Both layers have one width: the state is one tensor for both."""
    rows = [
        (f"lstm.{kind}_l{n}", _gates(u)) for n in (0, 1) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    columns = ("lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1", "last.weight")
    return [*rows, *((name, (ALL, u)) for name in columns)]


ARCHITECTURES = [
    Architecture(
        "plain", plain, (3, 9, 9), _named("0.weight"), 1, 6,
        lambda lane, u: [("0.weight", u), ("0.bias", u), ("1.weight", u), ("1.bias", u), ("3.weight", (ALL, u))],
        lambda lane, u: [("0", [u])], lambda lane, u: [("3", [u])],
    ),
    Architecture(
        "flattened", plain, (3, 9, 9), _named("7.weight"), 1, 5,
        lambda lane, u: [("3.weight", u), ("3.bias", u), ("7.weight", (ALL, slice(4 * u, 4 * u + 4)))],
        lambda lane, u: [("3", [u])], lambda lane, u: [("7", list(range(4 * u, 4 * u + 4)))],
    ),
    Architecture(
        "residual", Residual, (3, 6, 6), _named("stem.weight"), 1, 6,
        lambda lane, u: [
            ("stem.weight", u), ("stem.bias", u), ("norm.weight", u), ("norm.bias", u), ("narrow.weight", (ALL, u)),
            ("wide.weight", u), ("wide.bias", u), ("last.weight", (ALL, u)),
        ],
        lambda lane, u: [("stem", [u]), ("wide", [u])], lambda lane, u: [("narrow", [u]), ("last", [u])],
    ),
    Architecture(
        "grouped", Grouped, (3, 8, 8), _named("first.weight", lanes=4), 4, 3,
        lambda g, u: [
            ("first.weight", 3 * g + u), ("first.bias", 3 * g + u), ("second.weight", (slice(2 * g, 2 * g + 2), u)),
        ],
        lambda g, u: [("first", [3 * g + u])], lambda g, u: [("second", [3 * g + u])],
    ),
    Architecture(
        "values", Attention, (5, 6), _named("value.weight", lanes=2), 2, 4,
        lambda h, u: [("value.weight", 4 * h + u), ("value.bias", 4 * h + u), ("out.weight", (ALL, 4 * h + u))],
        lambda h, u: [("value", [4 * h + u])], lambda h, u: [("out", [4 * h + u])],
    ),
    Architecture(
        "queries", Attention, (5, 6), _named("query.weight", lanes=2), 2, 4,
        lambda h, u: [
            (f"{layer}.{kind}", 4 * h + u) for layer in ("query", "key") for kind in ("weight", "bias")
        ],
        lambda h, u: [("query", [4 * h + u]), ("key", [4 * h + u])], lambda h, u: [],
    ),
    Architecture(
        "recurrent", Recurrent, (4, 3), _named("last.weight"), 1, 5,
        _recurrent_owned, lambda lane, u: [], lambda lane, u: [],
    ),
]  # fmt: skip
