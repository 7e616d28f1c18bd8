"""Views, shuffles, unfolding, flattening; einsum in all spellings and products of activations."""

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


_pixels = images(2, 3, 4, 4)


_tokens = images(2, 3, 6)


_rows = images(4, 6)

CASES = (
    Case(channels_last_flatten, _pixels, (Units("conv:0 fc:1", 8),)),
    Case(channel_shuffle, _pixels, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3))),
    Case(stock_channel_shuffle, _pixels, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3))),
    Case(pixel_shuffle, _pixels, (Units("a:0 b:1", 8),)),
    Case(pixel_unshuffle, _pixels, (Units("a:0 b:1", 8),)),
    Case(repeat_channels, _pixels, (Units("a:0 b:1", 4),)),
    Case(repeat_interleave_channels, _pixels, (Units("a:0 b:1", 4),)),
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
)
