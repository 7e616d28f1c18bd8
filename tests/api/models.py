"""Small models for the tests of `DependencyGraph`: one way in which layers depend on each other each."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Split(nn.Module):
    """Two halves of one convolution, used in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.left, self.right = nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(self.stem(x), 2, dim=1)
        return self.right(second) + self.left(first)


class Grouped(nn.Module):
    """A convolution of 4 groups between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.grouped = nn.Conv2d(12, 8, 3, groups=4)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.grouped(torch.relu(self.norm(self.stem(x))))))


class Concatenated(nn.Module):
    """Two branches side by side, then flattened: 5 + 3 channels of 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 3, 3)
        self.head = nn.Linear(8 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(both, 2), 1))


class OneAxisTwice(nn.Module):
    """`x + layer(x)`: inputs and outputs of one layer are the same axis, and a parameter without a layer is on it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.randn(6))
        self.register_buffer("shift", torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.layer(x)) * self.scale * self.shift)


class Shared(nn.Module):
    """One layer called twice, and a table tied to the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(torch.tanh(self.layer(self.table(tokens)))))


class TwoWidths(nn.Module):
    """Attention by hand: the width of the residual stream must stay heads x head dim, because the code asks for it."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.stem, self.qkv = nn.Linear(5, width), nn.Linear(width, 3 * width)
        self.out, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, scale=0.5)
        return self.head(x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width)))


class TrainingHead(nn.Module):
    """A head that runs in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.auxiliary = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = torch.relu(self.stem(x))
        return (self.head(x), self.auxiliary(torch.tanh(x))) if self.training else (self.head(x),)


class Heads(nn.Module):
    """A width seen as heads x head dim for a while."""

    def __init__(self, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.inner, self.outer = nn.Linear(4, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        split = torch.tanh(self.inner(x).view(batch, tokens, self.heads, -1).transpose(1, 2))
        return self.outer(split.transpose(1, 2).flatten(2))
