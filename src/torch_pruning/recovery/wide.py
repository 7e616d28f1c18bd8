"""Ridge regression for weights so wide that their second moments do not fit into memory: block by block of columns.

Each step minimises, over the columns B of the change D that it may move,

    sum |r - (D_B' - D_B) x_B|^2 + strength * |D_B'|^2,    r = e - D x, what the outputs lack after the change so far

so neither sum ever rises, and what is left to do is passed on in r. Means are taken off first where a shift is
possible. Memory: the rows, and the moments of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from torch_pruning.recovery.options import Options
from torch_pruning.recovery.precision import widest
from torch_pruning.recovery.solve import Solution

Rows: TypeAlias = tuple[Tensor, Tensor, Tensor]  # of a batch: x [G, N, I], e [G, N, O], how much each counts [N]

SWEEPS = 4
_MATRICES = 4  # of columns squared that least squares holds at once: two parts, both together, a factor


def block_width(columns: int, options: Options) -> int | None:
    """How many columns may be solved for at once where all of them would take more than the memory; None where not."""
    fitting = int((options.memory * 2**30 / (8 * _MATRICES)) ** 0.5)
    return max(64, fitting) if columns > fitting else None


@dataclass(slots=True)
class _Descent:
    """Rows x [G, N, I] of several batches, their means [G, 1, I], the roots of what each row counts [N, 1], and r
    [G, N, O] times these roots under the present change."""

    x: list[Tensor]
    roots: list[Tensor]
    means: tuple[Tensor, Tensor]  # of x and of e, zero where no shift is possible
    r: list[Tensor]
    change: Tensor  # [G, O, I]
    scale: float  # mean square of a column, summed over rows

    @classmethod
    def of(cls, rows: Sequence[Rows], shifts: bool) -> _Descent:
        """No change yet."""
        x, roots = [x for x, _, _ in rows], [weights.to(x)[:, None].sqrt() for x, _, weights in rows]
        means = _mean(x, roots, shifts), _mean([e for _, e, _ in rows], roots, shifts)
        change = torch.zeros(len(x[0]), rows[0][1].shape[-1], x[0].shape[-1], dtype=x[0].dtype, device=x[0].device)
        r = [(e - means[1].to(e)) * root for (_, e, _), root in zip(rows, roots, strict=True)]
        squares = _squares([(some - means[0].to(some)) * root for some, root in zip(x, roots, strict=True)])
        return cls(x, roots, means, r, change, squares / (len(x[0]) * x[0].shape[-1]) or 1.0)

    def sweep(self, strength: float, width: int) -> None:
        """Every block of so many columns once."""
        wide = widest(self.change.device)
        for start in range(0, self.change.shape[-1], width):
            at = slice(start, start + width)
            mean = self.means[0][..., at].to(self.change)
            blocks = [(x[..., at] - mean) * root for x, root in zip(self.x, self.roots, strict=True)]
            xx = torch.stack([(x.mT @ x).to(wide) for x in blocks]).sum(0)
            rx = torch.stack([(r.mT @ x).to(wide) for r, x in zip(self.r, blocks, strict=True)]).sum(0)
            # Nothing is asked of columns that say nothing: a last bit of ridge keeps the system solvable.
            ridge = max(strength * self.scale, 1e-12 * self.scale)
            eye = torch.eye(xx.shape[-1], dtype=wide, device=xx.device)
            wanted = (rx - ridge * self.change[..., at].to(wide)).mT
            step = torch.linalg.solve(xx + ridge * eye, wanted).mT.to(self.change)
            self.change[..., at] += step
            self.r = [r - x @ step.mT for r, x in zip(self.r, blocks, strict=True)]

    def missed(self, rows: Sequence[Rows]) -> float:
        """What the present change leaves of other rows."""
        mean_x, mean_e = (mean.to(self.change) for mean in self.means)
        left = (weights.to(x)[:, None].sqrt() * (e - mean_e - (x - mean_x) @ self.change.mT) for x, e, weights in rows)
        return _squares(list(left))


def _mean(parts: Sequence[Tensor], roots: Sequence[Tensor], shifts: bool) -> Tensor:
    wide = widest(parts[0].device)
    sums = [(part * root.square()).sum(1, keepdim=True, dtype=wide) for part, root in zip(parts, roots, strict=True)]
    total = torch.stack(sums).sum(0)
    return total / sum(float(root.square().sum()) for root in roots) if shifts else torch.zeros_like(total)


def _squares(parts: Sequence[Tensor]) -> float:
    return sum(float(part.square().sum(dtype=widest(part.device))) for part in parts)


def by_blocks(rows: Sequence[Rows], shifts: bool, options: Options, width: int) -> Solution | None:
    """As `least_squares`, of the rows themselves and so many columns at a time; None if there are none."""
    rows = [row for row in rows if row[0].shape[1]]
    if not rows:
        return None
    strength, judged = _chosen(rows, shifts, options, width)
    whole = _Descent.of(rows, shifts)
    for _ in range(SWEEPS):
        whole.sweep(strength, width)
    mean_x, mean_e = whole.means
    change, shift = whole.change, mean_e.mT - whole.change.to(mean_x) @ mean_x.mT
    before, after = _before(rows), _squares(whole.r)
    if not after <= before:
        change, shift, after = torch.zeros_like(change), torch.zeros_like(shift), before
    count = _count(rows)
    return Solution(change, shift, strength, before / count, after / count, *judged)


def _before(rows: Sequence[Rows]) -> float:
    return _squares([e * weights.to(e)[:, None].sqrt() for _, e, weights in rows])


def _count(rows: Sequence[Rows]) -> float:
    return sum(float(weights.sum()) for _, _, weights in rows)


def _chosen(rows: Sequence[Rows], shifts: bool, options: Options, width: int) -> tuple[float, tuple[float, float]]:
    """The strength that does best on rows held out, from the strongest on until it gets worse; losses without and with
    it."""
    borders = [x.shape[1] - int(x.shape[1] * options.held_out) for x, _, _ in rows]
    fit = [(x[:, :n], e[:, :n], w[:n]) for (x, e, w), n in zip(rows, borders, strict=True) if n]
    held = [(x[:, n:], e[:, n:], w[n:]) for (x, e, w), n in zip(rows, borders, strict=True) if n < x.shape[1]]
    if not fit or not held or len(options.strengths) == 1:
        return options.strengths[0], (float("nan"), float("nan"))
    descent = _Descent.of(fit, shifts)
    best = (torch.inf, max(options.strengths))
    for strength in sorted(options.strengths, reverse=True):
        descent.sweep(strength, width)
        loss = descent.missed(held)
        if loss >= best[0]:
            break
        best = loss, strength
    return best[1], (_before(held) / _count(held), best[0] / _count(held))
