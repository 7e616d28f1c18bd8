"""Set single weights of one layer to zero; no shape changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_pruning.layers.cut import Layer


def mask_weight(layer: Layer, mask: Tensor) -> Layer:
    """The layer with its weight set to zero where `mask`, of the weight's shape, is 0 or False.

    The values change once, in place; nothing stays attached to the layer, so training may fill them again.
    (`torch.nn.utils.prune.custom_from_mask` keeps a mask in force.)

    Raises: `ValueError` for another shape, values other than 0 and 1, or a layer without a weight of its own.

    >>> layer = mask_weight(nn.Linear(2, 2), torch.eye(2))
    >>> (layer.weight != 0).tolist()
    [[True, False], [False, True]]
    """
    return _masked(layer, "weight", mask)


def mask_bias(layer: Layer, mask: Tensor) -> Layer:
    """The layer with its bias set to zero where `mask`, of the bias's shape, is 0 or False, as in `mask_weight`.

    >>> layer = mask_bias(nn.Linear(2, 2), torch.tensor([1, 0]))
    >>> (layer.bias != 0).tolist()
    [True, False]
    """
    return _masked(layer, "bias", mask)


@torch.no_grad()
def _masked(layer: Layer, name: str, mask: Tensor) -> Layer:
    parameter: nn.Parameter | None = layer._parameters.get(name)
    mask = torch.as_tensor(mask)
    if parameter is None:
        raise ValueError(
            f"the layer must hold the parameter `{name}` itself; found none in {layer!r}: "
            "mask the layer that has it, or remove a parametrization first"
        )
    if mask.shape != parameter.shape:
        raise ValueError(
            f"the mask must have the shape {tuple(parameter.shape)} of `{name}`; found {tuple(mask.shape)} "
            f"in {layer!r}: expand it to one entry per element"
        )
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"the mask must hold only 0 and 1; found other values for {layer!r}: threshold it first")
    parameter.masked_fill_(mask.to(parameter.device) == 0, 0)  # not `*=`: 0 * nan is nan, and -1 * 0 is -0
    return layer
