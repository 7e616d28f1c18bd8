"""Parts and joins of channels: slices, splits, concatenations, padding, and what names positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class _on_hidden(nn.Module):
    """Two hidden widths; a subclass does something to the first that names its positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 6, 1)
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.between(self.a(x))).relu())

    def between(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class flip_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x.flip(1)


class roll_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return torch.roll(x, 2, dims=1)


class roll_everything(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x.roll(3)


class index_select_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x.index_select(1, torch.tensor([7, 1, 0, 2, 6, 3, 5, 4]))


class index_channels_by_list(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x[:, [7, 1, 0, 2, 6, 3, 5, 4]]


class strided_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, ::2], x[:, 1::2]], 1)


class sorted_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x.sort(dim=1).values


class cumulated_channels(_on_hidden):
    def between(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class last_four(nn.Module):
    """The last four by a literal; the eight before them are free."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(4, 5, 1)
        self.c = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(x[:, -4:]) + self.c(x)


class last_by_attribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tail = 4
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(4, 5, 1)
        self.c = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(x[:, -self.tail :]) + self.c(x)


class halves_by_shape(nn.Module):
    """Both halves by arithmetic on the shape: they stay equally large."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(6, 5, 1)
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        half = x.shape[1] // 2
        return self.b(x[:, :half]) + self.c(x[:, half:])


class unused_first_half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, v = self.a(x).chunk(2, dim=1)
        return self.b(v)


class swapped_halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width = 6
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(6, 5, 1)
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.a(x).split(self.width, dim=1)
        return self.c(v) + self.b(u)


class rejoined_swapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.a(x).relu().chunk(2, dim=1)
        return self.b(torch.cat([v, u], 1))


class uneven_split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.widths = [4, 6]
        self.a = nn.Linear(3, 10)
        self.b = nn.Linear(4, 5)
        self.c = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.a(x).split(self.widths, dim=2)
        return self.b(u) + self.c(v)


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1 = nn.Conv2d(width, width, 3, padding=1)
        self.cv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(F.silu(self.cv1(x)))


class c2f(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = 6
        self.cv1 = nn.Conv2d(3, 12, 1)
        self.m = nn.ModuleList(Bottleneck(6) for _ in range(2))
        self.cv2 = nn.Conv2d(24, 8, 1)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(F.silu(self.cv1(x)).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.head(F.silu(self.cv2(torch.cat(y, 1))))


class c2f_split(c2f):
    def forward(self, x: Tensor) -> Tensor:
        y = list(F.silu(self.cv1(x)).split((self.c, self.c), 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.head(F.silu(self.cv2(torch.cat(y, 1))))


class cat_tokens_width(nn.Module):
    """split and cat on dim 2 of [B, T, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.b(x)], dim=2).relu())


class image_and_vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8 * 4 + 7, 10)
        self.out = nn.Linear(10, 4)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        return self.out(self.fc(torch.cat([self.conv(x).flatten(1), vector], dim=1)).relu())


class cat_twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(torch.cat([x, x.relu()], 1))


class nested_cats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 6, 1)
        self.c = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(18)
        self.d = nn.Conv2d(18, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.norm(torch.cat([self.a(x), torch.cat([self.b(x), self.c(x)], 1)], 1)).relu())


class dense_block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.head = nn.Conv2d(18, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(norm(x).relu())], 1)
        return self.head(x)


class cat_rows(nn.Module):
    """A cat over pixels couples the channels of what it joins."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(3, 8, 1)
        self.c = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.b(x)], 2))


class stacked_branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 8)
        self.c = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.stack([self.a(x), self.b(x)]).sum(0))


class gated_linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x), dim=-1))


class shifted_concatenations(nn.Module):
    """[A + B] + [B + A]: the boundaries of one cut the other, down to blocks of the common divisor."""

    def __init__(self, a: int = 4, b: int = 8) -> None:
        super().__init__()
        self.a = nn.Linear(6, a)
        self.b = nn.Linear(6, b)
        self.hidden = nn.Linear(a + b, 7)
        self.out = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.out(self.hidden(torch.cat([a, b], 1) + torch.cat([b, a], 1)).relu())


class shifted_to_dust(shifted_concatenations):
    """Without a common divisor a single unit is left, which cannot go."""

    def __init__(self) -> None:
        super().__init__(5, 8)


class shifted_too_often(shifted_concatenations):
    """More cuts than an axis may have: frozen instead."""

    def __init__(self) -> None:
        super().__init__(2, 201)


class asks_one_for_its_shape(_on_hidden):
    """A mask as large as one channel, whichever that is."""

    def between(self, x: Tensor) -> Tensor:
        inside = torch.full_like(x[:, 0], True).bool() & torch.ones_like(x[:, -1]).bool()
        return x * inside[:, None]


class written_rows(nn.Module):
    """A table written row by row, the last of which are all alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        rows = torch.empty((2, len(x) + 2, x.shape[1]), dtype=x.dtype)
        for half in range(2):
            rows[half, : len(x)] = x * (half + 1)
            rows[half, len(x) :] = x[0]
        return self.b(rows)


class padded_channels(nn.Module):
    """Zero channels appended so that a residual fits, as in the first residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 12, 1)
        self.c = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.c(self.b(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))


_pixels = images(2, 3, 4, 4)
_tokens = images(2, 3, 6)
_rows = images(4, 6)
_b_free = (Units("b:0 c:1", 6),)

CASES = (
    Case(flip_channels, _pixels, _b_free, (Frozen("a:0", "flip", "x.flip(1)"), Frozen("b:1", "flip", "x.flip(1)"))),
    Case(roll_channels, _pixels, _b_free, (Frozen("a:0", "roll", "torch.roll(x, 2"),)),
    Case(roll_everything, _pixels, _b_free, (Frozen("a:0", "roll", "x.roll(3)"),)),
    Case(index_select_channels, _pixels, _b_free, (Frozen("a:0", "index_select", "x.index_select(1"),)),
    Case(index_channels_by_list, _pixels, _b_free, (Frozen("a:0", "index", "x[:, [7"),)),
    Case(strided_channels, _pixels, (Units("a:0 b:1", 4), *_b_free), (Frozen("a:0", "step 2", "x[:, ::2]"),)),
    Case(sorted_channels, _pixels, _b_free, (Frozen("a:0", "sort", "x.sort(dim=1)"),)),
    Case(cumulated_channels, _pixels, _b_free, (Frozen("a:0", "cumsum", "x.cumsum(1)"),)),
    Case(asks_one_for_its_shape, _pixels, (Units("a:0 b:1", 8), *_b_free)),
    Case(written_rows, _rows, (Units("a:0 b:1", 8),)),
    Case(last_four, _pixels, (Units("a:0 c:1", 8),), (Frozen("b:1", "literal", "x[:, -4:]"),)),
    Case(last_by_attribute, _pixels, (Units("a:0 c:1", 8), Units("a:0 b:1 c:1", 4))),
    Case(halves_by_shape, _pixels, (Units("a:0 b:1", 6), Units("a:0 c:1", 6))),
    Case(unused_first_half, _pixels, (Units("a:0 b:1", 6), Units("a:0", 6))),
    Case(swapped_halves, _pixels, (Units("a:0 b:1", 6), Units("a:0 c:1", 6))),
    Case(rejoined_swapped, _pixels, (Units("a:0 b:1", 6), Units("a:0 b:1", 6))),
    Case(uneven_split, images(2, 3, 3), (Units("a:0 b:1", 4), Units("a:0 c:1", 6))),
    Case(
        c2f,
        _pixels,
        (
            Units("cv1:0 cv2:1", 6),
            Units("cv1:0 m.0.cv1:1 m.0.cv2:0 m.1.cv2:0 cv2:1", 6),
            Units("m.0.cv1:0 m.0.cv2:1", 6),
            Units("m.1.cv1:0 m.1.cv2:1", 6),
            Units("cv2:0 head:1", 8),
        ),
    ),
    Case(
        c2f_split,
        _pixels,
        (
            Units("cv1:0 cv2:1", 6),
            Units("cv1:0 m.0.cv1:1 m.0.cv2:0 m.1.cv2:0 cv2:1", 6),
            Units("m.0.cv1:0 m.0.cv2:1", 6),
            Units("m.1.cv1:0 m.1.cv2:1", 6),
            Units("cv2:0 head:1", 8),
        ),
    ),
    Case(cat_tokens_width, _tokens, (Units("a:0 c:1", 8), Units("b:0 c:1", 4))),
    Case(
        image_and_vector,
        lambda: (torch.randn(2, 3, 4, 4), torch.randn(2, 7)),
        (Units("conv:0 fc:1", 8), Units("fc:0 out:1", 10)),
    ),
    Case(cat_twice, _pixels, (Units("a:0 b:1", 8),)),
    Case(nested_cats, _pixels, (Units("a:0 norm:0 d:1", 4), Units("b:0 norm:0 d:1", 6), Units("c:0 norm:0 d:1", 8))),
    Case(
        dense_block,
        _pixels,
        (
            Units("stem:0 norms.2:0 convs.0:1 convs.2:1 head:1", 6),
            Units("convs.0:0 norms.2:0 convs.2:1 head:1", 4),
            Units("convs.1:0 convs.2:1 head:1", 4),
            Units("convs.2:0 head:1", 4),
        ),
    ),
    Case(cat_rows, _pixels, (Units("a:0 b:0 c:1", 8),)),
    Case(stacked_branches, _rows, (Units("a:0 b:0 c:1", 8),)),
    Case(gated_linear, _rows, (Units("a:0 b:1", 8),)),
    Case(shifted_concatenations, _rows, (Units("a:0 b:0 hidden:1", 4), Units("hidden:0 out:1", 7))),
    Case(shifted_to_dust, _rows, (Units("hidden:0 out:1", 7),)),
    Case(shifted_too_often, _rows, (Units("hidden:0 out:1", 7),), (Frozen("b:0", "add", "torch.cat([b, a], 1)"),)),
    Case(padded_channels, _pixels, (Units("a:0 b:1", 8),)),
)
