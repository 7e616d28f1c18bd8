"""Attention as people write it by hand. Heads, head dims and the residual width are three axes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn

# ---------------------------------------------------------------- nn.MultiheadAttention


# ---------------------------------------------------------------- by hand


class fused_qkv(nn.Module):
    """One layer for q, k, v; a scale that is a number; the width read back from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.scale = 4**-0.5
        self.embed = nn.Linear(6, 12)
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        out = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1) @ v
        return self.head(x + self.proj(out.transpose(1, 2).reshape(b, n, c)))


class fused_qkv_own_width(fused_qkv):
    """Sizes by attributes of their own, -1 at the end: heads, head dims and width are free of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1) @ v
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class default_scale(fused_qkv_own_width):
    """The scale follows from the number of head dims that are left."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class scale_by_attribute(fused_qkv_own_width):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = (q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)).softmax(-1) @ v
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class scale_by_shape(fused_qkv_own_width):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class width_by_literal(fused_qkv_own_width):
    """The head dim as a literal: it cannot change, the heads can."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, -1, 4).permute(2, 0, 3, 1, 4).unbind(0)
        out = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1) @ v
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class linear_attention(fused_qkv_own_width):
    """elu + 1 of a removed dim is 1, not 0: it stays in the sum over head dims."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        out = q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(2).unsqueeze(-1))
        return self.head(x + self.proj(out.transpose(1, 2).flatten(2)))


class talking_heads(fused_qkv_own_width):
    """Scores of all heads are mixed before the softmax; by then no head dim is left in them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        scores = self.mix((q @ k.transpose(-2, -1) * self.scale).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))


class Projection1d(nn.Module):
    """A linear layer with its weight the other way round: [in, out]."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.nf = n_out
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * n_in**-0.5)
        self.bias = nn.Parameter(torch.randn(n_out) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.size()[:-1] + (self.nf,)  # noqa: RUF005  (as the models have it)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class fused_by_split(nn.Module):
    """q, k, v by `split` of a flat width, heads by views of their own: q and k have head dims that v does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.embed = nn.Linear(6, 12)
        self.c_attn = Projection1d(12, 36)
        self.c_proj = Projection1d(12, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.c_attn(x).chunk(3, dim=2)
        q, k, v = (t.view(*t.shape[:2], self.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        out = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        return self.head(x + self.c_proj(out.transpose(1, 2).reshape(*x.shape[:2], -1)))


# ---------------------------------------------------------------- grouped queries


class extra_tokens(nn.Module):
    """Class and distillation tokens, position embeddings, the two tokens read back by number."""

    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.distill = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 6, 8))
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.mlp = nn.Linear(8, 12)
        self.back = nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)
        self.head_distill = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x).flatten(2).transpose(1, 2)
        b = x.shape[0]
        x = torch.cat([self.cls.expand(b, -1, -1), self.distill.expand(b, -1, -1), x], dim=1) + self.positions
        x = x + self.back(F.gelu(self.mlp(x)))
        x = x + x.softmax(1)
        return self.head(x[:, 0]), self.head_distill(x[:, 1])


class shifted_windows(nn.Module):
    """Rolled over pixels, cut into windows, attended within a window, put back. Channels pass."""

    def __init__(self) -> None:
        super().__init__()
        self.window, self.shift, self.num_heads = 2, 1, 2
        self.embed = nn.Linear(3, 8)
        self.qkv = nn.Linear(8, 24)
        self.table = nn.Parameter(torch.randn(4, 4, 2))
        self.proj = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, h, w, c = x.shape
        s = self.window
        shifted = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        windows = shifted.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        qkv = self.qkv(windows).reshape(windows.size(0), windows.size(1), 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * 0.5 + self.table.permute(2, 0, 1).unsqueeze(0)
        out = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(windows.shape))
        out = out.view(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.head(x + torch.roll(out, (self.shift, self.shift), (1, 2)))


class gates_of_heads(nn.Module):
    """A square weight for each head, from its units to the same units: they are those of all heads alike."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 3, 4
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 5)
        self.weight = nn.Parameter(torch.randn(3, 4, 4))
        self.bias = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, 6)
        x = self.a(x)
        heads = x.reshape(-1, self.heads, self.width).transpose(0, 1)
        gates = torch.baddbmm(self.bias[:, None], heads, self.weight).sigmoid()
        return self.b(x * gates.transpose(0, 1).reshape(x.shape))


class maps_of_heads(nn.Module):
    """A weight for each head, from its units to others."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 3, 4
        self.a, self.b = nn.Linear(6, 12), nn.Linear(15, 5)
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, 6)
        heads = self.a(x).view(x.shape[0], x.shape[1], self.heads, self.width)
        return self.b(torch.einsum("bthd,hde->bthe", heads, self.weight).flatten(2))


_tokens = images(2, 5, 6)


CASES = (
    Case(gates_of_heads, _tokens, (Units("a:0 weight:0 bias:0 b:1", 3), Units("a:0 weight:1 weight:2 bias:1 b:1", 4))),
    Case(
        maps_of_heads,
        _tokens,
        (Units("a:0 weight:0 b:1", 3), Units("a:0 weight:1", 4, lanes=3), Units("weight:2 b:1", 5)),
    ),
    Case(
        fused_qkv,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3, held=True),
            Units("qkv:0 proj:1", 4, lanes=3),
        ),
    ),
    Case(
        fused_qkv_own_width,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3),
            Units("qkv:0 proj:1", 4, lanes=3),
        ),
    ),
    Case(
        default_scale,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3),
            Units("qkv:0 proj:1", 4, 3, "default scale of attention", "F.scaled_dot_product_attention(q, k, v)"),
        ),
    ),
    Case(
        scale_by_attribute,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3),
            Units("qkv:0 proj:1", 4, 3, "its size is used as a number", "math.sqrt(self.head_dim)"),
        ),
    ),
    Case(
        scale_by_shape,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3),
            Units("qkv:0 proj:1", 4, 3, "its size is used as a number", "q.shape[-1] ** -0.5"),
        ),
    ),
    Case(
        width_by_literal,
        _tokens,
        (Units("embed:0 qkv:1 proj:0 head:1", 12), Units("qkv:0 proj:1", 3)),
        (Frozen("qkv:0", "literal 4", "reshape(b, n, 3, -1, 4)"),),
    ),
    Case(
        linear_attention,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 proj:1", 3),
            Units("qkv:0 proj:1", 4, 3, "contraction", "out = q @ (k"),
        ),
    ),
    Case(
        talking_heads,
        _tokens,
        (
            Units("embed:0 qkv:1 proj:0 head:1", 12),
            Units("qkv:0 mix:0 mix:1 proj:1", 3),
            Units("qkv:0 proj:1", 4, lanes=3),
        ),
    ),
    Case(
        fused_by_split,
        _tokens,
        (
            Units("embed:0 c_attn:0 c_proj:1 head:1", 12),
            Units("c_attn:1 c_proj:0", 3),
            Units("c_attn:1", 4, lanes=3),
            Units("c_attn:1 c_proj:0", 4, lanes=3),
        ),
    ),
    Case(
        extra_tokens,
        images(2, 3, 4, 4),
        (
            Units("cls:2 distill:2 positions:2 embed:0 mlp:1 back:0 head:1 head_distill:1", 8),
            Units("mlp:0 back:1", 12),
        ),
    ),
    Case(
        shifted_windows,
        images(2, 4, 4, 3),
        (
            Units("embed:0 qkv:1 proj:0 head:1", 8),
            Units("qkv:0 table:2 proj:1", 2, held=True),
            Units("qkv:0 proj:1", 4, lanes=2),
        ),
    ),
)
