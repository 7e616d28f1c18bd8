"""Ridge regression towards the present weight, its strength chosen on rows held out.

With e = y - W x - b, what a layer's outputs lack under its present weight W and bias b, the change D and shift s
minimise

    sum |e - D x - s|^2 + strength * |D|^2      D = (E X^T) (X X^T + strength * I)^-1,  s = mean(e) - D mean(x)

with X and E about their means where a shift is possible. At strength 0 this is (Y X^T) (X X^T)^-1 for the whole
weight. D = 0 is among the candidates of the minimisation, so the squared error on the calibration rows is never above
that of W and b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_pruning.recovery.moments import Moments, pooled

# Relative to the mean of the diagonal of X X^T.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, slots=True)
class Solution:
    """What to add to a weight [G, O, I] and a bias [G, O, 1], and the squared error per row before and after."""

    change: Tensor
    shift: Tensor
    strength: float
    before: float
    after: float
    held_out_before: float = float("nan")
    held_out_after: float = float("nan")


def least_squares(
    fit: Moments, held_out: Moments, shifts: bool, strengths: Sequence[float] = STRENGTHS
) -> Solution | None:
    """The best change of the weight, and of the bias where it `shifts`; None if there are no rows.

    The strength that does best on `held_out` after a fit to `fit`; the change is then fitted to both. Infinity, which
    leaves the weight as it is and fits the shift alone, is always among them.
    """
    whole = pooled([fit, held_out])
    if not whole.count:
        return None
    strength, judged = strengths[0], (float("nan"), float("nan"))
    if fit.count and held_out.count and len(strengths) > 1:
        losses = {s: held_out.loss(*fitted(fit, s, shifts)) for s in (*strengths, math.inf)}
        best = min(losses.values())
        # Of strengths that do as well, the strongest: the change that asks for least.
        strength = max(s for s, loss in losses.items() if loss <= best + 1e-9 * abs(best))
        judged = (float(held_out.ee) / held_out.count, best / held_out.count)
    return _solution(whole, fitted(whole, strength, shifts), strength, judged)


def mean_shift(fit: Moments, held_out: Moments) -> Solution | None:
    """The best shift of the bias alone: the mean of what the outputs lack."""
    whole = pooled([fit, held_out])
    if not whole.count:
        return None
    return _solution(whole, fitted(whole, math.inf, True), 0.0, (float("nan"), float("nan")))


def _solution(whole: Moments, found: tuple[Tensor, Tensor], strength: float, judged: tuple[float, float]) -> Solution:
    before, after = float(whole.ee), whole.loss(*found)
    if not after <= before:  # rounding, where there is nothing to gain
        found, after = _nothing(whole), before
    return Solution(*found, strength, before / whole.count, after / whole.count, *judged)


def _nothing(moments: Moments) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(moments.ex), torch.zeros_like(moments.e)


def fitted(moments: Moments, strength: float, shifts: bool) -> tuple[Tensor, Tensor]:
    """(change, shift) for this strength."""
    if strength == math.inf:
        change, shift = _nothing(moments)
        return change, moments.e / moments.count if shifts else shift
    xx, ex = moments.centred() if shifts else (moments.xx, moments.ex)
    change = ridge(xx, ex, strength)
    shift = (moments.e - change @ moments.x.mT) / moments.count if shifts else torch.zeros_like(moments.e)
    return change, shift


def ridge(xx: Tensor, ex: Tensor, strength: float) -> Tensor:
    """ex (xx + strength * mean(diag xx) * I)^-1 for every group: [G, I, I], [G, O, I] -> [G, O, I]."""
    scale = xx.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]  # (groups, 1, 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    eye = torch.eye(xx.shape[-1], dtype=xx.dtype, device=xx.device)
    factor, failed = torch.linalg.cholesky_ex(xx + strength * scale * eye)
    if failed.any():  # numerically singular at this strength: the least change among all that fit
        return ex @ torch.linalg.pinv(xx + strength * scale * eye, hermitian=True)
    return torch.cholesky_solve(ex.mT, factor).mT
