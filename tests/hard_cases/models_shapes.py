"""Views, parts and joins of axes: what is where after permute, split, cat, slice, shuffle, fold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class channels_last_flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(4 * 4 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().permute(0, 2, 3, 1).flatten(1))


class channel_shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.groups = 3
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.b(x)


class stock_channel_shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.shuffle = nn.ChannelShuffle(3)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.shuffle(self.a(x)))


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


class pixel_shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 1)
        self.up = nn.PixelShuffle(2)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.up(self.a(x)).relu())


class pixel_unshuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.pixel_unshuffle(self.a(x).relu(), 2))


class repeat_channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).repeat(1, 3, 1, 1))


class repeat_interleave_channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).repeat_interleave(3, dim=1))


class gated_linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x), dim=-1))


class unfold_fold(nn.Module):
    """im2col, a mean over windows through fold: channels pass with all their taps."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 5, 1)
        self.c = nn.Linear(6 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        taps = F.unfold(self.a(x), 3, padding=1)
        back = F.fold(taps, (4, 4), 3, padding=1)
        return self.b(back).flatten(2).sum(2) + self.c(taps.transpose(1, 2)).sum(1)


class patch_merging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.reduction = nn.Linear(24, 8, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)  # (batch, height, width, channels)
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.head(self.reduction(torch.cat(parts, -1)).relu())


class patch_merging_by_view(patch_merging):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.head(self.reduction(x).relu())


class flatten_head_and_tokens(nn.Module):
    """One map is flattened for a head and read token by token by another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.token = nn.Linear(8, 6)
        self.head = nn.Linear(8 * 16, 5)
        self.out = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        tokens = self.token(x.flatten(2).transpose(1, 2)).relu()
        return self.head(x.flatten(1)) + self.out(tokens).sum(1)


class adaptive_pool_flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d((7, 7))
        self.fc1 = nn.Linear(8 * 7 * 7, 12)
        self.fc2 = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(torch.flatten(self.pool(self.conv(x).relu()), 1)).relu())


class broadcast_multiply(nn.Module):
    """[B, 8, H, W] * [B, 1, H, W] couples nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.hidden = nn.Conv2d(3, 6, 1)
        self.attention = nn.Conv2d(6, 1, 1)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.attention(self.hidden(x).relu()).sigmoid())


class einsum_spellings(nn.Module):
    """Implicit output, spaces, ellipses, capital letters, sublists, three operands, transposed result."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(6, 7) / 2)
        self.w2 = nn.Parameter(torch.randn(8, 7) / 2)
        self.w3 = nn.Parameter(torch.randn(8, 9) / 2)
        self.w4 = nn.Parameter(torch.randn(9, 10) / 2)
        self.w5 = nn.Parameter(torch.randn(10, 11) / 2)
        self.w6 = nn.Parameter(torch.randn(11, 5) / 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("bti,iz", x, self.w1).tanh()
        x = torch.einsum("b t i , o i -> b t o", x, self.w2).tanh()
        x = torch.einsum("...i,ij->...j", x, self.w3).tanh()
        x = torch.einsum("BtI,IO->OBt", x, self.w4).tanh()
        x = torch.einsum(x, [3, 0, 1], self.w5, [3, 2], [0, 1, 2]).tanh()
        return torch.einsum("btc,cd,bt->btd", x, self.w6, torch.ones(x.shape[0], x.shape[1], dtype=x.dtype))


class einsum_diagonal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.hidden = nn.Linear(6, 7)
        self.b = nn.Linear(7, 8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        square = torch.einsum("bi,bj->bij", self.a(x), self.b(self.hidden(x).relu()))
        return self.out(torch.einsum("bii->bi", square))


class two_activations(nn.Module):
    """[B, T, C] @ [B, C, T]: the width of both sides is one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 8)
        self.v = nn.Linear(6, 7)
        self.out = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.a(x) @ self.b(x).mT) @ self.v(x))


class bilinear_layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 7)
        self.bilinear = nn.Bilinear(8, 7, 9)
        self.out = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.bilinear(self.a(x).relu(), self.b(x)).relu())


class outer_product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 4)
        self.b = nn.Linear(6, 7)
        self.out = nn.Linear(28, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.a(x)[:, :, None] * self.b(x)[:, None, :]).flatten(1))


class outer_by_einsum(outer_product):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.einsum("bi,bj->bij", self.a(x), self.b(x)).reshape(x.shape[0], -1))


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
    Case(channels_last_flatten, _pixels, (Units("conv:0 fc:1", 8),)),
    Case(channel_shuffle, _pixels, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3))),
    Case(stock_channel_shuffle, _pixels, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3))),
    Case(flip_channels, _pixels, _b_free, (Frozen("a:0", "flip", "x.flip(1)"), Frozen("b:1", "flip", "x.flip(1)"))),
    Case(roll_channels, _pixels, _b_free, (Frozen("a:0", "roll", "torch.roll(x, 2"),)),
    Case(roll_everything, _pixels, _b_free, (Frozen("a:0", "roll", "x.roll(3)"),)),
    Case(index_select_channels, _pixels, _b_free, (Frozen("a:0", "index_select", "x.index_select(1"),)),
    Case(index_channels_by_list, _pixels, _b_free, (Frozen("a:0", "index", "x[:, [7"),)),
    Case(strided_channels, _pixels, _b_free, (Frozen("a:0", "slice", "x[:, ::2]"),)),
    Case(sorted_channels, _pixels, _b_free, (Frozen("a:0", "sort", "x.sort(dim=1)"),)),
    Case(cumulated_channels, _pixels, _b_free, (Frozen("a:0", "cumsum", "x.cumsum(1)"),)),
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
    Case(pixel_shuffle, _pixels, (Units("a:0 b:1", 8),)),
    Case(pixel_unshuffle, _pixels, (Units("a:0 b:1", 8),)),
    Case(repeat_channels, _pixels, (Units("a:0 b:1", 4),)),
    Case(repeat_interleave_channels, _pixels, (Units("a:0 b:1", 4),)),
    Case(gated_linear, _rows, (Units("a:0 b:1", 8),)),
    Case(unfold_fold, _pixels, (Units("a:0 b:1 c:1", 6),)),
    Case(patch_merging, images(2, 4, 4, 3), (Units("embed:0 reduction:1", 6), Units("reduction:0 head:1", 8))),
    Case(patch_merging_by_view, images(2, 4, 4, 3), (Units("embed:0 reduction:1", 6), Units("reduction:0 head:1", 8))),
    Case(flatten_head_and_tokens, _pixels, (Units("conv:0 token:1 head:1", 8), Units("token:0 out:1", 6))),
    Case(adaptive_pool_flatten, _pixels, (Units("conv:0 fc1:1", 8), Units("fc1:0 fc2:1", 12))),
    Case(broadcast_multiply, _pixels, (Units("a:0 b:1", 8), Units("hidden:0 attention:1", 6))),
    Case(
        einsum_spellings,
        _tokens,
        (
            Units("w1:1 w2:1", 7),
            Units("w2:0 w3:0", 8),
            Units("w3:1 w4:0", 9),
            Units("w4:1 w5:0", 10),
            Units("w5:1 w6:0", 11),
        ),
    ),
    Case(
        einsum_diagonal,
        _rows,
        (Units("hidden:0 b:1", 7),),
        (Frozen("a:0", "einsum: diagonal", "bii->bi"), Frozen("out:1", "einsum: diagonal", "bii->bi")),
    ),
    Case(two_activations, _tokens, (Units("a:0 b:0", 8), Units("v:0 out:1", 7))),
    Case(bilinear_layer, _rows, (Units("a:0 bilinear:1", 8), Units("b:0 bilinear:2", 7), Units("bilinear:0 out:1", 9))),
    Case(outer_product, _rows, (Units("a:0 out:1", 4), Units("b:0 out:1", 7))),
    Case(outer_by_einsum, _rows, (Units("a:0 out:1", 4), Units("b:0 out:1", 7))),
    Case(shifted_concatenations, _rows, (Units("a:0 b:0 hidden:1", 4), Units("hidden:0 out:1", 7))),
    Case(shifted_to_dust, _rows, (Units("hidden:0 out:1", 7),)),
    Case(shifted_too_often, _rows, (Units("hidden:0 out:1", 7),), (Frozen("b:0", "add", "torch.cat([b, a], 1)"),)),
    Case(padded_channels, _pixels, (Units("a:0 b:1", 8),)),
)
