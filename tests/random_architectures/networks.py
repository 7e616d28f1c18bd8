"""Random networks: a stack of blocks on images, then a stack on tokens, then heads.

A network is drawn as plain data (lists of block names with small numbers), so that a failure prints as something that
can be typed in again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from random_architectures.blocks import ACTIVATIONS, Block
from random_architectures.image_blocks import IMAGE_BLOCKS
from random_architectures.token_blocks import TOKEN_BLOCKS

FLATTENINGS = ("flat", "pool", "adaptive", "tokens")
# What a second input, a vector, does to the features of the first; "words" are looked up in a table.
SECOND_INPUTS = ("none", "added", "scaling", "joined", "words")
HEADS = ("one", "two", "in training only")
IMAGE_SIZE, CLASSES, VOCABULARY = 4, 5, 7


@dataclass(frozen=True)
class Network:
    """What `RandomNet` is built from."""

    images: tuple[Block, ...]
    tokens: tuple[Block, ...]
    flatten: str
    second: str = "none"
    heads: str = "one"


class RandomNet(nn.Module):
    """The blocks in order, between a stem and one or two heads."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        channels = 8
        self.images, self.tokens = nn.ModuleList(), nn.ModuleList()
        for block in network.images:
            self.images.append(IMAGE_BLOCKS[block.kind](block, channels))
            channels = self.images[-1].out_channels
        self.auxiliary = nn.Conv2d(channels, 3, 1) if network.heads == "in training only" else None
        self.second = {
            "none": lambda: None,
            "words": lambda: nn.Embedding(VOCABULARY, channels),
            "added": lambda: nn.Linear(6, channels),
            "scaling": lambda: nn.Linear(6, 2 * channels),
            "joined": lambda: nn.Linear(6, 4),
        }[network.second]()
        if network.second == "joined":
            channels += 4
        if network.flatten == "tokens":
            for block in network.tokens:
                self.tokens.append(TOKEN_BLOCKS[block.kind](block, channels))
                channels = self.tokens[-1].out_channels
        pixels = {"flat": IMAGE_SIZE**2, "adaptive": 4}.get(network.flatten, 1)
        self.head = nn.Linear(channels * pixels, CLASSES)
        self.other = nn.Linear(channels * pixels, 3) if network.heads == "two" else None

    def inputs(self) -> tuple[Tensor, ...]:
        """A batch of two."""
        image = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
        if self.network.second == "none":
            return (image,)
        words = self.network.second == "words"
        return image, torch.randint(VOCABULARY, (2,)) if words else torch.randn(2, 6)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Any:
        x = self.stem(x)
        for block in self.images:
            x = block(x)
        extra = self.auxiliary(x).mean((2, 3)) if self.auxiliary is not None and self.training else None
        x = self._conditioned(x, condition)
        if self.network.flatten == "tokens":
            x = x.flatten(2).transpose(1, 2)
            for block in self.tokens:
                x = block(x)
            x = x.mean(1)
        elif self.network.flatten == "flat":
            x = x.flatten(1)
        elif self.network.flatten == "adaptive":
            x = F.adaptive_avg_pool2d(x, 2).reshape(x.shape[0], -1)
        else:
            x = x.mean((2, 3))
        out = self.head(x)
        if self.other is not None:
            return {"classes": out, "other": [self.other(x), None]}
        return out if extra is None else (out, extra)

    def _conditioned(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if self.second is None or condition is None:
            return x
        y = self.second(condition)[:, :, None, None]
        if self.network.second == "scaling":
            scale, shift = y.chunk(2, 1)
            return x * (1 + scale) + shift
        if self.network.second == "joined":
            return torch.cat([x, y.expand(-1, -1, *x.shape[2:])], 1)
        return x + y


def blocks(kinds: list[str]) -> st.SearchStrategy[Block]:
    return st.builds(
        Block, st.sampled_from(kinds), st.integers(1, 3), st.integers(0, 7), st.sampled_from(sorted(ACTIVATIONS))
    )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any network of up to four blocks on images and three on tokens."""
    images = draw(st.lists(blocks(sorted(IMAGE_BLOCKS)), max_size=4))
    flatten = draw(st.sampled_from((*FLATTENINGS, "tokens", "tokens")))  # as often as the others together
    tokens = draw(st.lists(blocks(sorted(TOKEN_BLOCKS)), min_size=1, max_size=3)) if flatten == "tokens" else []
    second, heads = draw(st.sampled_from(SECOND_INPUTS)), draw(st.sampled_from(HEADS))
    return Network(tuple(images), tuple(tokens), flatten, second, heads)
