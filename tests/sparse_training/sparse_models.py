"""Small models in which units lie on tensors in every way: rows, columns, blocks, lanes, several dimensions at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.trace.tracer import Example


class Flattened(nn.Module):
    """A convolution, a batch norm, and a linear layer over flattened channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


class Residual(nn.Module):
    """`x + conv(x)`: one group on both dimensions of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.conv, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.second(self.conv(x))
        return self.head(x.mean((2, 3)))


class GroupedConvolution(nn.Module):
    """Channels within convolution groups keep different units for each group: lanes in another dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 12, 1)
        self.grouped = nn.Conv2d(12, 9, 3, groups=3)
        self.head = nn.Conv2d(9, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.stem(x).relu()).relu()).flatten(1)


class Attention(nn.Module):
    """Heads, and head dims with a lane per head, in one fused projection."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.embed, self.qkv = nn.Linear(4, 8), nn.Linear(8, 3 * 12)
        self.out, self.head = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT * 0.5).softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, -1)
        return self.head(x + self.out(mixed))


class Recurrent(nn.Module):
    """Four gates over each hidden unit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.head = nn.Linear(4, 6), nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0])


class Gated(nn.Module):
    """A sigmoid is not zero at zero: only the columns of the layer behind it hide a removed unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).sigmoid())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "flattened": (Flattened, (4, 2, 4, 4)),
    "residual": (Residual, (4, 2, 6, 6)),
    "grouped": (GroupedConvolution, (4, 2, 4, 4)),
    "attention": (Attention, (4, 3, 4)),
    "recurrent": (Recurrent, (4, 3, 4)),
    "gated": (Gated, (4, 4)),
}


def built(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Graph]:
    """(model with different entries everywhere, an input, its graph)"""
    make, shape = MODELS[name]
    torch.manual_seed(1)
    model = make().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(shape, dtype=dtype)
    return model, x, build_graph(model, [Example(x)])
