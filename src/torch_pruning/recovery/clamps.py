"""Least squares on what a clamp lets through.

Where a ReLU, or any clamp to [low, high], takes the outputs and nothing else does, a dense output t below low asks only
for one that is below low as well. With q, what the outputs would be under a change of the weight, minimised is

    sum |q - z(q)|^2      z(q) = min(q, low) where t <= low, max(q, high) where t >= high, t elsewhere

which is convex. Since |q - z(p)|^2 is never below it and meets it at q = p, least squares towards z of the last
solution, again and again, never raises it (majorisation; with ridge, the sum of both). Similar: Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", 2016, section 3.2, where the rank of
a layer is reduced in view of its ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_pruning.recovery.moments import Moments
from torch_pruning.recovery.solve import Solution, fitted

ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a weight's inputs x [G, N, I], of what its outputs lack e [G, N, O], how much each row counts [N], and
    what the clamp was given by the dense model, `target` [G, N, O].

    A change of the outputs is one of the clamp's input times `scale` [G, 1, O], and back by `inverse_scale`, which is 0
    for outputs that nobody sees.
    """

    x: Tensor
    e: Tensor
    weights: Tensor
    target: Tensor
    scale: Tensor
    inverse_scale: Tensor
    limits: tuple[float, float]

    def changed(self, change: Tensor, shift: Tensor) -> Tensor:
        """What is added to the outputs: [G, N, O] for change [G, O, I] and shift [G, O, 1]."""
        return self.x @ change.to(self.x).mT + shift.to(self.x).mT

    def lacking(self, change: Tensor, shift: Tensor) -> Tensor:
        """From the outputs as they are to the nearest ones that will do for those after the change: [G, N, O]."""
        low, high = self.limits
        present = self.target - self.e * self.scale
        predicted = present + self.changed(change, shift) * self.scale
        nearest = torch.where(self.target <= low, predicted.clamp(max=low), self.target)
        nearest = torch.where(self.target >= high, predicted.clamp(min=high), nearest)
        return (nearest - present) * self.inverse_scale

    def loss(self, change: Tensor, shift: Tensor) -> float:
        """sum |q - z(q)|^2 after the change."""
        missed = (self.lacking(change, shift) - self.changed(change, shift)).double().square()
        return float((self.weights[:, None] * missed).sum())


def within_limits(start: Solution, moments: Moments, rows: Sequence[Rows], shifts: bool) -> Solution:
    """A change that does better where the outputs are clamped than the `start`; losses are those of what goes through.

    No change at all, if nothing else is better than that.
    """
    nothing = torch.zeros_like(start.change), torch.zeros_like(start.shift)
    found = start.change, start.shift
    for _ in range(ROUNDS):
        nearer = moments.with_errors((some.x, some.lacking(*found), some.weights) for some in rows)
        found = fitted(nearer, start.strength, shifts)
    before, after = (sum(some.loss(*change) for some in rows) / moments.count for change in (nothing, found))
    if not after <= before:
        found, after = nothing, before
    return replace(start, change=found[0], shift=found[1], before=before, after=after)
