"""nn.MultiheadAttention and the layers around it: heads, head dims and the residual width are three axes."""

from __future__ import annotations

import torch
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


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
)
