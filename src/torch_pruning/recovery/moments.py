"""Second moments of inputs and of what a layer's outputs lack, accumulated batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torch_pruning.recovery.precision import widest

MOST = 10.0  # times the energy that nine rows of ten stay within
_COMMON = 0.9


def row_weights(outputs: Tensor) -> Tensor:
    """[N, O] -> [N]: 1, and less for rows that are far larger than the others, so that none counts more than MOST
    common ones. In transformers some tokens are a thousand times as long as the rest, and would decide everything.

    Sun et al., "Massive Activations in Large Language Models", 2024, describe them.
    """
    energy = outputs.square().sum(1)  # (rows,)
    if not len(energy):
        return energy
    most = MOST * torch.quantile(energy[:: len(energy) // 2**20 + 1], _COMMON)  # quantile takes 2^24 at most
    return torch.where((energy > most) & (most > 0), most / energy, torch.ones_like(energy))


class Moments:
    """Sums over rows x [G, N, I] and errors e [G, N, O], in float64 where the device has it: memory G * I * (I + O),
    whatever N is.

    xx [G, I, I], ex [G, O, I], x [G, 1, I], e [G, O, 1], and ee, the sum of squares of e.
    """

    __slots__ = ("count", "e", "ee", "ex", "x", "xx")

    def __init__(self) -> None:
        self.count = 0.0
        self.xx = self.ex = self.x = self.e = torch.zeros(())
        self.ee = torch.zeros(())

    def add(self, x: Tensor, e: Tensor, weights: Tensor | None = None) -> None:
        """Take in more rows, each as often as its weight says: weights [N], one by default.

        Products are computed in the rows' own precision and summed in the widest.
        """
        if not x.shape[1]:
            return
        wide = widest(x.device)
        w = x.new_ones(x.shape[1], 1) if weights is None else weights.to(x)[:, None]
        weighted = w * x
        terms = (x.mT @ weighted, e.mT @ weighted, weighted.sum(1, keepdim=True), (w * e).sum(1, keepdim=True).mT)
        xx, ex, sum_x, sum_e = (term.to(wide) for term in terms)
        if not self.count:
            self.xx, self.ex, self.x, self.e = xx, ex, sum_x, sum_e
        else:
            self.xx += xx
            self.ex += ex
            self.x += sum_x
            self.e += sum_e
        self.ee = self.ee.to(e.device, wide) + (w * e.square()).sum(dtype=wide)
        self.count += float(w.sum(dtype=wide))

    def variance(self) -> float:
        """Mean over rows of |e - mean e|^2."""
        return float(self.ee / self.count - (self.e / self.count).square().sum()) if self.count else 0.0

    def with_errors(self, rows: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Moments:
        """The moments of the same x with other e and their weights; nothing that is about x alone is summed again."""
        other = Moments()
        other.count, other.xx, other.x = self.count, self.xx, self.x
        other.ex, other.e, other.ee = torch.zeros_like(self.ex), torch.zeros_like(self.e), torch.zeros_like(self.ee)
        for x, e, weights in rows:
            weighted = weights.to(e)[:, None] * e
            other.ex += (weighted.mT @ x).to(other.ex)
            other.e += weighted.sum(1, keepdim=True).mT.to(other.e)
            other.ee += (weighted * e).sum(dtype=other.ee.dtype)
        return other

    def centred(self) -> tuple[Tensor, Tensor]:
        """(xx, ex) about the means, as sums: what is left to explain once an intercept is free."""
        return self.xx - self.x.mT @ self.x / self.count, self.ex - self.e @ self.x / self.count

    def loss(self, change: Tensor, shift: Tensor) -> float:
        """sum |e - change x - shift|^2 for change [G, O, I], shift [G, O, 1].

        = ee - 2 <change, ex> - 2 <shift, e> + <change xx, change> + 2 <change x, shift> + n |shift|^2
        """
        linear = (change * self.ex).sum() + (shift * self.e).sum()
        square = ((change @ self.xx) * change).sum() + self.count * shift.square().sum()
        return float(self.ee - 2 * linear + square + 2 * (change @ self.x.mT * shift).sum())


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of all rows together."""
    filled = [part for part in parts if part.count]
    total = Moments()
    if filled:
        total.count = sum(part.count for part in filled)
        for name in ("xx", "ex", "x", "e", "ee"):
            setattr(total, name, torch.stack([getattr(part, name) for part in filled]).sum(0))
    return total
