"""Second moments of inputs and of what a layer's outputs lack, accumulated batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Moments:
    """Sums over rows x [G, N, I] and errors e [G, N, O], in float64: memory G * I * (I + O), whatever N is.

    xx [G, I, I], ex [G, O, I], x [G, 1, I], e [G, O, 1], and ee, the sum of squares of e.
    """

    __slots__ = ("count", "e", "ee", "ex", "x", "xx")

    def __init__(self) -> None:
        self.count = 0
        self.xx = self.ex = self.x = self.e = torch.zeros(())
        self.ee = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor, e: Tensor) -> None:
        """Take in more rows. Products are computed in the rows' own precision and summed in float64."""
        if not x.shape[1]:
            return
        double = torch.float64
        terms = (x.mT @ x, e.mT @ x, x.sum(1, keepdim=True), e.sum(1, keepdim=True).mT)
        xx, ex, sum_x, sum_e = (term.to(double) for term in terms)
        if not self.count:
            self.xx, self.ex, self.x, self.e = xx, ex, sum_x, sum_e
        else:
            self.xx += xx
            self.ex += ex
            self.x += sum_x
            self.e += sum_e
        self.ee = self.ee.to(e.device) + e.to(double).square().sum()
        self.count += x.shape[1]

    def with_errors(self, rows: Iterable[tuple[Tensor, Tensor]]) -> Moments:
        """The moments of the same x with other e; nothing that is about x alone is summed again."""
        other = Moments()
        other.count, other.xx, other.x = self.count, self.xx, self.x
        other.ex, other.e, other.ee = torch.zeros_like(self.ex), torch.zeros_like(self.e), torch.zeros_like(self.ee)
        for x, e in rows:
            other.ex += (e.mT @ x).to(other.ex)
            other.e += e.sum(1, keepdim=True).mT.to(other.e)
            other.ee += e.to(other.ee.dtype).square().sum()
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
