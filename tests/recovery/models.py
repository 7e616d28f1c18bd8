"""Small networks of the kinds on which recovery is tested."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A stem, residual blocks (the second with a projected shortcut, in-place sums as torchvision writes them), a
    head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.a1, self.n1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.a2, self.n2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b1, self.m1 = nn.Conv2d(width, 2 * width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(2 * width)
        self.b2, self.m2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width)
        self.short, self.ms = nn.Conv2d(width, 2 * width, 1, 2, bias=False), nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.n2(self.a2(F.relu(self.n1(self.a1(x)))))
        y += x
        x = F.relu(y)
        x = F.relu(self.m2(self.b2(F.relu(self.m1(self.b1(x))))) + self.ms(self.short(x)))
        return self.head(x.mean((2, 3)))


class GatedBlock(nn.Module):
    """One decoder layer: grouped-query attention and a gated feed-forward net on an RMS-normalised stream."""

    def __init__(self, width: int = 16, heads: int = 4, groups: int = 2, hidden: int = 24) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = heads, groups, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q = nn.Linear(width, heads * self.head_dim, bias=False)
        self.k = nn.Linear(width, groups * self.head_dim, bias=False)
        self.v = nn.Linear(width, groups * self.head_dim, bias=False)
        self.o = nn.Linear(heads * self.head_dim, width, bias=False)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        normed = self.norm1(x)
        q = self.q(normed).view(batch, tokens, self.heads, -1).transpose(1, 2)
        k = self.k(normed).view(batch, tokens, self.groups, -1).transpose(1, 2)
        v = self.v(normed).view(batch, tokens, self.groups, -1).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Decoder(nn.Module):
    """Tokens to logits, the output weight tied to the embedding."""

    def __init__(self, vocabulary: int = 31, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(GatedBlock(width) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class StockEncoder(nn.Module):
    """torch's own encoder layer, whose attention is one function."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)))


class GroupedShuffle(nn.Module):
    """A depthwise and a grouped convolution, channels used by two consumers, a functional product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.side = nn.Conv2d(16, 8, 1)
        self.mixing = nn.Parameter(torch.randn(8, 4) / 3)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.depthwise(F.relu(self.first(x))))
        side = F.relu(self.side(x)).mean((2, 3)) @ self.mixing
        return self.head(F.relu(self.grouped(x)).mean((2, 3))) + side


def images(count: int = 48) -> Tensor:
    return torch.randn(count, 3, 10, 10)


MODELS = {
    "residual": (Residual, images),
    "decoder": (Decoder, lambda: torch.randint(31, (24, 12))),
    "stock encoder": (StockEncoder, lambda: torch.randn(24, 9, 6)),
    "grouped": (GroupedShuffle, images),
}


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """The model with batch-norm statistics that are those of its inputs, in evaluation mode."""
    with torch.no_grad():
        for _ in range(30):
            model.train()(x)
    return model.eval()
