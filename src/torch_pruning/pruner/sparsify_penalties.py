"""What sparse training adds to the loss: penalties on whole groups, each with its gradient in closed form.

w_u are all entries of the parameters of a group that belong to unit u, and ||w_u|| is their Euclidean norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from torch_pruning.importance.base import Scores
from torch_pruning.importance.spread import GroupEntries

Entries = Mapping[int, Tensor]  # by index of the part of a group, in float32 or more


class Penalty(Protocol):
    """A term of the loss for one group. `strengths` are its own [lanes, units], or None where it keeps none."""

    @property
    def scales_only(self) -> bool:
        """Whether it looks at the scales of batch norms alone."""
        ...

    @property
    def start(self) -> float | None:
        """The strength that every unit starts from, if the penalty keeps any."""
        ...

    def grown(self, strengths: Scores, norms: Scores) -> Scores:
        """The strengths after one more period of training."""
        ...

    def value(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> Tensor:
        """The term itself, differentiable in the entries."""
        ...

    def gradients(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> dict[int, Tensor]:
        """Its gradient with respect to the entries of each part, in closed form."""
        ...


@dataclass(frozen=True, slots=True)
class _NoStrengths:
    """A penalty without a memory."""

    @property
    def scales_only(self) -> bool:
        return False

    @property
    def start(self) -> float | None:
        return None

    def grown(self, strengths: Scores, norms: Scores) -> Scores:
        return strengths


@dataclass(frozen=True, slots=True)
class GroupNormPenalty(_NoStrengths):
    """reg/2 * sum over u of gamma_u ||w_u||^2, gamma_u = 2^(alpha (n_max - ||w_u||) / (n_max - n_min)), held constant.

    The less important a unit, the harder it is pushed: between reg and 2^alpha reg, compared with the largest and the
    smallest norm of its group (of its lane). Equal norms are all pushed by reg.
    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 4.
    """

    reg: float = 1e-4
    alpha: float = 4.0

    def value(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> Tensor:
        squared = squared_norms(units, entries)
        return 0.5 * (self._factors(squared.detach()) * squared).sum()

    def gradients(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> dict[int, Tensor]:
        return _scaled(units, entries, self._factors(squared_norms(units, entries)))

    def _factors(self, squared: Scores) -> Scores:
        return self.reg * torch.exp2(self.alpha * _unimportance(squared.sqrt()))


@dataclass(frozen=True, slots=True)
class GroupLassoPenalty(_NoStrengths):
    """reg * sum over u of ||w_u||: units go to exactly zero as wholes. Its gradient is taken as 0 where w_u is zero.

    Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006, equation 2.1 with equal
    weights, over the groups of DepGraph.
    """

    reg: float = 1e-4

    def value(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> Tensor:
        return self.reg * _root(squared_norms(units, entries)).sum()

    def gradients(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> dict[int, Tensor]:
        return _scaled(units, entries, self.reg * _inverse(squared_norms(units, entries).sqrt()))


@dataclass(frozen=True, slots=True)
class BatchNormScalePenalty(_NoStrengths):
    """reg * sum of |gamma| over the scales of batch norms; with `group_lasso`, reg * sum over u of ||gamma_u||.

    That is the norm over all scales that belong to one unit, so that coupled layers agree on which channels go.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, equation 1.
    """

    reg: float = 1e-5
    group_lasso: bool = False

    @property
    def scales_only(self) -> bool:
        return True

    def value(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> Tensor:
        if self.group_lasso:
            return GroupLassoPenalty(self.reg).value(units, entries, None)
        return self.reg * units.sum({index: scales.abs() for index, scales in entries.items()}).sum()

    def gradients(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> dict[int, Tensor]:
        if self.group_lasso:
            return GroupLassoPenalty(self.reg).gradients(units, entries, None)
        every = next(iter(entries.values())).new_full((units.lanes, units.units), self.reg)
        return _scaled(units, {index: scales.sign() for index, scales in entries.items()}, every)


@dataclass(frozen=True, slots=True)
class GrowingPenalty:
    """1/2 * sum over u of lambda_u ||w_u||^2. lambda_u starts at reg; each `update` adds to it
    delta_reg (n_max - ||w_u||) / (n_max - n_min), nothing where all norms are equal.

    Wang et al., "Neural Pruning via Growing Regularization", ICLR 2021, equations 2 and 3; there the strengths of all
    units grow alike and divide them by their curvature, here the less important ones grow faster.
    """

    reg: float = 1e-5
    delta_reg: float = 1e-5

    @property
    def scales_only(self) -> bool:
        return False

    @property
    def start(self) -> float | None:
        return self.reg

    def grown(self, strengths: Scores, norms: Scores) -> Scores:
        return strengths + self.delta_reg * _unimportance(norms).to(strengths.device)

    def value(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> Tensor:
        assert strengths is not None
        squared = squared_norms(units, entries)
        return 0.5 * (strengths.to(squared.device) * squared).sum()

    def gradients(self, units: GroupEntries, entries: Entries, strengths: Scores | None) -> dict[int, Tensor]:
        assert strengths is not None
        return _scaled(units, entries, strengths)


def squared_norms(units: GroupEntries, entries: Entries) -> Scores:
    """||w_u||^2 over the given entries: [lanes, units]."""
    squares = {i: part.abs().square() if part.is_complex() else part.square() for i, part in entries.items()}
    return units.sum(squares)


def _scaled(units: GroupEntries, entries: Entries, factors: Scores) -> dict[int, Tensor]:
    """Each entry times the factor of its unit; 0 where no unit owns it."""
    return {index: units.spread(factors.to(part.device), index) * part for index, part in entries.items()}


def _unimportance(norms: Scores) -> Scores:
    """(max - norm) / (max - min) within each lane; 0 where all are equal."""
    highest = norms.amax(1, keepdim=True)
    span = highest - norms.amin(1, keepdim=True)
    return torch.where(span > 0, (highest - norms) / torch.where(span > 0, span, 1), 0)


def _root(squared: Scores) -> Scores:
    """The square root with a gradient of 0 at 0, where its own is infinite."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def _inverse(norms: Scores) -> Scores:
    return torch.where(norms > 0, 1 / torch.where(norms > 0, norms, 1), 0)
