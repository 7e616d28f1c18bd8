"""Sizes that become numbers on unusual ways, and factors that parameters take up for them."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class hidden_layer(nn.Module):
    """Two linear layers, and something in between that looks at the width of the hidden one."""

    def __init__(self, between: Callable[[Tensor, nn.Linear], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self.a(x), self.b)


def divided_by_elements(h: Tensor, b: nn.Linear) -> Tensor:
    """The factor goes into the last layer, of which no row is cut."""
    return b(h) / h.numel()


def filled_with_width(h: Tensor, b: nn.Linear) -> Tensor:
    return b(h) * torch.full((1,), h.shape[-1]).to(h.dtype)


def alpha_of_width(h: Tensor, b: nn.Linear) -> Tensor:
    return torch.addmm(b.bias, h, b.weight.t(), alpha=h.shape[-1])


def length_of_tensor(h: Tensor, b: nn.Linear) -> Tensor:
    """`len` makes a plain number of a size."""
    return b(h) / len(h.t())


def imported_logarithm(h: Tensor, b: nn.Linear) -> Tensor:
    return b(h) * log(h.shape[-1])


def halved_as_number(h: Tensor, b: nn.Linear) -> Tensor:
    """No factor makes up for the remainder that some widths leave."""
    return b(h) * (h.shape[-1] // 2)


def ones_of_width(h: Tensor, b: nn.Linear) -> Tensor:
    """Nothing masks the ones of removed units."""
    return b(h) * torch.ones(h.shape[-1]).to(h.dtype).sum()


def repeated_by_width(h: Tensor, b: nn.Linear) -> Tensor:
    return b(h).sum(0, keepdim=True).repeat(h.shape[-1], 1).sum(0)


def noise(h: Tensor, b: nn.Linear) -> Tensor:
    """In evaluation mode as well."""
    return b(h + torch.randn(h.shape[-1], dtype=h.dtype))


def squared_and_divided(h: Tensor, b: nn.Linear) -> Tensor:
    """A factor on h would come out squared: the layer behind takes it."""
    return b(h * h / h.shape[-1])


def rounded_quotient(h: Tensor, b: nn.Linear) -> Tensor:
    return b(torch.div(h * 10, h.shape[-1], rounding_mode="floor"))


class computed_by_float(nn.Module):
    """int(width * 0.5): the integer keeps its source on the way through a float that is exact, and ties both halves."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(4, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(x[:, : int(x.shape[1] * 0.5)]).relu())


class squares_of_patches(nn.Module):
    """Four patches become one, by sizes that go through floats."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Linear(24, 5)

    def forward(self, x: Tensor, scale: float = 0.5) -> Tensor:
        x = self.a(x).permute(0, 3, 2, 1)
        batch, width, height, channels = x.size()
        x = x.reshape(batch, width, int(height * scale), int(channels / scale)).permute(0, 2, 1, 3)
        return self.b(
            x.reshape(batch, int(height * scale), int(width * scale), int(channels / (scale**2))).permute(0, 2, 1, 3)
        )


class third_by_float(nn.Module):
    """int(width / 3), and by two numbers in turn: only whole thirds fit."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(4, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        first, second, third = x.split(int(x.shape[1] * 0.5 / 1.5), dim=1)
        return self.c(self.b(first * second + third).relu())


class third_that_rounds(third_by_float):
    """0.3333 is no third: the integer says nothing about other widths."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        first, second, third = x.split(int(x.shape[1] * 0.33333333333 + 0.5), dim=1)
        return self.c(self.b(first * second + third).relu())


class measured_and_thrown_away(nn.Module):
    """Only the size of the first result is used."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        width = self.a(x).shape[-1]
        return self.b(self.a(x)) / width


class quotient_of_units(nn.Module):
    """Zeros in the denominator: the layer behind has to make them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.c(x) / self.a(x))


class largest_of_bag(nn.Module):
    """EmbeddingBag also says where each maximum was."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(9, 8, mode="max"), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


class rotary(nn.Module):
    """Queries and keys turned by position, in halves or as complex numbers, with the default scale."""

    def __init__(self, turn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.heads = 2
        self.q, self.k, self.v = (nn.Linear(6, 16) for _ in range(3))
        self.out = nn.Linear(16, 5)
        self.register_buffer("frequencies", torch.rand(4))
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        angles = torch.outer(torch.arange(t).to(x.dtype), self.frequencies)
        q, k = (self.turn(item, angles.cos(), angles.sin()) for item in (q, k))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each half of the queries is read twice, one after the other."""
    u, v = x.chunk(2, -1)
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)


def complex_numbers(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """No factor goes back through these, and none may go in behind the softmax."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


def hidden(between: Callable[[Tensor, nn.Linear], Tensor], *groups: Units, **options: Any) -> Case:
    class made(hidden_layer):
        def __init__(self) -> None:
            super().__init__(between)

    made.__name__ = between.__name__
    return Case(made, images(3, 6), groups, **options)


def turned(turn: Callable[[Tensor, Tensor, Tensor], Tensor], *groups: Units) -> Case:
    class made(rotary):
        def __init__(self) -> None:
            super().__init__(turn)

    made.__name__ = f"rotary_{turn.__name__}"
    return Case(made, images(2, 5, 6), groups)


NUMBER = "its size is used as a number"
WIDTH = "a:0 b:1"


def _counted(members: str, units: int) -> Units:
    """A group whose size goes through a float and comes out whole: whether the float is read too, nobody can tell."""
    return Units(members, units, reason=NUMBER, line="int(", cautious=True)


CASES = [
    hidden(divided_by_elements, Units(WIDTH, 8)),
    hidden(filled_with_width, Units(WIDTH, 8, reason=NUMBER, line="torch.full")),
    hidden(alpha_of_width, Units(WIDTH, 8)),
    hidden(length_of_tensor, frozen=(Frozen("a:0", "a size is divided with a remainder, or rounded", "len(h.t())"),)),
    hidden(imported_logarithm, Units(WIDTH, 8, reason=NUMBER, line="log(h.shape[-1])")),
    hidden(halved_as_number, Units(WIDTH, 8, reason=NUMBER, line="// 2")),
    hidden(ones_of_width, Units(WIDTH, 8, reason="sum", line="torch.ones")),
    hidden(repeated_by_width, Units(WIDTH, 8, reason="sum", line="repeat")),
    hidden(noise, Units(WIDTH, 8, reason="random numbers are drawn anew", line="torch.randn"), train=False),
    hidden(squared_and_divided, Units(WIDTH, 8)),
    hidden(rounded_quotient, Units(WIDTH, 8, reason=NUMBER, line="rounding_mode")),
    Case(computed_by_float, images(4, 6), (_counted("a:0 b:1", 4), _counted("a:0", 4), Units("b:0 c:1", 7))),
    Case(squares_of_patches, images(2, 3, 4, 4), (_counted("a:0 b:1", 6),)),
    Case(third_by_float, images(4, 6), (_counted("a:0 b:1", 4), Units("b:0 c:1", 7))),
    Case(
        third_that_rounds,
        images(4, 6),
        (Units("b:0 c:1", 7),),
        (Frozen("a:0", "literal", "0.33333333333"),),
    ),
    Case(measured_and_thrown_away, images(3, 6), (Units(WIDTH, 8),)),
    Case(quotient_of_units, images(3, 6), (Units(WIDTH, 8),)),
    Case(largest_of_bag, lambda: torch.randint(0, 9, (3, 4)), (Units("words:1 head:1", 8),)),
    turned(
        halves,
        Units("frequencies:0 q:0 k:0", 4),
        Units("q:0 k:0 v:0 out:1", 2),
        Units("v:0 out:1", 8, lanes=2),
    ),
    turned(
        complex_numbers,
        Units("frequencies:0 q:0 k:0", 4, reason="default scale of attention", line="scaled_dot_product_attention"),
        Units("q:0 k:0 v:0 out:1", 2),
        Units("v:0 out:1", 8, lanes=2),
    ),
]
