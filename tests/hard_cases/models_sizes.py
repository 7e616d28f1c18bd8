"""Sizes in Python code: literals, attributes, shapes, loops, comparisons, config objects, numbers made of sizes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class residual_where_widths_agree(nn.Module):
    """if y.shape[1] == x.shape[1]: the two that agree must go on agreeing, the two that do not must not begin to."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)])
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            y = block(x).relu()
            if y.shape[1] == x.shape[1]:
                y = y + x
            x = y
        return self.head(x)


class agreeing_by_chance(nn.Module):
    """Equal sizes are compared, nothing else ties them: the comparison does."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 8)
        self.out_a = nn.Linear(8, 5)
        self.out_b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        if a.size(-1) != b.size(-1):
            raise ValueError("widths must agree")
        return self.out_a(a.tanh()) * self.out_b(b.tanh())


class wider_than(nn.Module):
    """A branch on which of two widths is larger: the smaller may shrink, the larger by itself may not."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 9)
        self.b = nn.Linear(6, 8)
        self.out_a = nn.Linear(9, 5)
        self.out_b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        out = self.out_a(a.tanh()) + self.out_b(b.tanh())
        return out if a.shape[1] > b.shape[1] else -out


class at_least_six(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x.tanh()) if x.shape[1] >= 6 else self.b(x)


class asserted_width(nn.Module):
    """assert x.shape[1] == self.width, an attribute for nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        assert x.shape[1] == self.width
        return self.b(x)


class asserted_literal(asserted_width):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        assert x.shape[1] == 8, "eight channels"
        return self.b(x)


class divisible(nn.Module):
    """assert width % 4 == 0: counts go in fours."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        assert x.shape[1] % 4 == 0
        return self.b(x)


class complex_tail(nn.Module):
    """The last four of twelve dims of each head are read as complex numbers where they lie: the others go in pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = 8
        self.a = nn.Linear(6, 36)
        self.b = nn.Linear(36, 5)

    def forward(self, x: Tensor) -> Tensor:
        plain, turned = self.a(x).view(x.shape[0], 3, -1).split([self.plain, 4], dim=-1)
        pairs = torch.view_as_complex(turned.unflatten(-1, (2, 2))) * torch.tensor([1j, -1j])
        return self.b(torch.cat([plain.tanh(), torch.view_as_real(pairs).flatten(-2)], -1).flatten(1))


class quarter_by_attribute(nn.Module):
    """4 * self.quarter is the width."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = 4
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(x.shape[0], 1, 4 * self.quarter).squeeze(1))


class loop_over_width(nn.Module):
    """A loop over range(width): what is taken apart by number is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 4)
        self.b = nn.Linear(4, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        total = torch.zeros_like(x)
        for i in range(x.shape[1]):
            total = total + x * x[:, i : i + 1]
        return self.c(self.b(total).relu())


class squeezed(nn.Module):
    """Two units and a squeeze: a second one must stay, or the dimension goes too."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 2)
        self.b = nn.Linear(6, 8)
        self.c = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.a(x).unsqueeze(1).squeeze()  # (batch, 2)
        return self.c(self.b(x)) * weights.sum(1, keepdim=True)


class squeezed_three(squeezed):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 4)


class literal_heads(nn.Module):
    """view(b, 2, 64): both factors are literals."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(12, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).view(x.shape[0], 3, 4).tanh().flatten(1)
        return self.c(self.b(h).relu())


class number_of_size(nn.Module):
    """A width as a number in a tensor: removal is not exact unless the number is put right."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) + math.log(x.shape[1])


class config_object(nn.Module):
    """Widths in a config, in a dict and in a list of it; the layers read them there."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config = config or SimpleNamespace(heads=3, sizes=[4, {"hidden": 7}])
        self.a = nn.Linear(6, 12)
        self.b = nn.Linear(12, self.config.sizes[1]["hidden"])
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).view(x.shape[0], self.config.heads, self.config.sizes[0]).tanh().flatten(1)
        return self.c(self.b(h).view(x.shape[0], self.config.sizes[1]["hidden"]).relu())


class part_of_a_config(nn.Module):
    """The outer module holds the whole config, the inner one a part of it: one object, seen from two places."""

    class Inner(nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config
            self.a = nn.Linear(6, config.heads * config.head)
            self.scale = nn.Parameter(torch.rand(config.heads * config.head))

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).view(x.shape[0], self.config.heads, self.config.head)
            return (x * self.scale.view(self.config.heads, self.config.head)).tanh()

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(inner=SimpleNamespace(heads=3, head=4))
        self.inner = self.Inner(self.config.inner)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.inner(x).flatten(1))


class class_attribute(nn.Module):
    """A width that stands on the class."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, self.width)
        self.b = nn.Linear(self.width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(-1, self.width).relu())


class normalised_shape(nn.Module):
    """Functional norms that are given sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.stem = nn.Linear(6, 8)
        self.a = nn.Linear(8, 12)
        self.b = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(self.stem(x), (self.width,))
        return self.b(F.group_norm(self.a(x), 3).relu())


class expanded(nn.Module):
    """A token expanded to the batch and a vector expanded to a width that is read from another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.gain = nn.Parameter(torch.randn(1))
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, x.shape[-1]), x], 1)
        return self.b(x * self.gain.expand(x.shape[-1]))


class made_to_size(nn.Module):
    """Zeros and ones of the width of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        zeros = torch.zeros(x.shape[0], x.shape[1], dtype=x.dtype)
        return self.b(torch.cat([x + zeros, x * torch.ones_like(x)], 1))


class positions_to_size(nn.Module):
    """arange(width): channels have numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * torch.arange(x.shape[1])
        return self.c(self.b(x).relu())


_pixels = images(2, 3, 4, 4)
_tokens = images(2, 3, 6)
_rows = images(16, 6)
_last = Units("b:0 c:1", 7)

CASES = (
    Case(
        residual_where_widths_agree,
        _pixels,
        (Units("blocks.0:0 blocks.1:0 blocks.1:1 blocks.2:1", 8), Units("blocks.2:0 head:1", 6)),
    ),
    Case(agreeing_by_chance, _rows, (Units("a:0 out_a:1", 8), Units("b:0 out_b:1", 8))),
    Case(wider_than, _rows, (Units("a:0 out_a:1", 9, guarded=True), Units("b:0 out_b:1", 8))),
    Case(at_least_six, _rows, (Units("a:0 b:1", 8),)),
    Case(asserted_width, _rows, (Units("a:0 b:1", 8),)),
    Case(asserted_literal, _rows, (), (Frozen("a:0", "the code needs", "x.shape[1] == 8"),)),
    Case(divisible, _rows, (Units("a:0 b:1", 16),)),
    Case(complex_tail, _rows, (Units("a:0 b:1", 8, lanes=3),)),
    Case(quarter_by_attribute, _rows, (Units("a:0 b:1", 16),)),
    Case(loop_over_width, _rows, (_last,), (Frozen("a:0", "single unit", "x[:, i : i + 1]"),)),
    Case(squeezed, _rows, (Units("a:0", 2, guarded=True), Units("b:0 c:1", 8))),
    Case(squeezed_three, _rows, (Units("a:0", 4), Units("b:0 c:1", 8))),
    Case(literal_heads, _rows, (_last,), (Frozen("a:0", "literal", "view(x.shape[0], 3, 4)"),)),
    Case(
        number_of_size,
        _rows,
        (Units("a:0 b:1", 8, reason="its size is used as a number", line="math.log(x.shape[1])"),),
    ),
    Case(config_object, _rows, (Units("a:0 b:1", 3), Units("a:0 b:1", 4, lanes=3), _last)),
    Case(
        part_of_a_config,
        _rows,
        (Units("inner.a:0 inner.scale:0 b:1", 3), Units("inner.a:0 inner.scale:0 b:1", 4, lanes=3)),
    ),
    Case(class_attribute, _rows, (Units("a:0 b:1", 8),)),
    Case(
        normalised_shape,
        _rows,
        (
            Units("stem:0 a:1", 8, reason="layer norm", line="F.layer_norm("),
            Units("a:0 b:1", 4, 3, "group norm", "F.group_norm("),
        ),
        (Frozen("a:0", "literal 3", "F.group_norm("),),
    ),
    Case(expanded, _tokens, (Units("token:2 a:0 b:1", 8),)),
    Case(made_to_size, _rows, (Units("a:0 b:1", 8),)),
    Case(positions_to_size, _rows, (_last,), (Frozen("a:0", "", "torch.arange(x.shape[1])"),)),
)
