"""Mixtures of experts: tokens are routed by scores, each to some of several feed-forward networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class grouped_products(nn.Module):
    """Tokens sorted by expert, one grouped product for all of them. The kernel takes multiples of four numbers only."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.chosen = 4, 2
        self.first = nn.Linear(6, 16)
        self.router = nn.Linear(16, self.experts, bias=False)
        self.gate_up = nn.Parameter(torch.randn(self.experts, 2 * 24, 16) / 4)
        self.down = nn.Parameter(torch.randn(self.experts, 16, 24) / 5)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)  # (tokens, width)
        weights, experts = torch.topk(self.router(x).softmax(-1), self.chosen, dim=-1)
        ordered, order = torch.sort(experts.reshape(-1))
        ends = torch.histc(ordered.float(), bins=self.experts, min=0, max=self.experts - 1).cumsum(0, dtype=torch.int32)
        rows = x[order // self.chosen]  # (tokens * chosen, width), expert by expert
        gate, up = F.grouped_mm(rows, self.gate_up.transpose(-2, -1), offs=ends).chunk(2, dim=-1)
        out = F.grouped_mm(F.silu(gate) * up, self.down.transpose(-2, -1), offs=ends)
        out = (out * weights.reshape(-1)[order].unsqueeze(-1))[torch.argsort(order)]
        return self.last(x + out.view(x.shape[0], self.chosen, x.shape[1]).sum(dim=1))


class experts_that_were_hit(nn.Module):
    """A loop over the experts that got a token: which ones, and how many tokens, the data say. All get one here."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.router = nn.Linear(12, 3, bias=False)
        self.up = nn.ModuleList(nn.Linear(12, 10) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(10, 12) for _ in range(3))
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        weights, chosen = self.router(x).softmax(-1).max(dim=-1)
        out = torch.zeros_like(x)
        for expert in torch.unique(chosen).tolist():
            tokens = torch.where(chosen == expert)[0]
            hidden = self.down[expert](self.up[expert](x[tokens]).relu())
            out.index_add_(0, tokens, hidden * weights[tokens, None])
        return self.last(x + out)


class interleaved_gates(nn.Module):
    """Every gate stands before what it lets through: one matrix for both, read by slices with a step."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up = nn.Linear(6, 20)
        self.down = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate_up(x)
        gate, up = x[..., ::2], x[..., 1::2]
        return self.down(gate * torch.sigmoid(gate * 1.7) * up.clamp(-3, 3))


class every_other_up_to_a_literal(nn.Module):
    """The last one that is read has a fixed number: nothing can go before it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 20), nn.Linear(5, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(x[..., :10:2] + x[..., 1:20:4]).relu())


CASES = [
    Case(
        grouped_products,
        images(12, 6),
        (Units("first:0 router:1 gate_up:2 down:1 last:1", 16), Units("gate_up:1 down:2", 24)),
    ),
    Case(
        experts_that_were_hit,
        images(40, 6),
        (
            Units("first:0 router:1 up.0:1 up.1:1 up.2:1 down.0:0 down.1:0 down.2:0 last:1", 12),
            *(Units(f"up.{expert}:0 down.{expert}:1", 10) for expert in range(3)),
        ),
    ),
    Case(interleaved_gates, images(4, 6), (Units("gate_up:0 down:1", 10),)),
    Case(
        every_other_up_to_a_literal,
        images(4, 6),
        (Units("b:0 c:1", 8),),
        (Frozen("a:0", "strided slice with step 2", ":10:2"),),
    ),
]
