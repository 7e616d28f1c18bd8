"""What `plan` was asked for, checked once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from torch_pruning.graph.ignored import Ignored
from torch_pruning.pruner.allot import Rounding
from torch_pruning.pruner.budget import KINDS, Budget

SCOPES = ("local", "global", "isomorphic", "cost")
Ratios = Mapping[Ignored | tuple[Ignored, ...], float]


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that decides which units go, apart from the model.

    Raises:
        ValueError: for an unknown scope, a value out of range, or a budget that the scope cannot use.
    """

    budget: Budget
    importance: Any = "magnitude"
    scope: str = "local"
    ratios: Ratios | None = None
    head_ratio: float | Ratios = 0.0
    head_dim_ratio: float | None = None
    round_to: int = 1
    minimum: int = 1
    max_pruning_ratio: float = 1.0
    ignore: Iterable[Ignored] = ()
    exact_only: bool = False
    follow: str = "head_dims"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ValueError(f"scope must be one of {list(SCOPES)}, found {self.scope!r}")
        if self.scope == "cost" and self.budget.kind == "pruning_ratio":
            raise ValueError("scope 'cost' weighs importance against a cost, found pruning_ratio: give one of a cost")
        if self.ratios is not None and not isinstance(self.ratios, Mapping):
            raise ValueError(
                f"ratios must be a dict from modules, parameters or names to shares, found {self.ratios!r}: "
                "one share for everything is pruning_ratio"
            )
        for name in ("round_to", "minimum"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, found {value!r}")
        check_share("max_pruning_ratio", self.max_pruning_ratio, one=True)
        for name, value in self._all_ratios():
            check_share(name, value)

    def _all_ratios(self) -> Iterable[tuple[str, float]]:
        for name, given in (("ratios", self.ratios), ("head_ratio", self.head_ratio)):
            if isinstance(given, Mapping):
                yield from ((name, value) for value in given.values())
            elif given is not None:
                yield name, given
        if self.head_dim_ratio is not None:
            yield "head_dim_ratio", self.head_dim_ratio

    @property
    def rounding(self) -> Rounding:
        return Rounding(self.round_to, self.minimum, self.max_pruning_ratio)


def one_budget(**given: float | None) -> Budget:
    """The one budget that is not None.

    Raises:
        ValueError: for none or several, or a value out of range.
    """
    found = {kind: value for kind, value in given.items() if value is not None}
    if len(found) != 1:
        raise ValueError(f"exactly one of {', '.join(KINDS)} is needed, found {sorted(found) or 'none'}")
    ((kind, value),) = found.items()
    if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
        raise ValueError(f"a budget must be a number, found {value!r}")
    if kind == "pruning_ratio":
        check_share(kind, value)
    elif value <= 0:
        raise ValueError(f"{kind} must be positive: at most 1 is a share to keep, above 1 a number; found {value}")
    return Budget(kind, float(value))


def check_share(name: str, value: Any, *, one: bool = False) -> None:
    """Raises ValueError for what is no share of units that can be removed; all of them only with `one`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (0 <= value < 1 or (one and value == 1)):
        upper = "at most 1" if one else "below 1"
        raise ValueError(f"{name} is the share of units to remove, at least 0 and {upper}; found {value!r}")
