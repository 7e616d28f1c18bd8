"""How recovery goes about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_pruning.recovery.solve import STRENGTHS

METHODS = ("none", "batch_norm", "mean", "least_squares")


@dataclass(frozen=True, slots=True)
class Options:
    """`method`: "none", "batch_norm" (statistics taken anew), "mean" (biases make up for what is gone on average, then
    batch_norm), "least_squares" (weights and biases). `batch_norm`: whether statistics are taken anew at the end;
    None is yes but for least squares, whose outputs are made to fit the statistics that are there.

    `layers`: "consumers" solves for weights whose inputs lose units, "all" for every other one too. `streams`:
    outputs that are added to something are judged by the sum, so that they make up for errors of the other term.
    `clamps`: outputs that a ReLU takes are judged by what it lets through: what it cuts off need only be cut off.
    `scores`: of queries and keys that lose head dims, those directions stay that their products need most.
    `rows`: how many rows (pixels, tokens) of all batches together are looked at, fewer where the dense outputs would
    take more than `memory` GiB; weights whose second moments would take more are solved block by block. `held_out`: the
    share of them on which the ridge `strengths` are compared.
    `new_biases`: whether a layer without a bias, of torch's own, may get one; None is yes for "mean", which can do
    nothing else.

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
    batch_norm: bool | None = None
    streams: bool = True
    clamps: bool = True
    scores: bool = True

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
    def solves(self) -> bool:
        """Whether weights or biases are solved for."""
        return self.method in ("mean", "least_squares")

    @property
    def measures_batch_norm(self) -> bool:
        return self.method in ("batch_norm", "mean") if self.batch_norm is None else self.batch_norm

    @property
    def may_add_biases(self) -> bool:
        return self.method == "mean" if self.new_biases is None else self.new_biases
