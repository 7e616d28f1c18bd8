"""Convolutions: groups, depthwise, transposed, one channel, shuffles between groups, lanes that must merge."""

from __future__ import annotations

import torch
from drive import Case, Units, images
from torch import Tensor, nn


class grouped(nn.Module):
    """Whole groups may go, and inputs and outputs of a group differently in every group."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 20, 1)
        self.norm = nn.BatchNorm2d(20)
        self.g = nn.Conv2d(20, 12, 3, padding=1, groups=4)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.g(self.norm(self.a(x)).relu()).relu())


class two_grouped(nn.Module):
    """The groups of the second are those of the first, so what lies between differs by group too."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.g = nn.Conv2d(12, 20, 3, padding=1, groups=4)
        self.h = nn.Conv2d(20, 8, 1, groups=4)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.h(self.g(self.a(x)).relu()).relu())


class groups_of_two_kinds(nn.Module):
    """2 groups into 4: the larger divides the smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.g = nn.Conv2d(12, 24, 1, groups=2)
        self.h = nn.Conv2d(24, 12, 1, groups=4)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.h(self.g(self.a(x)).relu()).relu())


class grouped_transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.g = nn.ConvTranspose2d(12, 20, 2, stride=2, groups=4)
        self.b = nn.Conv2d(20, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.g(self.a(x).relu()).relu())


class depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.d = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.d(self.a(x))).relu())


class depthwise_multiplier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.d = nn.Conv2d(8, 24, 3, padding=1, groups=8)
        self.b = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.d(self.a(x)).relu())


class depthwise_transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.d = nn.ConvTranspose2d(8, 16, 2, stride=2, groups=8)
        self.b = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.d(self.a(x)).relu())


class one_channel(nn.Module):
    """A convolution with one output channel, as at the end of a segmentation network: nothing of it can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.one = nn.Conv2d(8, 1, 3, padding=1)
        self.b = nn.Conv2d(1, 6, 1)
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.one(self.a(x).relu()).sigmoid()).relu())


class one_dimension(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(3, 8, 3)
        self.t = nn.ConvTranspose1d(8, 6, 2, stride=2)
        self.b = nn.Conv1d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.t(self.a(x).relu()).relu())


class three_dimensions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv3d(2, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm3d(8)
        self.pool = nn.MaxPool3d(2)
        self.b = nn.Conv3d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pool(self.norm(self.a(x)).relu()))


class circular_padding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")
        self.b = nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect")
        self.c = nn.Conv2d(6, 5, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a = nn.Conv2d(8, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.b(self.norm(self.a(x)).relu())
        return self.head(x.relu().mean((2, 3)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class shuffle_between_groups(nn.Module):
    """A group of the first lies spread over all groups of the second: (G * H * D) becomes (H * D * G)."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 3
        self.a = nn.Conv2d(3, 12, 1)
        self.g = nn.Conv2d(12, 36, 1, groups=3)
        self.h = nn.Conv2d(36, 12, 1, groups=3)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = shuffled(self.g(self.a(x)), self.groups)
        return self.b(self.h(x.relu()))


class heads_summed(nn.Module):
    """h.sum(heads) multiplied back: position d of one head meets position d of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).view(x.shape[0], self.heads, -1)
        return self.b((h * h.sum(1, keepdim=True)).flatten(1))


class heads_rolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).view(x.shape[0], self.heads, -1)
        return self.b((h + h.roll(1, dims=1)).flatten(1))


class heads_apart(nn.Module):
    """Nothing relates one head to another: each may keep other units."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(x.shape[0], self.heads, -1).tanh().flatten(1))


class heads_with_shared_table(nn.Module):
    """One vector of length D for all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.a = nn.Linear(6, 12)
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x).view(x.shape[0], self.heads, -1) * self.scale).flatten(1))


_pixels = images(2, 3, 4, 4)
_rows = images(4, 6)

CASES = (
    Case(
        grouped,
        _pixels,
        (Units("a:0 norm:0 g:0 b:1", 4), Units("a:0 norm:0 g:1", 5, lanes=4), Units("g:0 b:1", 3, lanes=4)),
    ),
    Case(
        two_grouped,
        _pixels,
        (
            Units("a:0 g:0 h:0 b:1", 4),
            Units("a:0 g:1", 3, lanes=4),
            Units("g:0 h:1", 5, lanes=4),
            Units("h:0 b:1", 2, lanes=4),
        ),
    ),
    Case(
        groups_of_two_kinds,
        _pixels,
        (
            Units("a:0 g:0 h:0 b:1", 2),
            Units("g:0 h:0 b:1", 2),
            Units("a:0 g:1", 6, lanes=2),
            Units("g:0 h:1", 6, lanes=4),
            Units("h:0 b:1", 3, lanes=4),
        ),
    ),
    Case(
        grouped_transposed,
        _pixels,
        (Units("a:0 g:0 b:1", 4), Units("a:0 g:0", 3, lanes=4), Units("g:1 b:1", 5, lanes=4)),
    ),
    Case(depthwise, _pixels, (Units("a:0 d:0 norm:0 b:1", 8),)),
    Case(depthwise_multiplier, _pixels, (Units("a:0 d:0 b:1", 8), Units("d:0 b:1", 3, lanes=8))),
    Case(depthwise_transposed, _pixels, (Units("a:0 d:0 b:1", 8), Units("d:1 b:1", 2, lanes=8))),
    Case(one_channel, _pixels, (Units("a:0 one:1", 8), Units("b:0 c:1", 6))),
    Case(one_dimension, images(2, 3, 8), (Units("a:0 t:0", 8), Units("t:1 b:1", 6))),
    Case(three_dimensions, images(2, 2, 4, 4, 4), (Units("a:0 norm:0 b:1", 4, lanes=2),)),
    Case(circular_padding, _pixels, (Units("a:0 b:1", 8), Units("b:0 c:1", 6))),
    Case(residual, _pixels, (Units("stem:0 a:1 b:0 head:1", 8), Units("a:0 norm:0 b:1", 6))),
    Case(
        shuffle_between_groups,
        _pixels,
        (
            Units("a:0 g:0 h:1", 3),
            Units("g:0 h:0 b:1", 3),
            Units("a:0 g:1", 4, lanes=3),
            Units("g:0 h:1", 4, lanes=9),
            Units("h:0 b:1", 4, lanes=3),
        ),
    ),
    Case(heads_summed, _rows, (Units("a:0 b:1", 3), Units("a:0 b:1", 4))),
    Case(heads_rolled, _rows, (Units("a:0 b:1", 4),)),
    Case(heads_apart, _rows, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3))),
    Case(heads_with_shared_table, _rows, (Units("a:0 b:1", 3), Units("a:0 scale:0 b:1", 4))),
)
