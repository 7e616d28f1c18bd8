"""The criterion that rests on Kronecker factors of the Fisher matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from torch_pruning.importance.criterion import TARGET_TYPES, Criterion, Types, added
from torch_pruning.importance.factors import increase_of_columns, increase_of_rows
from torch_pruning.importance.observation import Observer
from torch_pruning.importance.reductions import Normalizer
from torch_pruning.importance.shares import Share
from torch_pruning.importance.statistics import KRONECKER, Factors, stale
from torch_pruning.importance.tensors import widened


class OBDCImportance(Observer, Criterion):
    """Second order change of the loss when channels go, with the Fisher matrix of a weight as S ⊗ A.

    Rows, which make a unit: score = S_rr * w_r A w_r^T / 2. Columns, which read it: tr(S w_j A_jj w_j^T) / 2, w_j
    [O, taps]. A is the mean of a a^T, a what the weight reads; S the sum of g g^T, g the gradients of what it makes;
    over samples and pixels or tokens. A unit's rows and columns are added. Linear layers and convolutions have factors.

    Wang et al., "EigenDamage: Structured Pruning in the Kronecker-Factored Eigenbasis", 2019, C-OBD (section 3.2);
    Grosse and Martens, "A Kronecker-factored approximate Fisher matrix for convolution layers", 2016.
    `num_classes` is accepted for users of Torch-Pruning 1.x: the loss of the user's loop already says it.
    """

    needs = frozenset((KRONECKER,))

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.num_classes = num_classes

    def select(self, shares: list[Share], where: str) -> list[Share]:
        known = [share for share in shares if self._increase(share) is not None]
        return self.with_statistics(known, where, "a loss.backward()")

    def score(self, shares: Sequence[Share]) -> Tensor:
        found = [(share, self._increase(share)) for share in shares]
        return added([share.positions(vector) for share, vector in found if vector is not None])

    def _increase(self, share: Share) -> Tensor | None:
        """For each position of the share's dimension, what its removal adds to the loss."""
        known = [] if self.statistics is None else self.statistics.kronecker.get(share.name, [])
        weight = widened(share.tensor)
        if not known or share.dim > 1:
            return None
        for factors in known:
            self._require_fit(factors, share)
        if share.dim == known[0].column_dim:
            found = [increase for factors in known if (increase := increase_of_columns(factors, weight)) is not None]
            return added(found) if found else None
        vector = weight.new_zeros(weight.shape[share.dim])
        for factors in known:
            increase = increase_of_rows(factors)
            if increase is None:
                return None
            vector[factors.start : factors.start + len(increase)] = increase
        return vector

    def _require_fit(self, factors: Factors, share: Share) -> None:
        """Raises ImportanceError if the weight was pruned since it was observed."""
        if factors.rows is None or factors.taps is None:
            return
        groups, rows, _ = factors.rows.shape
        seen = {1 - factors.column_dim: factors.start + groups * rows, factors.column_dim: len(factors.taps) // groups}
        for dim, size in seen.items():
            now = share.tensor.shape[dim]
            if size > now or (dim == factors.column_dim and size != now):
                raise stale(share.name, dim, size, now)
