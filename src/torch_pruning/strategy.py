"""Which units of one weight to remove: `strategy(weights, amount=0.0, round_to=1) -> ascending list of positions`.

Units are the rows of the weight, `[units, ...]`; those with the lowest scores go.

    removed      = floor(amount * units) for a fraction, amount itself for a count
    kept         = units - removed, raised to the next multiple of round_to, at most units
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from torch_pruning.errors import BudgetError


class Strategy(ABC):
    """Scores the units of a weight and names the lowest."""

    @abstractmethod
    def scores(self, weights: Tensor) -> Tensor:
        """One score per unit: `[units, ...]` -> `[units]`; the lowest go first."""

    def __call__(self, weights: Tensor, amount: float = 0.0, round_to: int = 1) -> list[int]:
        """Positions of the units to remove, ascending; of equal scores the lower position goes first.

        `amount` is a fraction of the units (a float below 1) or a number of units (an int). `round_to` keeps a multiple
        of that many units by removing fewer, possibly none.

        Raises: `BudgetError` (a `ValueError`) where no unit would stay; `ValueError` for scores that are NaN, an
        amount below 0, a fraction above 1, or `round_to` below 1.
        """
        if weights.dim() == 0:
            raise ValueError(
                "a weight must have a dimension of units; found a scalar: pass the layer's weight, [units, ...]"
            )
        units = weights.shape[0]
        count = _removed_count(units, amount, round_to)
        if count == 0:
            return []
        scores = self.scores(weights)
        if scores.isnan().any():
            raise ValueError(
                f"every unit must have a score; found NaN at positions {scores.isnan().nonzero().flatten().tolist()} "
                f"of a weight {tuple(weights.shape)}: the weight itself holds NaN, repair it before pruning"
            )
        return sorted(torch.sort(scores, stable=True).indices[:count].tolist())


class LNStrategy(Strategy):
    """The units with the smallest Lp norm: (sum |w|^p)^(1/p) over all weights of a unit.

    >>> LNStrategy(p=2)(torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 2.0]]), amount=1)
    [1]
    """

    def __init__(self, p: float) -> None:
        if not p > 0:
            raise ValueError(f"the order of a norm must be above 0; found p={p!r}: use 1, 2 or math.inf")
        self.p = p

    def scores(self, weights: Tensor) -> Tensor:
        # At least single precision, because squares overflow in float16.
        flat = weights.detach().reshape(weights.shape[0], -1)  # (units, weights of a unit)
        wide = flat.to(torch.promote_types(flat.dtype, torch.float32))
        norms: Tensor = torch.linalg.vector_norm(wide, ord=self.p, dim=1)
        return norms


class L1Strategy(LNStrategy):
    """The units with the smallest sum of absolute weights.

    >>> L1Strategy()(torch.tensor([[3.0], [-1.0], [2.0], [1.0]]), amount=0.25)
    [1]
    """

    def __init__(self) -> None:
        super().__init__(p=1)


class L2Strategy(LNStrategy):
    """The units with the smallest Euclidean norm.

    >>> L2Strategy()(torch.arange(16.0).view(16, 1), amount=0.3, round_to=4)  # keeps 12, not 16 - floor(4.8)
    [0, 1, 2, 3]
    """

    def __init__(self) -> None:
        super().__init__(p=2)


class RandomStrategy(Strategy):
    """Units drawn uniformly, from `generator`, from one made with `seed`, or else from torch's global generator.

    Successive calls draw on; a new strategy with the same seed repeats the sequence.

    >>> weights = torch.ones(8, 3)
    >>> RandomStrategy(seed=0)(weights, amount=3) == RandomStrategy(seed=0)(weights, amount=3)
    True
    """

    def __init__(self, generator: torch.Generator | None = None, seed: int | None = None) -> None:
        if generator is not None and seed is not None:
            raise ValueError(
                f"randomness must have one source; found a generator and seed={seed}: "
                "seed the generator, or pass only one"
            )
        self.generator = generator if seed is None else torch.Generator().manual_seed(seed)

    def scores(self, weights: Tensor) -> Tensor:
        device = "cpu" if self.generator is None else self.generator.device
        return torch.rand(weights.shape[0], generator=self.generator, device=device)


def _removed_count(units: int, amount: Any, round_to: Any) -> int:
    """How many units go, after rounding."""
    if isinstance(round_to, bool) or not isinstance(round_to, Integral) or round_to < 1:
        raise ValueError(f"round_to must be an int of at least 1; found {round_to!r}: 1 means no rounding")
    wanted = _wanted_count(units, amount)
    if wanted >= units > 0:
        raise BudgetError(
            f"at least one of {units} units must stay; found amount={amount!r}, which removes {wanted}: "
            f"remove at most {units - 1}, an int is a number of units and a float a fraction"
        )
    kept = math.ceil((units - wanted) / int(round_to)) * int(round_to)
    return max(units - kept, 0)


def _wanted_count(units: int, amount: Any) -> int:
    is_count = isinstance(amount, Integral) and not isinstance(amount, bool)
    is_fraction = isinstance(amount, Real) and not isinstance(amount, Integral)
    if is_count and amount >= 0:
        return int(amount)
    if is_fraction and 0 <= amount <= 1:
        return math.floor(float(amount) * units + 1e-9)  # because 0.29 * 100 is 28.999999999999996
    raise ValueError(
        f"amount must be a fraction from 0 to 1 (float) or a number of units (int); found {amount!r} "
        f"for {units} units: pass 0.3 for 30 %, 3 for three units"
    )
