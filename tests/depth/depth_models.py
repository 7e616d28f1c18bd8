"""Residual networks of every kind of list, small; and the ones that only look removable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
import transformers
from torch import Tensor, nn

T = transformers
BASE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


class Branch(nn.Module):
    """x + f(x)"""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 10), nn.Linear(10, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).tanh())


class Listed(nn.Module):
    """A loop over as many elements as an attribute says."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Branch() for _ in range(4)]), nn.Linear(6, 3)
        self.count = 4
        self.unrelated = 4
        for place, block in enumerate(self.blocks):
            block.place = place + 1

    def forward(self, x: Tensor) -> Tensor:
        for index in range(self.count):
            x = self.blocks[index](x)
        return self.head(x)


class InPlace(nn.Module):
    """Sums in place, in either operand."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = x + 0.5 * self.first(x)
            y = self.second(x.tanh())
            y += x
            return y

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(6, 6), nn.Sequential(*(self.Block() for _ in range(3)))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class Indexed(Listed):
    """Elements called by their place: the list cannot shrink."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[3](self.blocks[2](self.blocks[1](self.blocks[0](x)))))


class Numbered(Listed):
    """A number per place enters what is computed."""

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x) * (1 + index)
        return self.head(x)


class Activated(nn.Module):
    """A relu behind the sum, and an input that may be negative: without the block it would lose its sign."""

    class Block(Branch):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(6, 6), nn.Sequential(self.Block()), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class Tapped(Listed):
    """The middle of a block is read elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        taps = []
        for block in self.blocks:
            hidden = block.up(x)
            taps.append(hidden)
            x = block(x)
        return self.head(x), torch.stack(taps)


class Rewritten(Listed):
    """What enters a block is needed once more, after its output was changed in place."""

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.head(x)[..., :1] * x
        for block in self.blocks:
            x = block(x)
            x *= 2
        return self.head(x + first)


def tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(3, 90, (2, 8))}


def both() -> dict[str, Any]:
    return {**tokens(), "decoder_input_ids": torch.randint(3, 90, (2, 8))}


def images(size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(2, 3, size, size)


def mistral() -> nn.Module:
    """Its cache makes an entry for each layer before the first one runs."""
    return T.MistralForCausalLM(T.MistralConfig(**BASE, num_key_value_heads=2, sliding_window=6))


def opt() -> nn.Module:
    """Sums of two dimensions, reshaped to three behind them."""
    return T.OPTForCausalLM(
        T.OPTConfig(
            vocab_size=100, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=4,
            num_attention_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def gpt2() -> nn.Module:
    return T.GPT2LMHeadModel(
        T.GPT2Config(vocab_size=100, n_embd=32, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=2)
    )


def convnext() -> nn.Module:
    """The real blocks, narrow; layer scales that let them be seen."""
    setting = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([setting(8, 16, 2), setting(16, 16, 3)], layer_scale=0.5)


def llama() -> nn.Module:
    return T.LlamaForCausalLM(T.LlamaConfig(**BASE, num_key_value_heads=2))


def t5() -> nn.Module:
    return T.T5ForConditionalGeneration(
        T.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4, num_decoder_layers=4)
    )


# (model, inputs, how many blocks can go)
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], int]] = {
    "listed": (Listed, lambda: torch.randn(5, 6), 4),
    "in_place": (InPlace, lambda: torch.randn(5, 6), 3),
    "resnet18": (torchvision.models.resnet18, images(32), 5),
    "resnet50": (torchvision.models.resnet50, images(32), 12),
    "vit": (lambda: torchvision.models.VisionTransformer(16, 8, 4, 4, 32, 64), images(16), 4),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2, 4], [2, 4, 4], [4, 4]),
        images(64),
        8,
    ),
    "convnext": (convnext, images(32), 5),
    "llama": (llama, tokens, 4),
    "gpt2": (gpt2, tokens, 4),
    "mistral": (mistral, tokens, 4),
    "opt": (opt, tokens, 4),
    "t5": (t5, both, 2 + 3),  # the first of each stack makes the position bias of all
}
REFUSED = (Indexed, Numbered, Activated, Tapped, Rewritten)
