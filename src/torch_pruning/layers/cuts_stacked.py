"""What layers of several projections lose: attention and recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torch_pruning.errors import PositionError
from torch_pruning.layers.cut import LayerCut, Shrinker, along
from torch_pruning.layers.cuts import require_kind
from torch_pruning.planning.tensors import Positions, kept_positions, shrink


def cut_multihead_attention(layer: nn.MultiheadAttention, idxs: Positions) -> LayerCut:
    """Positions of the width of an attention layer: of its inputs, of q, k and v, and of its output.

    in_proj_weight `[3*E, E]`, out_proj.weight `[E, E]`. The heads stay, so what is left must be a multiple of them.
    """
    require_kind(layer, nn.MultiheadAttention)
    kept = kept_positions(layer.embed_dim, idxs, layer)
    if layer.in_proj_weight is None or not isinstance(layer.in_proj_weight, nn.Parameter):
        raise TypeError(
            f"the layer must have one width for query, key and value; found separate ones in {layer!r}: "
            "prune it through the dependency graph"
        )
    if len(kept) % layer.num_heads:
        raise PositionError(
            f"what is left must be a multiple of the {layer.num_heads} heads; found {len(kept)} of {layer.embed_dim} "
            f"positions left in {layer!r}: remove more or fewer, or prune it through the dependency graph"
        )
    stacked = torch.cat([kept + part * layer.embed_dim for part in range(3)])
    width = len(kept)
    return LayerCut(
        {
            "in_proj_weight": _both(stacked, kept),
            "in_proj_bias": along(0, stacked),
            "bias_k": along(2, kept),
            "bias_v": along(2, kept),
            "out_proj.weight": _both(kept, kept),
            "out_proj.bias": along(0, kept),
        },
        {
            "embed_dim": width,
            "kdim": width,
            "vdim": width,
            "head_dim": width // layer.num_heads,
            "out_proj.in_features": width,
            "out_proj.out_features": width,
        },
    )


def cut_recurrent_states(layer: nn.RNNBase, idxs: Positions) -> LayerCut:
    """Units of the state, the same in every layer and direction of the stack; with a projection those of its output.

    weight_ih `[gates*H, inputs]`, weight_hh `[gates*H, outputs]`, biases `[gates*H]`, weight_hr `[outputs, H]`.
    """
    require_kind(layer, nn.RNNBase)
    projected = bool(layer.proj_size)
    width = int(layer.proj_size) if projected else int(layer.hidden_size)
    kept = kept_positions(width, idxs, layer)
    hidden = int(layer.hidden_size)
    gates = layer.get_parameter("weight_ih_l0").shape[0] // hidden
    rows = torch.cat([kept + gate * width for gate in range(gates)])
    directions = 2 if layer.bidirectional else 1
    below = torch.cat([kept + direction * width for direction in range(directions)])
    shrinkers: dict[str, Shrinker] = {}
    for suffix, is_first in _stack(layer):
        stays = torch.arange(gates * hidden) if projected else rows
        shrinkers[f"weight_ih{suffix}"] = along(0, stays) if is_first else _both(stays, below)
        shrinkers[f"weight_hh{suffix}"] = _both(stays, kept)
        if layer.bias:
            shrinkers |= {f"bias_ih{suffix}": along(0, stays), f"bias_hh{suffix}": along(0, stays)}
        if projected:
            shrinkers[f"weight_hr{suffix}"] = along(0, kept)
    return LayerCut(shrinkers, {"proj_size" if projected else "hidden_size": len(kept)})


def cut_recurrent_inputs(layer: nn.RNNBase, idxs: Positions) -> LayerCut:
    """Input features of the first layer of the stack, weight_ih_l0 `[gates*H, inputs]`."""
    require_kind(layer, nn.RNNBase)
    kept = kept_positions(layer.input_size, idxs, layer)
    names = [f"weight_ih{suffix}" for suffix, is_first in _stack(layer) if is_first]
    return LayerCut(dict.fromkeys(names, along(1, kept)), {"input_size": len(kept)})


def _stack(layer: nn.RNNBase) -> Iterator[tuple[str, bool]]:
    """(suffix of the parameters' names, is it the first layer) of every layer and direction."""
    for number in range(layer.num_layers):
        for reverse in ("", "_reverse") if layer.bidirectional else ("",):
            yield f"_l{number}{reverse}", number == 0


def _both(rows: Tensor, columns: Tensor) -> Shrinker:
    def cut(tensor: Tensor) -> Tensor:
        return shrink(tensor, {0: rows, 1: columns})

    return cut
