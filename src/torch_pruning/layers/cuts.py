"""What each kind of layer loses when positions of one of its widths are removed: one function per kind and side."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from torch_pruning.errors import PositionError
from torch_pruning.layers.cut import LayerCut, Shrinker, along
from torch_pruning.planning.tensors import Positions, kept_positions, shrink_blocks


def cut_conv_outputs(layer: _ConvNd, idxs: Positions) -> LayerCut:
    """Output channels of a convolution; equally many from each group.

    weight `[out, in/groups, *kernel]`, transposed `[in, out/groups, *kernel]`; bias `[out]`.
    """
    require_kind(layer, _ConvNd)
    kept = kept_positions(layer.out_channels, idxs, layer)
    kept_by_group = _equal_groups(kept, layer.out_channels, layer)
    weight = _per_group(kept_by_group) if layer.transposed else along(0, kept)
    return LayerCut({"weight": weight, "bias": along(0, kept)}, {"out_channels": len(kept)})


def cut_conv_inputs(layer: _ConvNd, idxs: Positions) -> LayerCut:
    """Input channels of a convolution; equally many from each group, as dim 1 of the weight counts within a group.

    weight `[out, in/groups, *kernel]`, transposed `[in, out/groups, *kernel]`.
    """
    require_kind(layer, _ConvNd)
    kept = kept_positions(layer.in_channels, idxs, layer)
    kept_by_group = _equal_groups(kept, layer.in_channels, layer)
    weight = along(0, kept) if layer.transposed else _per_group(kept_by_group)
    return LayerCut({"weight": weight}, {"in_channels": len(kept)})


def cut_conv_groups(layer: _ConvNd, idxs: Positions) -> LayerCut:
    """Whole groups of a convolution, given by their output channels: the outputs, the inputs and the groups go.

    weight `[out, in/groups, *kernel]`, transposed `[in, out/groups, *kernel]`; bias `[out]`.
    """
    require_kind(layer, _ConvNd)
    kept = kept_positions(layer.out_channels, idxs, layer)
    kept_groups = _whole_groups(kept, layer.out_channels, layer.groups)
    if kept_groups is None:
        raise PositionError(_parts_of_groups(kept, layer.out_channels, layer.groups, layer))
    inputs_per_group = layer.in_channels // layer.groups
    kept_inputs = (kept_groups[:, None] * inputs_per_group + torch.arange(inputs_per_group)).flatten()
    return LayerCut(
        {"weight": along(0, kept_inputs if layer.transposed else kept), "bias": along(0, kept)},
        {"out_channels": len(kept), "in_channels": len(kept_inputs), "groups": len(kept_groups)},
    )


def cut_linear_outputs(layer: nn.Linear, idxs: Positions) -> LayerCut:
    """Output features of a linear layer: weight `[out, in]`, bias `[out]`."""
    require_kind(layer, nn.Linear)
    kept = kept_positions(layer.out_features, idxs, layer)
    return LayerCut({"weight": along(0, kept), "bias": along(0, kept)}, {"out_features": len(kept)})


def cut_linear_inputs(layer: nn.Linear, idxs: Positions) -> LayerCut:
    """Input features of a linear layer: weight `[out, in]`."""
    require_kind(layer, nn.Linear)
    kept = kept_positions(layer.in_features, idxs, layer)
    return LayerCut({"weight": along(1, kept)}, {"in_features": len(kept)})


def cut_channel_norm(layer: _BatchNorm | _InstanceNorm, idxs: Positions) -> LayerCut:
    """Channels of a batch or instance norm: weight, bias and running statistics `[channels]`, where it has them."""
    require_kind(layer, _BatchNorm, _InstanceNorm)
    kept = kept_positions(layer.num_features, idxs, layer)
    names = ("weight", "bias", "running_mean", "running_var")
    return LayerCut(dict.fromkeys(names, along(0, kept)), {"num_features": len(kept)})


def cut_group_norm(layer: nn.GroupNorm, idxs: Positions) -> LayerCut:
    """Channels of a group norm: equally many from each group (smaller groups), or whole groups (fewer groups)."""
    require_kind(layer, nn.GroupNorm)
    kept = kept_positions(layer.num_channels, idxs, layer)
    num_groups = layer.num_groups
    if _by_group(kept, layer.num_channels, num_groups) is None:
        kept_groups = _whole_groups(kept, layer.num_channels, num_groups)
        if kept_groups is None:
            remedy = _parts_of_groups(kept, layer.num_channels, num_groups, layer)
            raise PositionError(f"{remedy}, or take equally many from each group")
        num_groups = len(kept_groups)
    shrinkers = dict.fromkeys(("weight", "bias"), along(0, kept))
    return LayerCut(shrinkers, {"num_channels": len(kept), "num_groups": num_groups})


def cut_layer_norm(layer: nn.LayerNorm | nn.RMSNorm, idxs: Positions) -> LayerCut:
    """Positions of the last dimension of a layer or RMS norm: weight and bias `normalized_shape`."""
    require_kind(layer, nn.LayerNorm, nn.RMSNorm)
    *outer, size = layer.normalized_shape
    kept = kept_positions(size, idxs, layer)
    names = ("weight", "bias") if isinstance(layer, nn.LayerNorm) else ("weight",)
    shrinkers = dict.fromkeys(names, along(len(outer), kept))
    return LayerCut(shrinkers, {"normalized_shape": (*outer, len(kept))})


def cut_prelu(layer: nn.PReLU, idxs: Positions) -> LayerCut:
    """Channels of a PReLU, weight `[channels]`; nothing where one weight is shared by all channels."""
    require_kind(layer, nn.PReLU)
    if layer.num_parameters == 1:
        return LayerCut({}, {})
    kept = kept_positions(layer.num_parameters, idxs, layer)
    return LayerCut({"weight": along(0, kept)}, {"num_parameters": len(kept)})


def cut_embedding(layer: nn.Embedding | nn.EmbeddingBag, idxs: Positions) -> LayerCut:
    """Dimensions of an embedding, weight `[vocabulary, embedding_dim]`; the vocabulary stays."""
    require_kind(layer, nn.Embedding, nn.EmbeddingBag)
    kept = kept_positions(layer.embedding_dim, idxs, layer)
    return LayerCut({"weight": along(1, kept)}, {"embedding_dim": len(kept)})


def require_kind(layer: nn.Module, *kinds: type[nn.Module]) -> None:
    """Raises: `TypeError` unless the layer is of one of the kinds."""
    if not isinstance(layer, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"this function prunes a {names}; found a {type(layer).__name__}: {layer!r}: "
            "use the function of that kind of layer"
        )


def _per_group(kept_by_group: Tensor) -> Shrinker:
    """The shrinker of a weight whose dim 1 counts within the group that dim 0 says."""
    return partial(shrink_blocks, lane_dim=0, dim=1, kept=kept_by_group)


def _equal_groups(kept: Tensor, size: int, layer: _ConvNd) -> Tensor:
    """Kept positions `[groups, k]`, counted within each group."""
    kept_by_group = _by_group(kept, size, layer.groups)
    if kept_by_group is None:
        removed = size // layer.groups - torch.bincount(kept // (size // layer.groups), minlength=layer.groups)
        raise PositionError(
            f"each of the {layer.groups} groups of {size // layer.groups} channels must lose equally many; "
            f"found {removed.tolist()} removed per group in {layer!r}: choose as many from each, "
            "or whole groups with prune_group_conv"
        )
    return kept_by_group


def _by_group(kept: Tensor, size: int, groups: int) -> Tensor | None:
    """Kept positions `[groups, k]`, counted within each group; None where the groups keep unequally many."""
    per_group = size // groups
    if (torch.bincount(kept // per_group, minlength=groups) * groups != len(kept)).any():
        return None
    return (kept % per_group).view(groups, -1)


def _whole_groups(kept: Tensor, size: int, groups: int) -> Tensor | None:
    """The numbers of the groups that stay; None where a group keeps a part of its positions."""
    counts = torch.bincount(kept // (size // groups), minlength=groups)
    if ((counts != 0) & (counts != size // groups)).any():
        return None
    return counts.nonzero().flatten()


def _parts_of_groups(kept: Tensor, size: int, groups: int, layer: nn.Module) -> str:
    """The message for positions that take a part of a group; it lists the sets that could go."""
    per_group = size // groups
    if groups == 1:
        return (
            f"positions must make up whole groups; found a single group of {size} channels in {layer!r}: "
            "there is no group to spare, remove channels within it"
        )
    removed = sorted(set(range(size)) - set(kept.tolist()))
    touched = sorted({position // per_group for position in removed})
    sets = " ".join(str(list(range(group * per_group, (group + 1) * per_group))) for group in touched[:4])
    return (
        f"positions must make up whole groups of {per_group} channels; found {removed} in {layer!r}: "
        f"remove any of {sets}{' ...' if len(touched) > 4 else ''} as a whole"
    )
