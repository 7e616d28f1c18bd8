"""Criteria that look at the tensors alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.graph.groups import Group
from torch_pruning.importance.base import Scores, group_scores, lane_count


@dataclass(frozen=True, slots=True)
class MagnitudeScore:
    """Lp norm over all members: score(u) = (sum over members m, over entries w of m that belong to u, of |w|^p)^(1/p).

    Li et al., "Pruning Filters for Efficient ConvNets", 2017 (L1 of one filter); over whole groups as in
    Fang et al., "DepGraph: Towards Any Structural Pruning", 2023.
    """

    p: float = 2.0

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        def power(entries: Tensor) -> Tensor:
            return entries.square() if self.p == 2 else entries.abs().pow(self.p)

        return group_scores(group, tensors, power).pow(1 / self.p)


@dataclass(frozen=True, slots=True)
class RandomScore:
    """Independent uniform scores; the same for the same seed and group name, whatever else is pruned."""

    seed: int = 0

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{group.name}".encode()))
        return torch.rand(lane_count(group), group.size, generator=generator)
