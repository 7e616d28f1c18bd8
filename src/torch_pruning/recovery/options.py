"""How recovery goes about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_pruning.recovery.solve import STRENGTHS

METHODS = ("none", "batch_norm", "mean", "least_squares")


@dataclass(frozen=True, slots=True)
class Options:
    """`method`: one of METHODS, each with what is before it in the list that goes with it.

    `layers`: "consumers" solves for weights whose inputs lose units, "all" for every later one too. `rows`: how many rows
    (pixels, tokens) of all batches together are looked at, fewer where the dense outputs would take more than `memory` GiB.
    `held_out`: the share of rows on which the ridge `strengths` are compared. `new_biases`: whether a layer without a bias may get
    one; None is yes for "mean", which can do nothing else.

    Raises:
        ValueError: for a value out of range.
    """

    method: str = "least_squares"
    layers: str = "all"
    rows: int = 32_768
    memory: float = 2.0
    held_out: float = 0.25
    strengths: Sequence[float] = STRENGTHS
    new_biases: bool | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, found {self.method!r}")
        if self.layers not in ("consumers", "all"):
            raise ValueError(f"layers must be 'consumers' or 'all', found {self.layers!r}")
        if self.rows < 1 or not 0 <= self.held_out < 1 or self.memory <= 0:
            raise ValueError(
                f"rows must be positive, held_out in 0..1, memory positive; found {self.rows}, {self.held_out}, "
                f"{self.memory}"
            )
        if not self.strengths or min(self.strengths) < 0:
            raise ValueError(f"strengths must be non-negative numbers, found {self.strengths!r}")

    @property
    def may_add_biases(self) -> bool:
        return self.method == "mean" if self.new_biases is None else self.new_biases
