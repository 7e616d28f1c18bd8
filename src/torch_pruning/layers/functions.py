"""Prune one layer: `(layer, idxs, inplace=True, dry_run=False) -> (layer, number of parameter elements removed)`.

Each function touches that one layer only, keeps its `Parameter` objects (an optimizer still holds them), slices
gradients along, and leaves the layer as it was when it raises. `idxs` are positions in the layer as it is now: any
iterable of integers, negative ones counted from the end, none meaning that nothing is removed. `inplace=False` works
on a deep copy, `dry_run=True` only counts.

All raise `TypeError` for a layer of another kind or positions that are not integers, and `PositionError`
(a `ValueError`) for positions that are out of range, repeated, or all there are.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from torch_pruning.layers.cut import carry_out
from torch_pruning.layers.cuts import (
    cut_channel_norm,
    cut_conv_groups,
    cut_conv_inputs,
    cut_conv_outputs,
    cut_linear_inputs,
    cut_linear_outputs,
    cut_prelu,
)
from torch_pruning.planning.tensors import Positions

Conv = TypeVar("Conv", bound=_ConvNd)
Linear = TypeVar("Linear", bound=nn.Linear)
BatchNorm = TypeVar("BatchNorm", bound=_BatchNorm)
PReLU = TypeVar("PReLU", bound=nn.PReLU)


def prune_conv(layer: Conv, idxs: Positions, inplace: bool = True, dry_run: bool = False) -> tuple[Conv, int]:
    """A convolution (1d to 3d, plain or transposed) without the output channels `idxs`.

    A grouped convolution must lose equally many from each group.

    >>> conv, num_pruned = prune_conv(nn.Conv2d(3, 64, 7), [2, 6, 9])
    >>> conv.weight.shape, num_pruned  # 3 * (3 * 7 * 7 + 1)
    (torch.Size([61, 3, 7, 7]), 444)
    """
    return carry_out(cut_conv_outputs(layer, idxs), layer, inplace, dry_run)


def prune_related_conv(layer: Conv, idxs: Positions, inplace: bool = True, dry_run: bool = False) -> tuple[Conv, int]:
    """A convolution (1d to 3d, plain or transposed) without the input channels `idxs`.

    A grouped convolution must lose equally many from each group.

    >>> conv, num_pruned = prune_related_conv(nn.Conv2d(8, 4, 3, groups=2), [0, 7])
    >>> conv.weight.shape, num_pruned
    (torch.Size([4, 3, 3, 3]), 36)
    """
    return carry_out(cut_conv_inputs(layer, idxs), layer, inplace, dry_run)


def prune_group_conv(layer: Conv, idxs: Positions, inplace: bool = True, dry_run: bool = False) -> tuple[Conv, int]:
    """A depthwise or grouped convolution without the groups whose output channels are `idxs`.

    The groups' input channels go as well. In a depthwise convolution each channel is a group.

    >>> conv, num_pruned = prune_group_conv(nn.Conv2d(8, 8, 3, groups=8), [1])
    >>> conv.in_channels, conv.out_channels, conv.groups, num_pruned
    (7, 7, 7, 10)
    """
    return carry_out(cut_conv_groups(layer, idxs), layer, inplace, dry_run)


def prune_linear(layer: Linear, idxs: Positions, inplace: bool = True, dry_run: bool = False) -> tuple[Linear, int]:
    """A linear layer without the output features `idxs`.

    >>> prune_linear(nn.Linear(4, 6), [0, 1])
    (Linear(in_features=4, out_features=4, bias=True), 10)
    """
    return carry_out(cut_linear_outputs(layer, idxs), layer, inplace, dry_run)


def prune_related_linear(
    layer: Linear, idxs: Positions, inplace: bool = True, dry_run: bool = False
) -> tuple[Linear, int]:
    """A linear layer without the input features `idxs`.

    >>> prune_related_linear(nn.Linear(4, 6), [-1])
    (Linear(in_features=3, out_features=6, bias=True), 6)
    """
    return carry_out(cut_linear_inputs(layer, idxs), layer, inplace, dry_run)


def prune_batchnorm(
    layer: BatchNorm, idxs: Positions, inplace: bool = True, dry_run: bool = False
) -> tuple[BatchNorm, int]:
    """A batch norm without the channels `idxs`; running statistics shrink along but are not counted.

    >>> batch_norm, num_pruned = prune_batchnorm(nn.BatchNorm2d(64), [2, 6, 9])
    >>> batch_norm.running_mean.shape, num_pruned
    (torch.Size([61]), 6)
    """
    return carry_out(cut_channel_norm(layer, idxs), layer, inplace, dry_run)


def prune_prelu(layer: PReLU, idxs: Positions, inplace: bool = True, dry_run: bool = False) -> tuple[PReLU, int]:
    """A PReLU without the channels `idxs`; one weight shared by all channels fits any number of them and stays.

    >>> prune_prelu(nn.PReLU(8), [0, 1]), prune_prelu(nn.PReLU(), [0, 1])
    ((PReLU(num_parameters=6), 2), (PReLU(num_parameters=1), 0))
    """
    return carry_out(cut_prelu(layer, idxs), layer, inplace, dry_run)
