"""Kronecker factors: second moments of what a weight reads, and of the gradients of what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_pruning.importance.sources import Origin
from torch_pruning.importance.statistics import Factors, Statistics
from torch_pruning.importance.tensors import widened


@dataclass(frozen=True, slots=True)
class Geometry:
    """The arguments of a convolution as they were given."""

    stride: Any
    padding: Any
    dilation: Any
    groups: int


@dataclass(frozen=True, slots=True)
class Product:
    """out = weight times x, plus bias; `reads` and `makes` are dimensions of the weight."""

    x: Tensor
    weight: Tensor
    out: Tensor
    bias: Tensor | None
    reads: int
    makes: int
    geometry: Geometry | None = None  # of a convolution

    @property
    def spatial(self) -> int:
        """How many dimensions are convolved over."""
        return 0 if self.geometry is None else self.weight.dim() - 2


def observe_product(product: Product, origin: Origin, statistics: Statistics, active: Callable[[], bool]) -> None:
    """Take in one call, and, once a backward pass comes by, the gradients of its outputs."""
    made, read = origin.places[product.makes], origin.places[product.reads]
    if made is None and read is None:
        return
    start = 0 if made is None else made.start
    reads = read.dim if read is not None else 1 - made.dim  # type: ignore[union-attr]
    known = statistics.kronecker.setdefault(origin.name, [])
    factors = next((factors for factors in known if factors.start == start), None)
    if factors is None:
        factors = Factors(start, 1 if product.geometry is None else product.geometry.groups, reads)
        known.append(factors)
    with torch.no_grad():
        _take_inputs(product, factors)
    if product.out.requires_grad:
        spatial = product.spatial

        def take(gradient: Tensor) -> None:
            if active():
                rows = _rows(widened(gradient), spatial)
                by_group = rows.reshape(len(rows), factors.groups, -1).transpose(0, 1)  # (groups, rows, O)
                moment = by_group.transpose(1, 2) @ by_group
                factors.made = moment if factors.made is None else factors.made + moment

        product.out.register_hook(take)


def _take_inputs(product: Product, factors: Factors) -> None:
    out = widened(product.out)
    if product.bias is not None:
        out = out - widened(product.bias).view(-1, *(1,) * product.spatial)
    rows = _rows(out, product.spatial)
    squares = rows.square().sum(0)
    x = widened(product.x)
    if product.geometry is None:
        read = _rows(x, 0).square().sum(0).view(-1, 1, 1)
    else:
        taps = _taps(x, product.weight.shape[2:], product.geometry)  # (channels, rows, taps)
        read = taps.transpose(1, 2) @ taps
    factors.rows += len(rows)
    factors.outputs = squares if factors.outputs is None else factors.outputs + squares
    factors.read = read if factors.read is None else factors.read + read


def _rows(activation: Tensor, spatial: int) -> Tensor:
    """Channels last, everything else before: [N, C, H, W] -> [N * H * W, C]."""
    return activation.movedim(-spatial - 1, -1).reshape(-1, activation.shape[-spatial - 1])


def _taps(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
    """The inputs of each output by channel: [N, C, H, W] -> [C, N * H' * W', kh * kw]."""
    strides, dilations = _each(geometry.stride, len(kernel)), _each(geometry.dilation, len(kernel))
    x = F.pad(x, _padding(geometry.padding, kernel, dilations))
    first = x.dim() - len(kernel)
    for number, size in enumerate(kernel):
        x = x.unfold(first + number, (size - 1) * dilations[number] + 1, strides[number])
    for number in range(len(kernel)):
        dim = x.dim() - len(kernel) + number
        x = x.movedim(dim, 0)[:: dilations[number]].movedim(0, dim)
    x = x.flatten(-len(kernel)).movedim(first - 1, 0)
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _each(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values if len(values) == count else values * count


def _padding(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """As `F.pad` wants it: last dimension first, both sides."""
    if padding == "same":
        totals = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(side, side) for side in _each(0 if padding == "valid" else padding, len(kernel))]
    return [amount for side in reversed(sides) for amount in side]


def increase_of_outputs(factors: Factors) -> Tensor | None:
    """For each row r of the weight w_r A w_r^T * S_rr / 2, A the mean of what is read: [G * O]."""
    if factors.made is None or factors.outputs is None:
        return None
    return factors.made.diagonal(dim1=1, dim2=2).reshape(-1) * factors.outputs / factors.rows / 2


def increase_of_inputs(factors: Factors, weight: Tensor) -> Tensor | None:
    """For each column w_j [O, k] of the weight tr(S w_j A_jj w_j^T) / 2: [G * I]."""
    if factors.made is None or factors.read is None:
        return None
    groups, outputs, _ = factors.made.shape
    rows = weight if factors.reads == 1 else weight.transpose(0, 1)
    rows = rows.narrow(0, factors.start, groups * outputs)
    by_group = rows.reshape(groups, outputs, rows.shape[1], -1)  # (groups, O, I, taps)
    read = (factors.read / factors.rows).view(groups, rows.shape[1], *factors.read.shape[1:])
    weighted = torch.einsum("gop,goik->gpik", factors.made, by_group)
    return torch.einsum("gpik,gikl,gpil->gi", weighted, read, by_group).reshape(-1) / 2
