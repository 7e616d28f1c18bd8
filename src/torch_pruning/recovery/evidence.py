"""What is known of a weight that is to be solved for: moments of its rows, or the rows where it is too wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from torch_pruning.recovery.moments import Moments, pooled
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.solve import Solution, least_squares, mean_shift
from torch_pruning.recovery.wide import Rows, block_width, by_blocks


@dataclass(slots=True)
class Evidence:
    """Rows of a weight: second moments of those to fit to and of those held out, or with a `width` all of them as they
    are, to be solved so many columns at a time."""

    options: Options
    width: int | None = None
    fit: Moments = field(default_factory=Moments)
    held_out: Moments = field(default_factory=Moments)
    rows: list[Rows] = field(default_factory=list)
    count: float = 0.0

    @classmethod
    def of(cls, x: Tensor, options: Options) -> Evidence:
        """None yet, of a weight with inputs like x [G, N, I]."""
        return cls(options, block_width(x.shape[-1], options))

    def add(self, rows: Sequence[Rows]) -> None:
        """Take in the rows of a use of the weight."""
        self.count += sum(float(weights.sum()) for _, _, weights in rows)
        if self.width is not None:
            self.rows += rows
            return
        for x, e, weights in rows:
            border = x.shape[1] - int(x.shape[1] * self.options.held_out)
            self.fit.add(x[:, :border], e[:, :border], weights[:border])
            self.held_out.add(x[:, border:], e[:, border:], weights[border:])

    @property
    def whole(self) -> Moments | None:
        """The moments of all rows, where they fit into memory."""
        return pooled([self.fit, self.held_out]) if self.width is None else None

    def solution(self, shifts: bool) -> Solution | None:
        """By the method of the options; None without rows, or for means without a place for a shift."""
        if self.options.method == "mean":
            return self._mean() if shifts else None
        if self.width is not None:
            return by_blocks(self.rows, shifts, self.options, self.width)
        return least_squares(self.fit, self.held_out, shifts, self.options.strengths)

    def _mean(self) -> Solution | None:
        if self.width is None:
            return mean_shift(self.fit, self.held_out)
        moments = Moments()
        for x, e, weights in self.rows:
            moments.add(x[..., :0], e, weights)
        return mean_shift(moments, Moments())
