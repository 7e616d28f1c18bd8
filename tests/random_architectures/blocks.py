"""What a block of a random network is, as data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "cos": torch.cos,
}


@dataclass(frozen=True)
class Block:
    """A kind of block, its width in multiples of 4, a small variant number, and the name of an activation."""

    kind: str
    width: int
    variant: int
    activation: str


class BlockModule(nn.Module):
    """Base of all blocks: `channels` come in, `out_channels` leave."""

    def __init__(self, block: Block, channels: int) -> None:
        super().__init__()
        self.variant = block.variant
        self.act = ACTIVATIONS[block.activation]
        self.out_channels = channels
        self.build(channels, 4 * block.width)

    def build(self, channels: int, width: int) -> None:
        """Make the layers for so many incoming channels and an inner width that is a multiple of 4."""
        raise NotImplementedError
