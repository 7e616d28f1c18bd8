"""Attention with fewer key-value heads than query heads; rotary, biased, normalised queries and keys."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from drive import Case, Units, images
from torch import Tensor, nn


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
    """Pairs next to each other, read by strided slices."""

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


_tokens = images(2, 5, 6)


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
        (
            *_grouped(4)[:3],
            Units("q_proj:0 k_proj:0 inv_freq:0", 3),
            Units("v_proj:0 o_proj:1", 6, lanes=2),
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
    Case(alibi, _tokens, (*_grouped(4),)),
    Case(relative_positions, _tokens, (*_grouped(4),)),
)
