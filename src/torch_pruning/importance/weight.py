"""Criteria that look at the tensors alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from torch_pruning.graph.groups import Group
from torch_pruning.importance.criterion import TARGET_TYPES, Criterion, Types, added
from torch_pruning.importance.reductions import Normalizer
from torch_pruning.importance.shares import Share
from torch_pruning.importance.units import lane_count


class MagnitudeImportance(Criterion):
    """Size of the weights: per member, score(u) = sum over its entries w that belong to u of |w|^p.

    With `group_reduction="joint"` it is the Lp norm of all of them, (sum |w|^p)^(1/p).

    Li et al., "Pruning Filters for Efficient ConvNets", 2017 (L1 of one filter); over whole groups as in
    Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, eq. 3.
    """

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
    ) -> None:
        if not p > 0:
            raise ValueError(f"p must be positive; found {p!r} for {type(self).__name__}: 1 and 2 are usual")
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.p = p

    def score(self, shares: Sequence[Share]) -> Tensor:
        total = added([share.power_sums(self.p) for share in shares])
        return total.pow(1 / self.p) if self.joint else total


class LAMPImportance(MagnitudeImportance):
    """Magnitude relative to what is at least as large: s_u / sum over v with s_v >= s_u of s_v, s = sum |w|^p.

    Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021, eq. 1, over units.
    """

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "lamp",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
    ) -> None:
        super().__init__(p, group_reduction, normalizer, bias, target_types)


class BNScaleImportance(MagnitudeImportance):
    """Size of the scale of batch norms: score(u) = |gamma_u| (with `bias` also |beta_u|).

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017.
    """

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = (_BatchNorm,),
    ) -> None:
        super().__init__(1, group_reduction, normalizer, bias, target_types)

    def instead(self, shares: list[Share]) -> list[Share]:
        return []


class FPGMImportance(Criterion):
    """Distance from the other units: score(u) = sum over v of ||w_u - w_v||_p; low next to the geometric median.

    He et al., "Filter Pruning via Geometric Median for Deep Neural Networks Acceleration", 2019, eq. 6. With
    `group_reduction="joint"` w_u are all weights of a unit, as one vector. Lanes are compared each within itself.
    """

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.p = p

    def score(self, shares: Sequence[Share]) -> Tensor:
        rows = [share.rows() for share in shares]
        vectors = torch.cat([row.to(rows[0].device) for row in rows], -1)  # (lanes, units, entries)
        return torch.cdist(vectors, vectors, p=self.p).sum(-1)


class RandomImportance(Criterion):
    """Independent uniform scores.

    With a `seed` they are the same for the same group name, whatever else is pruned; without, torch's generator is
    drawn from.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__("joint", None, True, None)
        self.seed = seed

    def __call__(self, group: Any, tensors: Mapping[str, Tensor] | None = None) -> Any:
        if not isinstance(group, Group):
            return super().__call__(group)
        generator = None
        if self.seed is not None:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{group.name}".encode()))
        scores = torch.rand(lane_count(group), group.size, generator=generator)
        return scores if tensors is None else scores.to(tensors[group.members[0].tensor].device)

    def score(self, shares: Sequence[Share]) -> Tensor:
        share = shares[0]
        units = share.positions(torch.ones(share.tensor.shape[share.dim])).shape
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        return torch.rand(units, generator=generator)
