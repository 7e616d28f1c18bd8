"""Which width of a layer a pruning function means: dimensions of its tensors, and all its positions as one axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from torch_pruning import layers
from torch_pruning.axes.expression import Axis, Fixed, Reason, product
from torch_pruning.axes.unify import split_product

PruningFunction = Callable[..., Any]
_Dims = Callable[[Any], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Side:
    """One width of a kind of layer: the function that prunes it, and on which dimension of which tensor it lies.

    `dims(layer)` maps attribute to dimension; the first attribute the layer has is the one positions are counted on.
    """

    kinds: tuple[type[nn.Module], ...]
    function: PruningFunction
    dims: _Dims


def only_in_a_plan(name: str) -> PruningFunction:
    """A function of this name for layers that cannot be pruned one at a time: calling it raises `TypeError`."""

    def refuse(layer: Any, idxs: Any, inplace: bool = True, dry_run: bool = False) -> Any:
        raise TypeError(
            f"{name} is a step of a plan, not a function of one layer: carry out the whole plan with exec()"
        )

    refuse.__name__ = name
    return refuse


@cache
def operator_step(name: str) -> PruningFunction:
    """The step of an operator without parameters, under the operator's name: nothing is removed from it."""

    def nothing(layer: Any, idxs: Any, inplace: bool = True, dry_run: bool = False) -> Any:
        return layer, 0

    nothing.__name__ = name
    return nothing


prune_parameter = only_in_a_plan("prune_parameter")
prune_buffer = only_in_a_plan("prune_buffer")
_attention_heads = only_in_a_plan("prune_multihead_attention")
_attention_inputs = only_in_a_plan("prune_related_multihead_attention")
_recurrent_outer = only_in_a_plan("prune_related_recurrent")
_recurrent_inner = only_in_a_plan("prune_recurrent")


def _channels(layer: Any) -> dict[str, int]:
    return {"weight": 0, "bias": 0, "running_mean": 0, "running_var": 0}


def _conv_outputs(layer: _ConvNd) -> dict[str, int]:
    return {"weight": 1 if layer.transposed else 0, "bias": 0}


def _conv_inputs(layer: _ConvNd) -> dict[str, int]:
    return {"weight": 0 if layer.transposed else 1}


def _linear_outputs(layer: Any) -> dict[str, int]:
    return {"weight": 0, "bias": 0}


def _last_dimension(layer: Any) -> dict[str, int]:
    last = len(layer.normalized_shape) - 1
    return {"weight": last, "bias": last}


def _projections(layer: nn.MultiheadAttention) -> dict[str, int]:
    weights = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
    return {**dict.fromkeys(weights, 0), "bias_k": 2, "bias_v": 2}


def _projected(layer: nn.MultiheadAttention) -> dict[str, int]:
    return dict.fromkeys(("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"), 1)


def _recurrent_inputs(layer: Any) -> dict[str, int]:
    return dict.fromkeys(("weight_ih_l0", "weight_ih_l0_reverse", "weight_ih"), 1)


def _recurrent_states(layer: nn.Module) -> dict[str, int]:
    names = [name for name, _ in layer.named_parameters(recurse=False)]
    # Positions are those of the state, as the weights that take it back in count them; the others hold all gates.
    return {name: 1 for name in names if "_hh" in name and "bias" not in name} | {
        name: 0 for name in names if "_hh" not in name or "bias" in name
    }


_CONV, _LINEAR = (_ConvNd,), (nn.Linear,)

# The first row that fits a tensor's dimension names the step of its layer in a printed plan.
SIDES: tuple[Side, ...] = (
    Side(_CONV, layers.prune_conv, _conv_outputs),
    Side(_CONV, layers.prune_related_conv, _conv_inputs),
    Side(_CONV, layers.prune_group_conv, _conv_outputs),
    Side(_LINEAR, layers.prune_linear, _linear_outputs),
    Side(_LINEAR, layers.prune_related_linear, lambda layer: {"weight": 1}),
    Side((_BatchNorm,), layers.prune_batchnorm, _channels),
    Side((nn.PReLU,), layers.prune_prelu, lambda layer: {"weight": 0}),
    Side((_InstanceNorm,), layers.prune_instancenorm_out_channels, _channels),
    Side((nn.GroupNorm,), layers.prune_groupnorm_out_channels, _linear_outputs),
    Side((nn.LayerNorm, nn.RMSNorm), layers.prune_layernorm_out_channels, _last_dimension),
    Side((nn.Embedding, nn.EmbeddingBag), layers.prune_embedding_out_channels, lambda layer: {"weight": 1}),
    Side((nn.MultiheadAttention,), layers.prune_multihead_attention_out_channels, lambda layer: {"out_proj.weight": 0}),
    Side((nn.MultiheadAttention,), _attention_heads, _projections),
    Side((nn.MultiheadAttention,), _attention_inputs, _projected),
    Side((nn.RNNBase, nn.RNNCellBase), _recurrent_outer, _recurrent_inputs),
    Side((nn.RNNBase, nn.RNNCellBase), _recurrent_inner, _recurrent_states),
)

# Other names of the same widths; norms, PReLU and embeddings have one width, so both their names are one function.
_SAME: dict[PruningFunction, PruningFunction] = {
    layers.prune_conv_out_channels: layers.prune_conv,
    layers.prune_conv_in_channels: layers.prune_related_conv,
    layers.prune_depthwise_conv_out_channels: layers.prune_group_conv,
    layers.prune_linear_out_channels: layers.prune_linear,
    layers.prune_linear_in_channels: layers.prune_related_linear,
    layers.prune_batchnorm_out_channels: layers.prune_batchnorm,
    layers.prune_prelu_out_channels: layers.prune_prelu,
    layers.prune_multihead_attention_in_channels: _attention_inputs,
    layers.prune_lstm_in_channels: _recurrent_outer,
    layers.prune_lstm_out_channels: _recurrent_inner,
    layers.prune_parameter_out_channels: prune_parameter,
}
_BY_FUNCTION = {side.function: side for side in SIDES}
_CHANNELS = {function: channels for channels, function in _SAME.items()}
_INPUTS = frozenset(
    [
        layers.prune_conv_in_channels,
        layers.prune_linear_in_channels,
        layers.prune_multihead_attention_in_channels,
        layers.prune_lstm_in_channels,
    ]
)


def channels_function(function: PruningFunction) -> PruningFunction:
    """The same step under its name in Torch-Pruning 1.x: `prune_conv` -> `prune_conv_out_channels`."""
    return _CHANNELS.get(function, function)


def is_of_inputs(function: PruningFunction) -> bool:
    """Whether a function prunes the inputs of a layer that has outputs of another width."""
    own = getattr(function, "__name__", "") == "prune_in_channels"  # of a user's pruner
    return own or channels_function(function) in _INPUTS


def is_of_outputs(function: PruningFunction) -> bool:
    """Whether a function prunes the outputs of a layer. Norms, embeddings and the like have one width: it is this."""
    own = getattr(function, "__name__", "") == "prune_out_channels"
    known = own or (callable(function) and function in {*_BY_FUNCTION, *_SAME, *_SAME.values()})
    return known and not is_of_inputs(function)


def side_meant(function: PruningFunction, layer: Any) -> Side:
    """The side of the layer that a pruning function prunes.

    Raises:
        TypeError: for a function that is none of this package's, or a layer of another kind.
    """
    side = _BY_FUNCTION.get(_SAME.get(function, function)) if callable(function) else None
    if side is None:
        known = sorted(f.__name__ for f in (*_BY_FUNCTION, *_SAME) if f.__name__ in layers.__all__)
        raise TypeError(f"the pruning function must be one of {', '.join(known)}; found {function!r}")
    if not isinstance(layer, side.kinds):
        kinds = " or ".join(kind.__name__.lstrip("_") for kind in side.kinds)
        raise TypeError(
            f"{function.__name__} prunes a {kinds}; found a {type(layer).__name__}: {layer!r}: "
            "use the function of that kind of layer"
        )
    return side


def function_of(layer: object, outputs: bool) -> PruningFunction | None:
    """The function that prunes the outputs (or inputs) of a layer; None for a layer of no known kind.

    Layers of one width have one function for both.
    """
    if isinstance(layer, nn.Parameter):
        return layers.prune_parameter_out_channels
    found = [side.function for side in SIDES if isinstance(layer, side.kinds)]
    wanted = [function for function in found if is_of_inputs(function) is not outputs] or found
    return channels_function(wanted[0]) if wanted else None


def width_of(layer: nn.Module, outputs: bool) -> int:
    """How many output (or input) channels a layer has now.

    Raises: `TypeError` for a layer of no known kind.
    """
    function = function_of(layer, outputs)
    if function is None:
        raise TypeError(f"the layer must be of a kind that has channels; found a {type(layer).__name__}: {layer!r}")
    for attribute, dim in side_meant(function, layer).dims(layer).items():
        held = held_tensor(layer, attribute)
        if held is not None:
            groups = layer.groups if isinstance(layer, _ConvNd) and dim == 1 else 1
            return int(held[1].shape[dim]) * groups
    for name in ("num_features", "num_channels"):  # norms without parameters
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return int(layer.normalized_shape[-1])  # type: ignore[index]


def prunes_whole_groups(function: PruningFunction) -> bool:
    return _SAME.get(function, function) is layers.prune_group_conv


def step_of(layer: nn.Module, attribute: str, dim: int) -> PruningFunction | None:
    """The function for this dimension of a tensor of the layer; None where the layer is of no known kind."""
    for side in SIDES:
        if isinstance(layer, side.kinds):
            dims = side.dims(layer)
            # A recurrent state stands on both dimensions of the weights it is fed back through.
            recurrent = side.function.__name__ == "prune_recurrent" and attribute in dims
            if dims.get(attribute) == dim or recurrent:
                return side.function
    return None


def held_tensor(layer: nn.Module, attribute: str) -> tuple[str, Tensor] | None:
    """Name and tensor that carry an attribute's dimensions: the attribute itself, or the one it is computed from."""
    parametrized = getattr(layer, "parametrizations", None)
    if isinstance(parametrized, nn.ModuleDict) and attribute in parametrized:
        originals = [
            (f"parametrizations.{attribute}.{name}", tensor)
            for name, tensor in parametrized[attribute].named_parameters(recurse=False)
        ]
        return max(originals, key=lambda entry: entry[1].numel()) if originals else None
    inner, _, last = attribute.rpartition(".")
    if inner:
        held = held_tensor(layer.get_submodule(inner), last)
        return None if held is None else (f"{inner}.{held[0]}", held[1])
    for name in (attribute, f"{attribute}_v", f"{attribute}_orig"):
        for tensor in (layer._parameters.get(name), layer._buffers.get(name)):
            if tensor is not None:
                return name, tensor
    return None


_DERIVED = re.compile(r"parametrizations\.(\w+)\.original\d*|(\w+)_(?:orig|mask|g|v)")


def attribute_behind(name: str) -> str:
    """The attribute that a tensor of a parametrized layer stands for: `weight_v` -> `weight`."""
    match = _DERIVED.fullmatch(name)
    return name if match is None else match.group(1) or match.group(2)


def width_axis(layer: nn.Module, axes: tuple[Axis, ...], dim: int) -> Axis:
    """All positions of a width; a convolution's dim 1 counts within a group, so its groups are put before it."""
    groups = getattr(layer, "groups", 1) if isinstance(layer, _ConvNd) else 1
    if groups == 1 or dim != 1:
        return axes[dim]
    return product((group_axis(axes, groups), axes[1]))


def group_axis(axes: tuple[Axis, ...], groups: int) -> Axis:
    """The groups of a convolution's weight, [groups * rows, ...]."""
    halves = split_product(axes[0], groups, Reason("groups of a convolution"))
    return Fixed(groups) if halves is None else halves[0]
