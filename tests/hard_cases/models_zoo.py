"""What models of the zoos do, written out small."""

from __future__ import annotations

import torch
from drive import Case, Frozen, Units
from torch import Tensor, nn


class number_in_a_tensor(nn.Module):
    """A width becomes a tensor, and a divisor: removal is not exact unless the number is put right."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) / torch.sqrt(torch.tensor(x.shape[1]))


class compared_and_discarded(nn.Module):
    """Only the size of a product is looked at. It has to stay what it is all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        copy = x.clone()
        return self.b(x) if copy.shape[1] == 8 else x


class measured_and_discarded(nn.Module):
    """The size of something that is thrown away becomes that of something else."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        copy = x.clone()
        return self.b(x.relu() + x.new_zeros(copy.shape[1]))


class remembers_features(nn.Module):
    """Features that a module keeps for the next of several inputs, and drops at the end, are nobody's output."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)
        self.kept: list[Tensor | None] = [None]

    def forward(self, x: Tensor) -> Tensor:
        self.kept = [None]
        parts = []
        for part in x.split(2):
            part = self.a(part).relu()
            kept = part.clone()
            if kept.shape[0] < 4 and self.kept[0] is not None:
                kept = torch.cat([self.kept[0], kept])
            self.kept = [kept]
            parts.append(self.b(part))
        self.kept = [None]
        return torch.cat(parts)


class mixed_over_scales(nn.Module):
    """A convolution with one tap, over the tokens of three scales: channels stand where pixels usually do."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList([nn.Linear(6, 8) for _ in range(3)])
        self.mix = nn.Conv1d(3, 1, 1)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.mix(torch.stack([scale(x) for scale in self.scales], 1)).squeeze(1))


class head_dim_of_thirds(nn.Module):
    """The head dimension is defined by a third of what is viewed, and scales the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_dim, self.width = 2, 8, 16
        self.qkv = nn.Linear(6, 48)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).view(b, n, self.heads, self.head_dim * 3).permute(0, 2, 3, 1)
        q, k, v = qkv.split([self.head_dim, self.head_dim, self.head_dim], dim=2)
        weights = ((q * self.head_dim**-0.5).transpose(-2, -1) @ k).softmax(-1)
        return self.out((v @ weights.transpose(-2, -1)).permute(0, 3, 1, 2).reshape(b, n, self.width))


def _tokens() -> tuple[Tensor, ...]:
    return (torch.randn(2, 5, 6),)


def _rows() -> tuple[Tensor, ...]:
    return (torch.randn(4, 6),)


CASES = (
    Case(
        number_in_a_tensor,
        _rows,
        (Units("a:0 b:1", 8, reason="its size is used as a number", line="torch.tensor(x.shape[1])"),),
    ),
    Case(compared_and_discarded, _rows, (), (Frozen("a:0", "the code needs", "copy.shape[1] == 8"),)),
    Case(measured_and_discarded, _rows, (Units("a:0 b:1", 8),)),
    Case(
        mixed_over_scales,
        _rows,
        (Units("scales.0:0 scales.1:0 scales.2:0 b:1", 8),),
        (Frozen("mix:1", "meets a dimension that is never pruned", "torch.stack"),),
    ),
    Case(
        head_dim_of_thirds,
        _tokens,
        (Units("qkv:0 out:1", 2), Units("qkv:0", 8, 2), Units("qkv:0 out:1", 8, 2)),
    ),
    Case(remembers_features, _rows, (Units("a:0 b:1", 8),)),
)
