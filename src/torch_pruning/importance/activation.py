"""Criteria that look at activations.

Units are looked at where layers read them, after whatever nonlinearity and normalisation; units that no layer reads
(queries and keys meet each other) where layers make them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from torch_pruning.importance.criterion import TARGET_TYPES, Criterion, Types, added
from torch_pruning.importance.observation import Observer
from torch_pruning.importance.reductions import Normalizer
from torch_pruning.importance.shares import Share, spread
from torch_pruning.importance.statistics import ABSOLUTE, GATES, GATES_APART, MOMENTS, NONZERO, vector_of


class _OfActivations(Observer, Criterion):
    """What criteria of activations share: which members count, and their statistics as vectors."""

    kind: str
    watched: ClassVar[str] = "a loop over model(batch)"

    def select(self, shares: list[Share], where: str) -> list[Share]:
        read = [share for share in shares if self.reads(share) is not None]
        made = [share for share in shares if self.makes(share) is not None]
        return self.with_statistics(read or made, where, self.watched)

    def reads(self, share: Share) -> Tensor | None:
        """The statistic of what is contracted with the share's dimension: a number for each position."""
        if self.statistics is None:
            return None
        return vector_of(self.statistics.reads, share.name, share.dim, share.tensor.shape[share.dim], self.kind)

    def makes(self, share: Share) -> Tensor | None:
        """The statistic of what comes out along the share's dimension."""
        if self.statistics is None:
            return None
        return vector_of(self.statistics.makes, share.name, share.dim, share.tensor.shape[share.dim], self.kind)

    def seen(self, share: Share) -> Tensor:
        """Read where it is read, else made."""
        found = self.reads(share)
        found = self.makes(share) if found is None else found
        assert found is not None
        return found

    @abstractmethod
    def score(self, shares: Sequence[Share]) -> Tensor: ...


class ActivationImportance(_OfActivations):
    """Mean size of a unit's activations: score(u) = mean over samples, pixels and tokens of |x_u|.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017, section 2.2.
    """

    kind = ABSOLUTE
    needs = frozenset((ABSOLUTE,))

    def score(self, shares: Sequence[Share]) -> Tensor:
        vectors = [self.seen(share) for share in shares]
        total = added([share.positions(vector) for share, vector in zip(shares, vectors, strict=True)])
        ones = [torch.ones_like(vector) for vector in vectors]
        return total / added([share.positions(one) for share, one in zip(shares, ones, strict=True)]).clamp(min=1)


class APoZImportance(ActivationImportance):
    """Share of a unit's activations that are not zero: score(u) = 1 - APoZ(u), APoZ = mean of [x_u = 0].

    Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep Architectures", 2016,
    eq. 1.
    """

    kind = NONZERO
    needs = frozenset((NONZERO,))


class FisherImportance(_OfActivations):
    """What the loss would lose: score(u) = sum over samples of (sum over positions of x_u dL/dx_u)^2 / 2.

    That is the Fisher information of a factor on the unit, where the loss is that of each sample alone (dim 0 of what
    is passed through the model; sums over samples, not means). `per_position` takes a factor for each pixel or token:
    less noise where every position has a loss of its own, as in language models. An activation that several weights
    read counts once, and units that are read at several places, as those of a residual stream, have the sum.

    Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018, eq. 8; Liu et al., "Group
    Fisher Pruning for Practical Network Compression", 2021.
    """

    needs = frozenset((GATES,))
    watched = "a loss.backward()"

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
        per_position: bool = False,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.kind = GATES_APART if per_position else GATES

    def score(self, shares: Sequence[Share]) -> Tensor:
        return added([share.positions(self.seen(share)) for share in shares]) / 2


class WandaImportance(_OfActivations):
    """Weights times the size of what they read: score(u) = sum over its entries of |w_ij| * ||x_j||_2.

    Both the rows that make a unit and the columns that read it count. Sun et al., "A Simple and Effective Pruning
    Approach for Large Language Models", 2023, eq. 1, summed over units.
    """

    kind = "square"
    needs = frozenset((MOMENTS,))

    def select(self, shares: list[Share], where: str) -> list[Share]:
        known = [share for share in shares if self._norms(share) is not None]
        return self.with_statistics(known, where, self.watched)

    def score(self, shares: Sequence[Share]) -> Tensor:
        return added([share.sums(self._weighted(share)) for share in shares])

    def _weighted(self, share: Share) -> Tensor:
        norms = self._norms(share)
        assert norms is not None
        weights = share.values.abs()
        return weights * share.own(norms).to(weights.device)

    def _norms(self, share: Share) -> Tensor | None:
        """||x_j||_2 for every entry of the tensor, by the dimension on which something is read."""
        if self.statistics is None:
            return None
        shape = share.tensor.shape
        for dim, size in enumerate(shape):
            squares = vector_of(self.statistics.reads, share.name, dim, size, self.kind)
            if squares is not None:
                return spread(squares.sqrt(), shape, dim).expand(shape)
        return None


class FluctuationImportance(_OfActivations):
    """How much a unit moves what reads it: score(u) = sum over its columns j of var(x_j) * ||w_:j||_2^2.

    A constant unit scores 0: the bias can take its place. Units that no layer reads score var(x_u). An et al.,
    "Fluctuation-based Adaptive Structured Pruning for Large Language Models", 2024, eq. 5.
    """

    kind = "variance"
    needs = frozenset((MOMENTS,))

    def score(self, shares: Sequence[Share]) -> Tensor:
        return added([self._of(share) for share in shares])

    def _of(self, share: Share) -> Tensor:
        variances = self.reads(share)
        if variances is None:
            return share.positions(self.seen(share))
        weights = share.values.abs().square()
        shape = share.tensor.shape
        return share.sums(weights * share.own(spread(variances, shape, share.dim).expand(shape)).to(weights.device))
