"""How outputs of the dense model become those that the pruned one should give: fewer, by a factor, or combined anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Plan, counts_of


def output_factors(graph: Graph, plan: Plan) -> dict[str, Tensor]:
    """{tensor: factor of each of its outputs} of what repairs scale so that an op behind it comes out right: there the
    pruned model's outputs are meant to differ from the dense ones by this factor."""
    factors: dict[str, Tensor] = {}
    for repair in graph.repairs if plan.choice is not None else ():
        change = repair.change(counts_of(plan.choice or {}))
        if repair.behind or change == 1.0:
            continue
        for target in repair.targets:
            size = graph.axes[target.tensor][target.dim].size
            factor = factors.setdefault(target.tensor, torch.ones(size, dtype=torch.float64))
            factor[list(target.positions)] *= change**repair.power
    return factors


@dataclass(frozen=True, slots=True)
class Turn:
    """Outputs of a weight that become combinations of outputs of the dense one: [heads, r] from [heads, D]."""

    pruned: Tensor
    dense: Tensor
    matrix: Tensor  # [heads, r, D]

    def put(self, pruned: Tensor, dense: Tensor, dim: int) -> Tensor:
        """`pruned` with these outputs, which lie along `dim`, made anew from those of `dense`."""
        flat = dense.movedim(dim, 0)[self.dense.to(dense.device)].reshape(*self.dense.shape, -1)  # (heads, D, rest)
        made = (self.matrix.to(flat.device) @ flat.to(self.matrix.dtype)).to(pruned.dtype)
        result = pruned.movedim(dim, 0).clone()
        result[self.pruned.flatten().to(pruned.device)] = made.reshape(-1, *result.shape[1:])
        return result.movedim(0, dim)


@dataclass(frozen=True, slots=True)
class Outputs:
    """How rows of the dense model's outputs become those that the pruned one should give: which of them stay, the
    factor that repairs have put on each, and which are combined anew (queries and keys)."""

    kept: Tensor | None = None
    factors: Tensor | None = None
    turns: Sequence[Turn] = ()

    def of(self, rows: Tensor) -> Tensor:
        """[N, outputs] -> [N, outputs that stay]"""
        if self.factors is not None:
            rows = rows * self.factors.to(rows)
        pruned = rows if self.kept is None else rows[:, self.kept.to(rows.device)]
        for turn in self.turns:
            pruned = turn.put(pruned, rows, 1)
        return pruned
