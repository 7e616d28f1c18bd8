"""Blocks on images: [B, C, H, W] -> [B, C', H, W], H and W multiples of 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from random_architectures.blocks import BlockModule


class ChannelsLast(nn.Module):
    """A layer on the last dimension, for images."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm(variant: int, width: int) -> nn.Module:
    return (
        nn.BatchNorm2d,
        lambda width: nn.Identity(),
        lambda width: nn.BatchNorm2d(width, affine=False),
        lambda width: nn.InstanceNorm2d(width, affine=True),
        lambda width: nn.GroupNorm(2 if width % 2 == 0 else 1, width),
        lambda width: nn.GroupNorm(width, width),
        lambda width: ChannelsLast(nn.LayerNorm(width)),
        lambda width: ChannelsLast(nn.RMSNorm(width, elementwise_affine=False)),
    )[variant % 8](width)


class Conv(BlockModule):
    def build(self, channels: int, width: int) -> None:
        kernel = 1 + 2 * (self.variant % 2)
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=self.variant < 4)
        self.norm = norm(self.variant, width)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Residual(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 1)
        self.norm = norm(self.variant, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.b(self.act(self.a(x))))


class ConcatBranch(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.out_channels = channels + width

    def forward(self, x: Tensor) -> Tensor:
        parts = [x, self.act(self.a(x))]
        return torch.cat(parts if self.variant % 2 else parts[::-1], 1)


class Dense(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Conv2d(channels, width, 1), nn.Conv2d(channels + width, width, 1)
        self.out_channels = channels + 2 * width

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x))
        return torch.cat([x, y, self.b(torch.cat([x, y], 1))], 1)


class Split(BlockModule):
    """Halves that are used in the other order, or joined again in the other order."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, 2 * width, 1)
        self.b = nn.Conv2d(width, width, 1)
        self.c = None if self.variant // 2 % 2 else nn.Conv2d(width, width, 1)
        self.width = width
        self.out_channels = width * (1 if self.c else 2)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.a(x).chunk(2, 1) if self.variant % 2 else self.a(x).split(self.width, 1)
        if self.c is None:
            return torch.cat([self.act(self.b(v)), u], 1)
        return self.act(self.b(v)) + self.c(u)


class UnevenSplit(BlockModule):
    """A quarter takes another way than the rest, and they are joined in either order."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.sizes = [width // 4, width - width // 4]
        self.b = nn.Conv2d(width // 4, width // 4, 3, padding=1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        u, v = y.split(self.sizes, 1) if self.variant % 2 else (y[:, : self.sizes[0]], y[:, self.sizes[0] :])
        parts = [self.act(self.b(u)), v]
        return torch.cat(parts if self.variant // 2 % 2 else parts[::-1], 1)


class PartsAndAll(BlockModule):
    """`chunk`, a bottleneck chain on the last part, and everything joined (as in YOLO's C2f)."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, 2 * width, 1)
        self.chain = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(1 + self.variant % 2))
        self.b = nn.Conv2d(width * (2 + len(self.chain)), width, 1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.a(x).chunk(2, 1))
        for layer in self.chain:
            y = self.act(layer(parts[-1]))
            parts.append(parts[-1] + y if self.variant // 2 % 2 else y)
        return self.b(torch.cat(parts, 1))


class Grouped(BlockModule):
    def build(self, channels: int, width: int) -> None:
        groups = (2, 4, width, 1)[self.variant % 4]
        self.a = nn.Conv2d(channels, width, 1)
        transposed = self.variant // 4
        layer = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.b = layer(width, width * (2 if groups == width else 1), 3, padding=1, groups=groups)
        self.out_channels = self.b.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self.a(x)))


class Shuffle(BlockModule):
    """Channels are shuffled before a grouped convolution, or between two."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.b = nn.Conv2d(width, width, 1, groups=(1, 2, 4)[self.variant % 3])
        self.c = nn.Conv2d(width, width, 1, groups=2)
        self.groups = 2
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.b(self.a(x)))
        if self.variant % 2:
            return self.c(F.channel_shuffle(y, self.groups))
        b, c, h, w = y.shape
        return self.c(y.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w))


class Squeeze(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True) if self.variant % 2 else F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.b(self.act(self.a(pooled))))


class ChannelStatistics(BlockModule):
    """Pixels weighted by the mean and the largest of their channels; or channels by their neighbours."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.b = nn.Conv1d(1, 1, 3, padding=1) if self.variant % 2 else nn.Conv2d(2, 1, 3, padding=1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x))
        if self.variant % 2:
            return y * self.b(y.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1)
        return y * self.b(torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)).sigmoid()


class Gate(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, 2 * width, 1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.variant % 2:
            return F.glu(y, dim=1)
        return y[:, : y.shape[1] // 2] * self.act(y[:, y.shape[1] // 2 :])


class Highway(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.b(x))
        return t * self.act(self.a(x)) + (1 - t) * x if self.variant % 2 else torch.lerp(x, self.act(self.a(x)), t)


class PixelShuffle(BlockModule):
    """Up and down again, or down and up again."""

    def build(self, channels: int, width: int) -> None:
        down = self.variant % 2
        self.a = nn.Conv2d(channels * (4 if down else 1), width * 4, 1)
        self.b = nn.Conv2d(width * (1 if down else 4), width, 1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        if self.variant % 2:
            return self.b(F.pixel_shuffle(self.act(self.a(F.pixel_unshuffle(x, 2))), 2))
        return self.b(F.pixel_unshuffle(self.act(F.pixel_shuffle(self.a(x), 2)), 2))


class PatchMerging(BlockModule):
    """Every second pixel in both directions side by side, and resampled to the old size."""

    def build(self, channels: int, width: int) -> None:
        self.norm = nn.LayerNorm(4 * channels) if self.variant % 2 else nn.Identity()
        self.a = nn.Linear(4 * channels, width, bias=self.variant < 4)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1)
        corners = [y[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        merged = self.act(self.a(self.norm(torch.cat(corners, -1)))).permute(0, 3, 1, 2)
        return F.interpolate(merged, scale_factor=2, mode="nearest")


class Pyramid(BlockModule):
    """Two scales, added or joined."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.b = nn.Conv2d(channels, width, 1)
        self.out_channels = width * (1 + self.variant % 2)

    def forward(self, x: Tensor) -> Tensor:
        small, large = self.act(self.a(x)), self.b(F.max_pool2d(x, 3, 1, 1))
        small = F.interpolate(small, size=large.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([small, large], 1) if self.variant % 2 else small + large


class Inception(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a, self.b = nn.Conv2d(channels, width, 1), nn.Conv2d(channels, 2 * width, 3, padding=1)
        self.norm = norm(self.variant, channels + 3 * width)
        self.out_channels = channels + 3 * width

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(torch.cat([self.a(x), F.avg_pool2d(x, 3, 1, 1), self.b(x)], 1)))


class Twice(BlockModule):
    """One layer that runs twice."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.norm = None if self.variant // 2 % 2 else norm(self.variant, width)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.norm is None:
            return self.b(y) + self.act(self.b(y.flip(-1)))
        return self.norm(self.b(self.act(self.norm(self.b(y)))))


class Functional(BlockModule):
    """Parameters without a layer, a standardised weight, a buffer for each channel."""

    def build(self, channels: int, width: int) -> None:
        self.weight = nn.Parameter(torch.randn(width, channels, 1, 1) * channels**-0.5)
        self.scale = nn.Parameter(torch.rand(width, 1, 1) + 0.5)
        self.register_buffer("shift", torch.randn(width) if self.variant // 2 % 2 else None)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.variant % 2:
            mean = weight.mean((1, 2, 3), keepdim=True)
            weight = (weight - mean) / (weight.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-3).sqrt()
        y = F.conv2d(x, weight, self.shift)
        return self.act(y * self.scale)


class ConvNext(BlockModule):
    """Depthwise, then channels last with a response normalisation and a scale for each channel."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels) if self.variant % 2 else nn.Identity()
        self.b, self.c = nn.Linear(channels, width), nn.Linear(width, channels)
        self.scale = nn.Parameter(torch.rand(channels) + 0.5)
        self.response = nn.Parameter(torch.rand(width)) if self.variant // 2 % 2 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.b(self.norm(self.a(x).permute(0, 2, 3, 1))))
        if self.response is not None:
            norms = y.norm(dim=(1, 2), keepdim=True)
            y = y + self.response * y * norms / (norms.mean(-1, keepdim=True) + 1e-6)
        return x + (self.c(y) * self.scale).permute(0, 3, 1, 2)


class InPlace(BlockModule):
    """Writes into slices of what it computed."""

    def build(self, channels: int, width: int) -> None:
        self.a = nn.Conv2d(channels, width, 1)
        self.b = None if self.variant % 4 == 2 else nn.Conv2d(channels, width // 2, 1)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x)).clone()
        half = y.shape[1] // 2
        if self.b is None:
            y[:, half:].mul_(2.0)
        elif self.variant % 2:
            y[:, :half] = self.b(x)
        else:
            y[:, :half] += self.b(x)
        return y


class Window(BlockModule):
    """Attention within windows of 2 x 2 pixels, shifted, with a table of relative positions."""

    def build(self, channels: int, width: int) -> None:
        self.heads, self.window, self.head_dim = 2, 2, width // 2
        self.a, self.out = nn.Conv2d(channels, width, 1), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width) if self.variant % 2 else nn.Identity()
        self.qkv = nn.Linear(width, 3 * width)
        self.table = nn.Parameter(torch.randn(9, self.heads))
        rows = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        relative = rows[:, :, None] - rows[:, None, :] + 1
        self.register_buffer("index", relative[0] * 3 + relative[1])
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).permute(0, 2, 3, 1)
        b, h, w, c = y.shape
        k = self.window
        z = torch.roll(self.norm(y), (-1, -1), (1, 2)) if self.variant // 2 % 2 else self.norm(y)
        z = z.view(b, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, k * k, c)
        q, key, v = self.qkv(z).view(-1, k * k, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        scores = q * self.head_dim**-0.5 @ key.transpose(-2, -1) + self.table[self.index].permute(2, 0, 1)
        z = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        z = z.view(b, h // k, w // k, k, k, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)
        z = torch.roll(z, (1, 1), (1, 2)) if self.variant // 2 % 2 else z
        return (y + z).permute(0, 3, 1, 2)


class Unfold(BlockModule):
    def build(self, channels: int, width: int) -> None:
        self.a = nn.Linear(channels * 4, width * 4)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, 2, stride=2).transpose(1, 2)  # (batch, places, channels * 4)
        return F.fold(self.act(self.a(columns)).transpose(1, 2), tuple(x.shape[2:]), 2, stride=2)


IMAGE_BLOCKS: dict[str, type[BlockModule]] = {
    "conv": Conv,
    "residual": Residual,
    "concat": ConcatBranch,
    "dense": Dense,
    "split": Split,
    "uneven_split": UnevenSplit,
    "parts": PartsAndAll,
    "grouped": Grouped,
    "shuffle": Shuffle,
    "squeeze": Squeeze,
    "statistics": ChannelStatistics,
    "gate": Gate,
    "highway": Highway,
    "pixel_shuffle": PixelShuffle,
    "merging": PatchMerging,
    "pyramid": Pyramid,
    "inception": Inception,
    "twice": Twice,
    "functional": Functional,
    "convnext": ConvNext,
    "in_place": InPlace,
    "window": Window,
    "unfold": Unfold,
}
