"""Attention: the stock layer, and what people write by hand. Heads, head dims and the residual width are three axes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn

# ---------------------------------------------------------------- nn.MultiheadAttention


class stock_self_attention(nn.Module):
    """Attention weights are computed, as by default, and thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.attend = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        out, _ = self.attend(x, x, x)
        return self.head(x + out)


class stock_without_weights(stock_self_attention):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + self.attend(x, x, x, need_weights=False)[0])


class stock_returned_weights(stock_self_attention):
    """The mean over heads is an output, so a missing head is noticed."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x)
        out, weights = self.attend(x, x, x)
        return self.head(x + out), weights


class stock_weights_per_head(stock_self_attention):
    """The heads themselves are an output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x)
        out, weights = self.attend(x, x, x, average_attn_weights=False)
        return self.head(x + out), weights


class stock_cross_attention(nn.Module):
    """kdim, vdim: three widths besides heads and head dims."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(6, 12)
        self.k = nn.Linear(6, 10)
        self.v = nn.Linear(6, 8)
        self.attend = nn.MultiheadAttention(12, 3, kdim=10, vdim=8, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.q(x)
        out, _ = self.attend(q, self.k(context).relu(), self.v(context).relu(), need_weights=False)
        return self.head(q + out)


class stock_with_bias_kv(nn.Module):
    """Sequence first, learned and zero keys appended, a causal mask and a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.attend = nn.MultiheadAttention(12, 3, add_bias_kv=True, add_zero_attn=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)  # (tokens, batch, width)
        causal = torch.ones(x.shape[0], x.shape[0]).triu(1).bool()
        padding = torch.zeros(x.shape[1], x.shape[0], dtype=torch.bool)
        out, _ = self.attend(x, x, x, key_padding_mask=padding, attn_mask=causal, need_weights=False)
        return self.head(x + out)


class stock_encoder(nn.Module):
    """Its fast path, in C++, must stay away from what was pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        layer = nn.TransformerEncoderLayer(12, 3, dim_feedforward=16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)))


class stock_decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.memory = nn.Linear(6, 12)
        self.layer = nn.TransformerDecoderLayer(12, 3, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.layer(self.embed(x), self.memory(memory), tgt_mask=mask, tgt_is_causal=True))


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
        shape = x.size()[:-1] + (self.nf,)
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


class Grouped(nn.Module):
    """Key-value heads that serve `n_rep` query heads each."""

    def __init__(self, kv_heads: int = 2, n_rep: int = 4, head_dim: int = 6) -> None:
        super().__init__()
        self.kv_heads, self.n_rep, self.head_dim = kv_heads, n_rep, head_dim
        self.num_heads = kv_heads * n_rep
        self.embed = nn.Linear(6, 10)
        self.q_proj = nn.Linear(10, self.num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(10, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(10, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(self.num_heads * head_dim, 10, bias=False)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q = self.turned(self.q_proj(x).view(b, n, self.num_heads, self.head_dim).transpose(1, 2))
        k = self.turned(self.k_proj(x).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2))
        v = self.v_proj(x).view(b, n, self.kv_heads, self.head_dim).transpose(1, 2)
        out = self.attended(q, k, v).transpose(1, 2).reshape(b, n, -1)
        return self.head(x + self.o_proj(out))

    def turned(self, x: Tensor) -> Tensor:
        return x

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = self.repeated(k), self.repeated(v)
        return (q @ k.mT * 0.4).softmax(-1) @ v

    def repeated(self, x: Tensor) -> Tensor:
        if self.n_rep == 1:
            return x
        b, heads, n, d = x.shape
        return x[:, :, None].expand(b, heads, self.n_rep, n, d).reshape(b, heads * self.n_rep, n, d)


class grouped_1(Grouped):
    def __init__(self) -> None:
        super().__init__(n_rep=1)


class grouped_2(Grouped):
    def __init__(self) -> None:
        super().__init__(n_rep=2)


class grouped_4(Grouped):
    pass


class grouped_7(Grouped):
    def __init__(self) -> None:
        super().__init__(n_rep=7, head_dim=2)


class grouped_8(Grouped):
    def __init__(self) -> None:
        super().__init__(n_rep=8, head_dim=2)


class one_kv_head(Grouped):
    def __init__(self) -> None:
        super().__init__(kv_heads=1)


class grouped_by_interleave(Grouped):
    def repeated(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.n_rep, dim=1)


class grouped_by_torch(Grouped):
    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=0.4, enable_gqa=True)


class rotary(Grouped):
    """cos and sin of the same angles for both halves: dims go in pairs, the same ones in every head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 0.5 ** torch.arange(3.0))

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[2])[:, None] * self.inv_freq
        angles = torch.cat([angles, angles], -1)
        half = x.shape[-1] // 2
        rotated = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * angles.cos() + rotated * angles.sin()


class rotary_interleaved(rotary):
    """Pairs next to each other, read by strided slices; v's dims are frozen too, by the attribute they share."""

    def turned(self, x: Tensor) -> Tensor:
        angles = (torch.arange(x.shape[2])[:, None] * self.inv_freq).repeat_interleave(2, dim=-1)
        rotated = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        return x * angles.cos() + rotated * angles.sin()


class rotary_complex(rotary):
    """Pairs as complex numbers."""

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[2])[:, None] * self.inv_freq
        turn = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turn).flatten(3)


class query_key_norms(Grouped):
    """RMS norms over head dims, one weight for all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(self.head_dim, eps=1e-6)

    def turned(self, x: Tensor) -> Tensor:
        return self.norm(x)


class query_key_layer_norms(Grouped):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(self.head_dim)

    def turned(self, x: Tensor) -> Tensor:
        return self.norm(x)


class alibi(Grouped):
    """A slope per head, kept in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slopes", 0.5 ** torch.arange(8.0))

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        place = torch.arange(q.shape[2])
        bias = self.slopes[:, None, None] * (place[None, :] - place[:, None]).abs()
        return (q @ self.repeated(k).mT * 0.4 - bias).softmax(-1) @ self.repeated(v)


class relative_positions(Grouped):
    """A table [distances, heads] looked up by an index buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 8))
        self.register_buffer("distances", torch.arange(5)[None, :] - torch.arange(5)[:, None] + 4)

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = self.table[self.distances.view(-1)].view(5, 5, -1).permute(2, 0, 1).contiguous()
        return (q @ self.repeated(k).mT * 0.4 + bias.unsqueeze(0)).softmax(-1) @ self.repeated(v)


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


_tokens = images(2, 5, 6)
_pair = lambda: (torch.randn(2, 5, 6), torch.randn(2, 4, 6))  # noqa: E731  (a maker, as `images` gives them)

_stock = (
    Units("embed:0 attend.in_proj_weight:1 attend.out_proj:0 head:1", 12),
    Units("attend.in_proj_weight:0 attend.out_proj:1", 3),
    Units("attend.in_proj_weight:0 attend.out_proj:1", 4, lanes=3),
)


def _encoder_layer(name: str) -> tuple[Units, ...]:
    return (
        Units(f"{name}.self_attn.in_proj_weight:0 {name}.self_attn.out_proj:1", 3),
        Units(f"{name}.self_attn.in_proj_weight:0 {name}.self_attn.out_proj:1", 4, lanes=3),
        Units(f"{name}.linear1:0 {name}.linear2:1", 16),
    )


def _grouped(n_rep: int, d: int = 6, kv: int = 2) -> tuple[Units, ...]:
    heads = [Units("q_proj:0 k_proj:0 v_proj:0 o_proj:1", kv)] if kv > 1 else []
    if n_rep > 1:
        heads.append(Units("q_proj:0 o_proj:1", n_rep, lanes=kv))
    return (
        Units("embed:0 q_proj:1 k_proj:1 v_proj:1 o_proj:0 head:1", 10),
        *heads,
        Units("q_proj:0 k_proj:0", d, lanes=kv),
        Units("v_proj:0 o_proj:1", d, lanes=kv),
    )


CASES = (
    Case(stock_self_attention, _tokens, _stock),
    Case(stock_without_weights, _tokens, _stock),
    Case(
        stock_returned_weights,
        _tokens,
        (_stock[0], Units(_stock[1].members, 3, reason="averaged over heads", line="self.attend(x, x, x)"), _stock[2]),
    ),
    Case(stock_weights_per_head, _tokens, (_stock[0], _stock[2]), (Frozen("attend.in_proj_weight:0", "output", ""),)),
    Case(
        stock_cross_attention,
        _pair,
        (
            Units("q:0 attend.q_proj_weight:1 attend.out_proj:0 head:1", 12),
            Units("k:0 attend.k_proj_weight:1", 10),
            Units("v:0 attend.v_proj_weight:1", 8),
            Units("attend.q_proj_weight:0 attend.k_proj_weight:0 attend.v_proj_weight:0 attend.out_proj:1", 3),
            Units("attend.q_proj_weight:0 attend.k_proj_weight:0 attend.v_proj_weight:0 attend.out_proj:1", 4, lanes=3),
        ),
    ),
    Case(
        stock_with_bias_kv,
        images(5, 2, 6),
        (
            _stock[0],
            Units("attend.in_proj_weight:0 attend.bias_k:2 attend.bias_v:2 attend.out_proj:1", 3),
            Units("attend.in_proj_weight:0 attend.bias_k:2 attend.bias_v:2 attend.out_proj:1", 4, lanes=3),
        ),
    ),
    Case(
        stock_encoder,
        _tokens,
        (
            Units("embed:0 encoder.layers.1.linear2:0 head:1", 12, reason="layer norm", line="self.encoder("),
            *_encoder_layer("encoder.layers.0"),
            *_encoder_layer("encoder.layers.1"),
        ),
    ),
    Case(
        stock_decoder,
        _pair,
        (
            Units("embed:0 memory:0 layer.linear2:0 head:1", 12, reason="layer norm", line="self.layer("),
            *_encoder_layer("layer"),
            Units("layer.multihead_attn.in_proj_weight:0 layer.multihead_attn.out_proj:1", 3),
            Units("layer.multihead_attn.in_proj_weight:0 layer.multihead_attn.out_proj:1", 4, lanes=3),
        ),
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
    Case(grouped_1, _tokens, _grouped(1)),
    # Its second query head cannot go: `self.n_rep == 1` would take the other branch.
    Case(grouped_2, _tokens, (*_grouped(2)[:2], replace(_grouped(2)[2], guarded=True), *_grouped(2)[3:])),
    Case(grouped_4, _tokens, _grouped(4)),
    Case(grouped_7, _tokens, _grouped(7, 2)),
    Case(grouped_8, _tokens, _grouped(8, 2)),
    Case(one_kv_head, _tokens, _grouped(4, kv=1)),
    Case(grouped_by_interleave, _tokens, _grouped(4)),
    Case(grouped_by_torch, _tokens, _grouped(4)),
    Case(
        rotary,
        _tokens,
        (
            *_grouped(4)[:3],
            Units("q_proj:0 k_proj:0 inv_freq:0", 3),
            Units("v_proj:0 o_proj:1", 6, lanes=2),
        ),
    ),
    Case(
        rotary_interleaved,
        _tokens,
        _grouped(4)[:3],
        (
            Frozen("q_proj:0", "strided slice", "x[..., 1::2]"),
            Frozen("v_proj:0", "the code needs", "self.v_proj(x).view("),
        ),
    ),
    Case(
        rotary_complex,
        _tokens,
        (
            *_grouped(4)[:3],
            Units("q_proj:0 k_proj:0 inv_freq:0", 3),
            Units("v_proj:0 o_proj:1", 6, lanes=2),
        ),
    ),
    Case(
        query_key_norms,
        _tokens,
        (
            *_grouped(4)[:3],
            Units("q_proj:0 k_proj:0 norm:0", 6, reason="rms norm", line="self.norm(x)"),
            Units("v_proj:0 o_proj:1", 6, lanes=2),
        ),
    ),
    Case(
        query_key_layer_norms,
        _tokens,
        (
            *_grouped(4)[:3],
            Units("q_proj:0 k_proj:0 norm:0", 6, reason="layer norm", line="self.norm(x)"),
            Units("v_proj:0 o_proj:1", 6, lanes=2),
        ),
    ),
    Case(alibi, _tokens, (*_grouped(4), )),
    Case(relative_positions, _tokens, (*_grouped(4), )),
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
