"""What was seen of a model while it ran: streaming statistics, as large as what they describe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from torch_pruning.errors import ImportanceError
from torch_pruning.importance.tensors import widened

# Kinds of statistics, as criteria name their needs.
GRADIENT = "gradient"  # of each parameter: the sum of its gradients
SQUARED_GRADIENT = "squared gradient"  # of each parameter: the sum of their squares
ABSOLUTE = "absolute"  # of each channel of an activation: the mean of |x|
NONZERO = "nonzero"  # ... the share of x != 0
MOMENTS = "moments"  # ... mean and sum of squared deviations
GATES = "gates"  # ... the sum over samples of the squared derivative of the loss by a factor on the channel
GATES_APART = "gates apart"  # ... the same, of one factor for each position
KRONECKER = "kronecker"  # of each weight of a layer: second moments of what it reads, and of gradients of what it makes

OF_GRADIENTS = frozenset((GRADIENT, SQUARED_GRADIENT))
OF_ACTIVATIONS = frozenset((ABSOLUTE, NONZERO, MOMENTS))


@dataclass(slots=True)
class Channels:
    """Streaming statistics of the channels of one activation, each [channels]; `rows` counts what they are over.

    `size` is that of the weight's dimension: channels are as many, or so many for each group of a convolution.
    """

    wanted: frozenset[str]
    size: int
    rows: int = 0
    absolute: Tensor | None = None  # sum of |x|
    nonzero: Tensor | None = None  # how many are not 0
    mean: Tensor | None = None
    deviations: Tensor | None = None  # sum of (x - mean)^2
    gates: Tensor | None = None  # sum over samples of (sum over positions of x dL/dx)^2
    gates_apart: Tensor | None = None  # sum over samples and positions of (x dL/dx)^2

    def update(self, x: Tensor, dim: int) -> None:
        """Take in an activation whose channels lie on `dim`."""
        x = widened(x)
        rest = [other for other in range(x.dim()) if other != dim % x.dim()]
        rows = x.numel() // x.shape[dim]
        if rows == 0:
            return
        if ABSOLUTE in self.wanted:
            self.absolute = _plus(self.absolute, torch.linalg.vector_norm(x, 1, rest) if rest else x.abs())
        if NONZERO in self.wanted:
            self.nonzero = _plus(self.nonzero, (x != 0).sum(rest, dtype=x.dtype) if rest else (x != 0).to(x.dtype))
        if MOMENTS in self.wanted:
            self._merge_moments(x, rest, rows)
        self.rows += rows

    def update_gates(self, x: Tensor, gradient: Tensor, dim: int) -> None:
        """Take in an activation and the gradient of the loss there; samples lie on dim 0."""
        products = (widened(x) * widened(gradient)).movedim(dim, -1)
        samples = len(products) if products.dim() > 1 else 1
        by_sample = products.reshape(samples, -1, products.shape[-1])
        self.gates = _plus(self.gates, by_sample.sum(1).square().sum(0))
        self.gates_apart = _plus(self.gates_apart, by_sample.square().sum((0, 1)))

    def knows(self, kind: str) -> bool:
        """Whether anything was seen that `take` could give."""
        return self.gates is not None if kind in (GATES, GATES_APART) else self.rows > 0

    def _merge_moments(self, x: Tensor, rest: list[int], rows: int) -> None:
        """Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
        1979."""
        variance, mean = torch.var_mean(x, rest, correction=0) if rest else (torch.zeros_like(x), x)
        deviations = variance * rows
        if self.mean is None or self.deviations is None:
            self.mean, self.deviations = mean, deviations
            return
        total = self.rows + rows
        difference = mean - self.mean
        self.mean = self.mean + difference * (rows / total)
        self.deviations = self.deviations + deviations + difference.square() * (self.rows * rows / total)

    def take(self, kind: str) -> Tensor:
        """ABSOLUTE: mean |x|. NONZERO: share of x != 0. "square": sum of x^2. "variance": with rows - 1 below.
        GATES, GATES_APART: the sums."""
        if kind in (GATES, GATES_APART):
            found = self.gates if kind == GATES else self.gates_apart
            assert found is not None
            return found
        if kind == ABSOLUTE:
            assert self.absolute is not None
            return self.absolute / self.rows
        if kind == NONZERO:
            assert self.nonzero is not None
            return self.nonzero / self.rows
        assert self.mean is not None
        assert self.deviations is not None
        if kind == "square":
            return self.deviations + self.rows * self.mean.square()
        return self.deviations / max(1, self.rows - 1)


def _plus(total: Tensor | None, new: Tensor) -> Tensor:
    return new if total is None else total + new


@dataclass(frozen=True, slots=True)
class Place:
    """A dimension of a tensor of the model, from position `start` on: what the channels of an activation belong to."""

    tensor: str
    dim: int
    start: int = 0


# (tensor, dimension) -> first position -> statistics
_OfPlaces: TypeAlias = dict[tuple[str, int], dict[int, Channels]]


@dataclass(slots=True)
class Factors:
    """Streaming second moments of one weight, [G * O, I, k] seen as G groups of O rows, I columns, k taps.

    `taps` [G * I, k, k]: sum of a a^T, a the k numbers of one channel that one output looks at. `rows` [G, O, O]: sum
    of g g^T, g the gradients of one group's outputs. `products` [G * O]: sum of the squares of w_r a, which are the
    outputs without bias. All over `count` outputs: samples, pixels, tokens. Of a transposed convolution, [G * I, O, k],
    a are gradients of outputs, and g what it reads.
    """

    start: int  # first row of the weight, where it is a slice
    column_dim: int
    count: int = 0
    taps: Tensor | None = None
    products: Tensor | None = None
    rows: Tensor | None = None


@dataclass(slots=True)
class Statistics:
    """All that one observation gathered. Keys are names of tensors, as groups use them."""

    kinds: frozenset[str]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    reads: _OfPlaces = field(default_factory=dict)  # of what is contracted with the dimension
    makes: _OfPlaces = field(default_factory=dict)  # of what comes out along it
    kronecker: dict[str, list[Factors]] = field(default_factory=dict)

    def add_gradient(self, name: str, gradient: Tensor) -> None:
        """Take in the gradient of one backward pass."""
        dense = widened(gradient.to_dense() if gradient.is_sparse else gradient)
        if GRADIENT in self.kinds:
            _add(self.gradients, name, dense)
        if SQUARED_GRADIENT in self.kinds:
            _add(self.squares, name, dense.abs().square())

    def channels(self, kept: _OfPlaces, place: Place, size: int) -> Channels:
        """The statistics of `size` positions from a place on, which are begun where there are none yet."""
        by_start = kept.setdefault((place.tensor, place.dim), {})
        if place.start not in by_start:
            by_start[place.start] = Channels(self.kinds & OF_ACTIVATIONS, size)
        return by_start[place.start]


def _add(totals: dict[str, Tensor], name: str, new: Tensor) -> None:
    if name in totals:
        totals[name] += new
    else:
        # A copy: the gradient itself is the caller's, and may be zeroed in place.
        totals[name] = new.clone()


def vector_of(kept: _OfPlaces, tensor: str, dim: int, size: int, kind: str) -> Tensor | None:
    """One number for each position of a dimension, [size] (or [groups * size], of a convolution in groups).

    None where nothing was seen. Positions that nothing was seen of, beside others that were, are 0.
    """
    seen = {start: channels for start, channels in kept.get((tensor, dim), {}).items() if channels.knows(kind)}
    if not seen:
        return None
    end = max(start + channels.size for start, channels in seen.items())
    if end > size:
        raise stale(tensor, dim, end, size)
    vectors = [(start, channels.take(kind)) for start, channels in seen.items()]
    if len(vectors) == 1 and end == size and vectors[0][0] == 0:
        return vectors[0][1]
    whole = vectors[0][1].new_zeros(size)
    for start, vector in vectors:
        whole[start : start + len(vector)] = vector
    return whole


def require_shape(tensor: str, seen: Iterable[int], now: Iterable[int]) -> None:
    """Raises ImportanceError if a tensor was pruned since it was observed."""
    if tuple(seen) != tuple(now):
        raise ImportanceError(
            f"statistics must be those of the model as it is; {tensor} was {list(seen)} when it was observed, and is "
            f"{list(now)} now: observe the model again"
        )


def stale(tensor: str, dim: int, seen: int, now: int) -> ImportanceError:
    return ImportanceError(
        f"statistics must be those of the model as it is; dimension {dim} of {tensor} had {seen} positions when it was "
        f"observed, and has {now} now: observe the model again"
    )
