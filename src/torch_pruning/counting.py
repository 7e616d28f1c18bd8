"""How many parameters and prunable channels a module holds. Shared layers and tied parameters count once."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


def count_params(module: nn.Module) -> int:
    """The number of parameter elements, frozen ones included, buffers not.

    >>> count_params(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    240
    """
    return sum(parameter.numel() for parameter in module.parameters())


def count_prunable_channels(module: nn.Module) -> int:
    """The output channels of all convolutions and linear layers in the module.

    >>> count_prunable_channels(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10)))
    18
    """
    channels = 0
    for layer in module.modules():
        if isinstance(layer, _ConvNd):
            channels += layer.out_channels
        elif isinstance(layer, nn.Linear):
            channels += layer.out_features
    return channels


def count_prunable_params(module: nn.Module) -> int:
    """The parameter elements of all convolutions, linear layers, batch norms and per-channel PReLUs in the module.

    A PReLU with one weight for all channels has nothing that can go.

    >>> count_prunable_params(nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(), nn.LayerNorm(8)))
    224
    """
    prunable = {
        id(parameter): parameter.numel()
        for layer in module.modules()
        if isinstance(layer, _ConvNd | nn.Linear | _BatchNorm)
        or (isinstance(layer, nn.PReLU) and layer.num_parameters > 1)
        for parameter in layer.parameters()
    }
    return sum(prunable.values())
