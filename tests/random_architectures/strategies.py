"""Random networks: a stack of blocks on images, then a stack on tokens, then a head.

A network is drawn as plain data (a list of block names with small numbers), so that a failure prints as something that
can be typed in again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Block:
    """A kind of block, its width in multiples of 4, a small variant number, and the name of an activation."""

    kind: str
    width: int
    variant: int
    activation: str


def norm(variant: int, width: int) -> nn.Module:
    return (
        nn.BatchNorm2d(width),
        nn.Identity(),
        nn.BatchNorm2d(width, affine=False),
        nn.InstanceNorm2d(width, affine=True),
    )[variant % 4]


class ImageBlock(nn.Module):
    """[B, C, H, W] -> [B, C', H, W]"""

    def __init__(self, block: Block, channels: int) -> None:
        super().__init__()
        self.block = block
        width = 4 * block.width
        self.out_channels = width
        kind, variant = block.kind, block.variant
        self.act = ACTIVATIONS[block.activation]
        if kind == "conv":
            self.conv = nn.Conv2d(channels, width, 1 + 2 * (variant % 2), padding=variant % 2, bias=variant < 2)
            self.norm = norm(variant, width)
        elif kind == "residual":
            self.out_channels = channels
            self.a, self.b = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 1)
            self.norm = norm(variant, channels)
        elif kind == "concat":
            self.out_channels = channels + width
            self.a = nn.Conv2d(channels, width, 1)
        elif kind == "dense":
            self.a, self.b = nn.Conv2d(channels, width, 1), nn.Conv2d(channels + width, width, 1)
            self.out_channels = channels + 2 * width
        elif kind == "split":
            self.out_channels = width
            self.a = nn.Conv2d(channels, 2 * width, 1)
            self.b, self.c = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        elif kind == "grouped":
            self.a, self.b = (
                nn.Conv2d(channels, width, 1),
                nn.Conv2d(width, width, 3, padding=1, groups=(2, 4, width, 1)[variant % 4]),
            )
        elif kind == "shuffle":
            self.a, self.b = nn.Conv2d(channels, width, 1, groups=1), nn.Conv2d(width, width, 1, groups=2)
        elif kind == "squeeze":
            self.out_channels = channels
            self.a, self.b = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)
        elif kind == "gate":
            self.a = nn.Conv2d(channels, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        kind, variant = self.block.kind, self.block.variant
        if kind == "conv":
            return self.act(self.norm(self.conv(x)))
        if kind == "residual":
            return x + self.norm(self.b(self.act(self.a(x))))
        if kind == "concat":
            parts = [x, self.act(self.a(x))]
            return torch.cat(parts if variant % 2 else parts[::-1], 1)
        if kind == "dense":
            y = self.act(self.a(x))
            return torch.cat([x, y, self.b(torch.cat([x, y], 1))], 1)
        if kind == "split":
            u, v = self.a(x).chunk(2, 1) if variant % 2 else self.a(x).split(self.block.width * 4, 1)
            return self.act(self.b(v)) + self.c(u)
        if kind == "grouped":
            return self.b(self.act(self.a(x)))
        if kind == "shuffle":
            y = self.act(self.a(x))
            b, c, h, w = y.shape
            return self.b(y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w))
        if kind == "squeeze":
            scale = self.b(self.act(self.a(x.mean((2, 3), keepdim=True))))
            return x * torch.sigmoid(scale)
        y = self.a(x)
        return F.glu(y, dim=1) if variant % 2 else y[:, : y.shape[1] // 2] * self.act(y[:, y.shape[1] // 2 :])


class TokenBlock(nn.Module):
    """[B, T, C] -> [B, T, C']"""

    def __init__(self, block: Block, channels: int) -> None:
        super().__init__()
        self.block = block
        width, kind, variant = 4 * block.width, block.kind, block.variant
        self.out_channels = channels
        self.act = ACTIVATIONS[block.activation]
        self.heads = 2
        self.norm = (nn.Identity(), nn.LayerNorm(channels), nn.RMSNorm(channels), nn.Identity())[variant % 4]
        if kind == "mlp":
            self.up, self.down = nn.Linear(channels, width), nn.Linear(width, channels, bias=variant % 2 == 0)
        elif kind == "gated_mlp":
            self.up, self.gate, self.down = (
                nn.Linear(channels, width),
                nn.Linear(channels, width),
                nn.Linear(width, channels),
            )
        elif kind == "attention":
            self.qkv, self.out = nn.Linear(channels, 3 * width), nn.Linear(width, channels)
        elif kind == "grouped_query":
            self.q, self.k, self.v = (
                nn.Linear(channels, 2 * width),
                nn.Linear(channels, width),
                nn.Linear(channels, width),
            )
            self.out = nn.Linear(2 * width, channels)
        elif kind == "multihead":
            heads = max(h for h in (1, 2, 4) if channels % h == 0)
            self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        elif kind == "recurrent":
            self.out_channels = width * (1 + variant % 2)
            layer = (nn.LSTM, nn.GRU, nn.RNN)[variant % 3]
            self.layer = layer(
                channels, width, num_layers=1 + variant // 2, bidirectional=bool(variant % 2), batch_first=True
            )

    def forward(self, x: Tensor) -> Tensor:
        kind = self.block.kind
        if kind == "recurrent":
            return self.layer(x)[0]
        y = self.norm(x)
        if kind == "mlp":
            return x + self.down(self.act(self.up(y)))
        if kind == "gated_mlp":
            return x + self.down(self.act(self.gate(y)) * self.up(y))
        if kind == "multihead":
            return x + self.attention(y, y, y, need_weights=self.block.variant % 2 == 0)[0]
        b, t, _ = y.shape
        if kind == "attention":
            q, k, v = self.qkv(y).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            if self.block.variant % 2:
                attended = F.scaled_dot_product_attention(q, k, v)
            else:
                attended = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        else:
            q = self.q(y).view(b, t, 2 * self.heads, -1).transpose(1, 2)
            k, v = (layer(y).view(b, t, self.heads, -1).transpose(1, 2) for layer in (self.k, self.v))
            if self.block.variant % 2:
                attended = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            else:
                attended = F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
        return x + self.out(attended.transpose(1, 2).reshape(b, t, -1))


class RandomNet(nn.Module):
    """The blocks in order, between a stem and a head. `flatten` says how images become what follows."""

    def __init__(self, images: list[Block], tokens: list[Block], flatten: str) -> None:
        super().__init__()
        self.flatten = flatten
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        channels = 8
        self.images = nn.ModuleList()
        for block in images:
            self.images.append(ImageBlock(block, channels))
            channels = self.images[-1].out_channels
        self.tokens = nn.ModuleList()
        if flatten == "tokens":
            for block in tokens:
                self.tokens.append(TokenBlock(block, channels))
                channels = self.tokens[-1].out_channels
        self.head = nn.Linear(channels * (16 if flatten == "flat" else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.images:
            x = block(x)
        if self.flatten == "flat":
            return self.head(x.flatten(1))
        if self.flatten == "pool":
            return self.head(x.mean((2, 3)))
        x = x.flatten(2).transpose(1, 2)
        for block in self.tokens:
            x = block(x)
        return self.head(x.mean(1))


IMAGE_KINDS = ["conv", "residual", "concat", "dense", "split", "grouped", "shuffle", "squeeze", "gate"]
TOKEN_KINDS = ["mlp", "gated_mlp", "attention", "grouped_query", "multihead", "recurrent"]


def blocks(kinds: list[str]) -> st.SearchStrategy[Block]:
    return st.builds(
        Block, st.sampled_from(kinds), st.integers(1, 3), st.integers(0, 3), st.sampled_from(sorted(ACTIVATIONS))
    )


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Block], list[Block], str]:
    images = draw(st.lists(blocks(IMAGE_KINDS), max_size=4))
    flatten = draw(st.sampled_from(["flat", "pool", "tokens"]))
    tokens = draw(st.lists(blocks(TOKEN_KINDS), min_size=1, max_size=3)) if flatten == "tokens" else []
    return images, tokens, flatten
