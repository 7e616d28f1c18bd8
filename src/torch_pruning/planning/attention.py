"""A multi-head attention whose heads and head dims are independent of its input width.

`nn.MultiheadAttention` insists on width = heads x head dim, which mathematics does not. Surgery changes the class of a
stock layer to this one: the same object, parameter names and numbers, with `num_heads`, `head_dim`, `scale` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_pruning.trace.substitute import Dictionaries


class FreeMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with q, k, v of heads x head_dim features each, whatever `embed_dim` is.

    `in_proj_weight` is [3 * heads * head_dim, embed_dim] (or q, k, v separately), `out_proj.weight`
    [embed_dim, heads * head_dim]. `scale` multiplies the scores; it stays what it was before pruning.
    """

    scale: float

    @classmethod
    def convert(cls, layer: nn.MultiheadAttention) -> Callable[[], None]:
        """Turn a stock layer into this class, in place, and give what takes that back. Numbers do not change.

        Raises:
            TypeError: for a layer of another class, whose `forward` may do anything.
        """
        if type(layer) is not nn.MultiheadAttention:
            raise TypeError(f"only nn.MultiheadAttention itself can be converted, found {type(layer).__name__}")
        before = Dictionaries()
        before.save(layer.__dict__)

        def undo() -> None:
            layer.__class__ = nn.MultiheadAttention
            before.restore()

        layer.scale = float(layer.head_dim) ** -0.5
        layer.__class__ = cls
        # Keeps the fused path of nn.TransformerEncoderLayer away, which assumes the stock sizes.
        layer._qkv_same_embed_dim = False
        return undo

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`: [T, B, E] or, with `batch_first`, [B, T, E]; unbatched [T, E].

        Raises:
            RuntimeError: for `is_causal` without a mask, as the stock layer does.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal needs attn_mask as well, as in nn.MultiheadAttention")
        if query.is_nested:
            return self._nested(query, attn_mask), None
        batched = query.dim() == 3
        same = query is key and key is value
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        q, k, v = self._projected(*([query] * 3 if same else (query, key, value)))  # (batch, heads, tokens, head_dim)
        # The stock layer, too, takes the mask at its word that it is causal, where it can.
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(q, k, attn_mask, key_padding_mask, batched)
        attended, weights = self._attend(q, k, v, mask, causal, need_weights)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))  # (batch, tokens, embed_dim)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=self.scale), None
        scores = torch.matmul(q * self.scale, k.transpose(-2, -1))
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        weights = F.dropout(weights, dropout, self.training)  # (batch, heads, tokens, keys)
        return torch.matmul(weights, v), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        q, k, v = self._products(query, key, value)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(k.shape[0], -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(v.shape[0], -1, -1)], dim=1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return [x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v)]

    def _products(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        width = self.num_heads * self.head_dim
        if self.in_proj_weight is None:
            weights: Sequence[Tensor] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).split(width, -1)
        else:
            weights = self.in_proj_weight.split(width)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.split(width)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, padding: Tensor | None, batched: bool
    ) -> Tensor | None:
        """Both masks as one additive mask that broadcasts to (batch, heads, tokens, keys)."""
        mask: Tensor | None = None
        if attn_mask is not None:
            mask = _additive(attn_mask, q)
            if mask.dim() == 3:  # one row of masks per batch entry and head
                mask = mask.unflatten(0, (-1, self.num_heads))
        if padding is not None:
            rows = _additive(padding, q) if batched else _additive(padding, q).unsqueeze(0)
            rows = rows[:, None, None, :]
            mask = rows if mask is None else mask + rows
        if mask is not None and mask.shape[-1] < k.shape[-2]:  # bias_k and the zero key are always attended to
            mask = F.pad(mask, (0, k.shape[-2] - mask.shape[-1]))
        return mask

    def _nested(self, x: Tensor, attn_mask: Tensor | None) -> Tensor:
        """Self-attention of sequences of several lengths, as `nn.TransformerEncoder` packs padded ones."""
        lengths = [sequence.shape[0] for sequence in x.unbind()]
        padded = x.to_padded_tensor(0.0)  # (batch, tokens, embed_dim)
        tokens = padded.shape[1]
        beyond = torch.arange(tokens, device=padded.device) >= torch.tensor(lengths, device=padded.device)[:, None]
        if attn_mask is not None:
            attn_mask = attn_mask[..., :tokens, :tokens]
        q, k, v = self._projected(padded, padded, padded)
        mask = self._mask(q, k, attn_mask, beyond, batched=True)
        attended, _ = self._attend(q, k, v, mask, False, need_weights=False)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        return torch.nested.as_nested_tensor([row[:length] for row, length in zip(out, lengths, strict=True)])


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
    return mask.to(like.dtype)
