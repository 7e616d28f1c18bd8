"""Prune one side of one layer, in place: `prune_<kind>_<out or in>_channels(layer, idxs) -> layer`.

The same cuts and refusals as in `functions`, under the names of Torch-Pruning 1.x. Layers that map each channel to
itself (norms, PReLU, depthwise convolution, embedding dimensions) have one width: both names are one function.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from torch_pruning.layers import cuts
from torch_pruning.layers.cut import carry_out
from torch_pruning.layers.cuts_stacked import cut_multihead_attention, cut_recurrent_inputs, cut_recurrent_states
from torch_pruning.planning.tensors import Positions, assign, kept_positions, shrink

Conv = TypeVar("Conv", bound=_ConvNd)
Linear = TypeVar("Linear", bound=nn.Linear)
BatchNorm = TypeVar("BatchNorm", bound=_BatchNorm)
InstanceNorm = TypeVar("InstanceNorm", bound=_InstanceNorm)
LayerNorm = TypeVar("LayerNorm", nn.LayerNorm, nn.RMSNorm)
GroupNorm = TypeVar("GroupNorm", bound=nn.GroupNorm)
PReLU = TypeVar("PReLU", bound=nn.PReLU)
Embedding = TypeVar("Embedding", nn.Embedding, nn.EmbeddingBag)
MultiheadAttention = TypeVar("MultiheadAttention", bound=nn.MultiheadAttention)
Recurrent = TypeVar("Recurrent", bound=nn.RNNBase)
Parameter = TypeVar("Parameter", bound=nn.Parameter)


def prune_conv_out_channels(layer: Conv, idxs: Positions) -> Conv:
    """The convolution without the output channels `idxs`; equally many from each group.

    >>> prune_conv_out_channels(nn.Conv2d(3, 8, 1), [0]).weight.shape
    torch.Size([7, 3, 1, 1])
    """
    return carry_out(cuts.cut_conv_outputs(layer, idxs), layer)[0]


def prune_conv_in_channels(layer: Conv, idxs: Positions) -> Conv:
    """The convolution without the input channels `idxs`; equally many from each group.

    >>> prune_conv_in_channels(nn.Conv2d(3, 8, 1), [0]).weight.shape
    torch.Size([8, 2, 1, 1])
    """
    return carry_out(cuts.cut_conv_inputs(layer, idxs), layer)[0]


def prune_depthwise_conv_out_channels(layer: Conv, idxs: Positions) -> Conv:
    """The depthwise or grouped convolution without the groups whose output channels are `idxs`.

    >>> prune_depthwise_conv_out_channels(nn.Conv1d(4, 4, 1, groups=4), [0]).groups
    3
    """
    return carry_out(cuts.cut_conv_groups(layer, idxs), layer)[0]


def prune_linear_out_channels(layer: Linear, idxs: Positions) -> Linear:
    """The linear layer without the output features `idxs`.

    >>> prune_linear_out_channels(nn.Linear(4, 6), [0]).weight.shape
    torch.Size([5, 4])
    """
    return carry_out(cuts.cut_linear_outputs(layer, idxs), layer)[0]


def prune_linear_in_channels(layer: Linear, idxs: Positions) -> Linear:
    """The linear layer without the input features `idxs`.

    >>> prune_linear_in_channels(nn.Linear(4, 6), [0]).weight.shape
    torch.Size([6, 3])
    """
    return carry_out(cuts.cut_linear_inputs(layer, idxs), layer)[0]


def prune_batchnorm_out_channels(layer: BatchNorm, idxs: Positions) -> BatchNorm:
    """The batch norm without the channels `idxs`.

    >>> prune_batchnorm_out_channels(nn.BatchNorm1d(4), [0]).running_var.shape
    torch.Size([3])
    """
    return carry_out(cuts.cut_channel_norm(layer, idxs), layer)[0]


def prune_instancenorm_out_channels(layer: InstanceNorm, idxs: Positions) -> InstanceNorm:
    """The instance norm without the channels `idxs`.

    >>> prune_instancenorm_out_channels(nn.InstanceNorm2d(4, affine=True), [0]).weight.shape
    torch.Size([3])
    """
    return carry_out(cuts.cut_channel_norm(layer, idxs), layer)[0]


def prune_groupnorm_out_channels(layer: GroupNorm, idxs: Positions) -> GroupNorm:
    """The group norm without the channels `idxs`: equally many from each group, or whole groups.

    >>> prune_groupnorm_out_channels(nn.GroupNorm(2, 8), [0, 4]).num_groups
    2
    >>> prune_groupnorm_out_channels(nn.GroupNorm(4, 8), [0, 1]).num_groups
    3
    """
    return carry_out(cuts.cut_group_norm(layer, idxs), layer)[0]


def prune_layernorm_out_channels(layer: LayerNorm, idxs: Positions) -> LayerNorm:
    """The layer norm or RMS norm without the positions `idxs` of its last dimension.

    >>> prune_layernorm_out_channels(nn.LayerNorm((5, 4)), [0]).normalized_shape
    (5, 3)
    """
    return carry_out(cuts.cut_layer_norm(layer, idxs), layer)[0]


def prune_prelu_out_channels(layer: PReLU, idxs: Positions) -> PReLU:
    """The PReLU without the channels `idxs`; unchanged where all channels share one weight.

    >>> prune_prelu_out_channels(nn.PReLU(4), [0]).weight.shape
    torch.Size([3])
    """
    return carry_out(cuts.cut_prelu(layer, idxs), layer)[0]


def prune_embedding_out_channels(layer: Embedding, idxs: Positions) -> Embedding:
    """The embedding without the dimensions `idxs`; the vocabulary stays.

    >>> prune_embedding_out_channels(nn.Embedding(10, 4), [0]).weight.shape
    torch.Size([10, 3])
    """
    return carry_out(cuts.cut_embedding(layer, idxs), layer)[0]


def prune_multihead_attention_out_channels(layer: MultiheadAttention, idxs: Positions) -> MultiheadAttention:
    """The attention without the positions `idxs` of its width: inputs, q, k, v and output alike; its heads stay.

    >>> prune_multihead_attention_out_channels(nn.MultiheadAttention(8, 2), [0, 4]).out_proj.weight.shape
    torch.Size([6, 6])
    """
    return carry_out(cut_multihead_attention(layer, idxs), layer)[0]


def prune_multihead_attention_in_channels(layer: MultiheadAttention, idxs: Positions) -> MultiheadAttention:
    """As `prune_multihead_attention_out_channels`: by itself the layer has one width. In a dependency graph the two are
    the width of its inputs and that of its output.

    >>> prune_multihead_attention_in_channels(nn.MultiheadAttention(8, 2), [0, 4]).embed_dim
    6
    """
    return carry_out(cut_multihead_attention(layer, idxs), layer)[0]


def prune_lstm_out_channels(layer: Recurrent, idxs: Positions) -> Recurrent:
    """The LSTM (or GRU, RNN) without the units `idxs` of its state, in every layer and direction.

    >>> prune_lstm_out_channels(nn.LSTM(4, 6), [0]).weight_hh_l0.shape
    torch.Size([20, 5])
    """
    return carry_out(cut_recurrent_states(layer, idxs), layer)[0]


def prune_lstm_in_channels(layer: Recurrent, idxs: Positions) -> Recurrent:
    """The LSTM (or GRU, RNN) without the input features `idxs`.

    >>> prune_lstm_in_channels(nn.LSTM(4, 6), [0]).weight_ih_l0.shape
    torch.Size([24, 3])
    """
    return carry_out(cut_recurrent_inputs(layer, idxs), layer)[0]


def prune_parameter_out_channels(layer: Parameter, idxs: Positions, dim: int = -1) -> Parameter:
    """A parameter that belongs to no layer, without the positions `idxs` of one dimension; its gradient shrinks along.

    >>> prune_parameter_out_channels(nn.Parameter(nn.Linear(5, 1).weight.data), [0]).shape
    torch.Size([1, 4])
    """
    if not isinstance(layer, nn.Parameter):
        raise TypeError(
            f"this function prunes a Parameter; found a {type(layer).__name__}: use the function of that kind of layer"
        )
    where = f"a Parameter of shape {list(layer.shape)}"
    dims = {dim % layer.dim(): kept_positions(layer.shape[dim], idxs, where)}
    assign(layer, shrink(layer, dims), None if layer.grad is None else shrink(layer.grad, dims))
    return layer


prune_depthwise_conv_in_channels = prune_depthwise_conv_out_channels
prune_batchnorm_in_channels = prune_batchnorm_out_channels
prune_instancenorm_in_channels = prune_instancenorm_out_channels
prune_groupnorm_in_channels = prune_groupnorm_out_channels
prune_layernorm_in_channels = prune_layernorm_out_channels
prune_prelu_in_channels = prune_prelu_out_channels
prune_embedding_in_channels = prune_embedding_out_channels
prune_parameter_in_channels = prune_parameter_out_channels
