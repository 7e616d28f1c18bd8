"""Kronecker factors: second moments of what a weight reads, and of the gradients of what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    transposed: bool


@dataclass(frozen=True, slots=True)
class Contraction:
    """What a layer does with its weight: `reads` and `makes` are dimensions of it."""

    weight: Tensor
    reads: int
    makes: int
    geometry: Geometry | None = None  # of a convolution

    @property
    def spatial(self) -> int:
        """How many dimensions are convolved over."""
        return 0 if self.geometry is None else self.weight.dim() - 2

    @property
    def groups(self) -> int:
        return 1 if self.geometry is None else self.geometry.groups

    @property
    def transposed(self) -> bool:
        return self.geometry is not None and self.geometry.transposed


@dataclass(frozen=True, slots=True)
class Product:
    """One call of a layer: out = weight times x, plus bias."""

    of: Contraction
    x: Tensor
    out: Tensor
    bias: Tensor | None


def observe_product(product: Product, origin: Origin, statistics: Statistics, active: Callable[[], bool]) -> None:
    """Take in one call, and, once a backward pass comes by, the gradients of its outputs."""
    layer = product.of
    made, read = origin.places[layer.makes], origin.places[layer.reads]
    if made is None or read is None:
        return
    columns, rows = (made, read) if layer.transposed else (read, made)
    known = statistics.kronecker.setdefault(origin.name, [])
    factors = next((factors for factors in known if factors.start == rows.start), None)
    if factors is None:
        factors = Factors(rows.start, columns.dim)
        known.append(factors)
    with torch.no_grad():
        _take_inputs(product, factors)
    if product.out.requires_grad:
        # The hook must not hold the tensor that it hangs on: the two would only go with the next garbage collection.
        product.out.register_hook(partial(_take_gradient, layer, factors, active))


def _take_inputs(product: Product, factors: Factors) -> None:
    layer, x = product.of, widened(product.x)
    if layer.transposed:
        rows = _rows(x, layer.spatial)
        _take_rows(rows, layer, factors)
    else:
        out = widened(product.out)
        if product.bias is not None:
            out = out - widened(product.bias).view(-1, *(1,) * layer.spatial)
        rows = _rows(out, layer.spatial)
        _take_taps(x, rows, layer, factors)
    factors.count += len(rows)


def _take_gradient(layer: Contraction, factors: Factors, active: Callable[[], bool], gradient: Tensor) -> None:
    if not active():
        return
    gradient = widened(gradient)
    if layer.geometry is None or not layer.transposed:
        _take_rows(_rows(gradient, layer.spatial), layer, factors)
        return
    g, convolve = layer.geometry, (F.conv1d, F.conv2d, F.conv3d)[layer.spatial - 1]
    products = convolve(gradient, widened(layer.weight), None, g.stride, g.padding, g.dilation, g.groups)
    _take_taps(gradient, _rows(products, layer.spatial), layer, factors)


def _take_rows(rows: Tensor, layer: Contraction, factors: Factors) -> None:
    by_group = rows.reshape(len(rows), layer.groups, -1).transpose(0, 1)  # (groups, rows, O)
    moment = by_group.transpose(1, 2) @ by_group
    factors.rows = moment if factors.rows is None else factors.rows + moment


def _take_taps(x: Tensor, products: Tensor, layer: Contraction, factors: Factors) -> None:
    if layer.geometry is None:
        moment = _rows(x, 0).square().sum(0).view(-1, 1, 1)
    else:
        taps = _taps(x, layer.weight.shape[2:], layer.geometry)  # (channels, rows, taps)
        moment = taps.transpose(1, 2) @ taps
    squares = products.square().sum(0)
    factors.products = squares if factors.products is None else factors.products + squares
    factors.taps = moment if factors.taps is None else factors.taps + moment


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


def increase_of_rows(factors: Factors) -> Tensor | None:
    """For each row r of the weight w_r A w_r^T * S_rr / 2, A the mean of a a^T, S the sum of g g^T: [G * O]."""
    if factors.rows is None or factors.products is None:
        return None
    return factors.rows.diagonal(dim1=1, dim2=2).reshape(-1) * factors.products / factors.count / 2


def increase_of_columns(factors: Factors, weight: Tensor) -> Tensor | None:
    """For each column w_j [O, k] of the weight tr(S w_j A_jj w_j^T) / 2: [G * I]."""
    if factors.rows is None or factors.taps is None:
        return None
    groups, outputs, _ = factors.rows.shape
    rows = weight if factors.column_dim == 1 else weight.transpose(0, 1)
    rows = rows.narrow(0, factors.start, groups * outputs)
    by_group = rows.reshape(groups, outputs, rows.shape[1], -1)  # (groups, O, I, taps)
    taps = (factors.taps / factors.count).view(groups, rows.shape[1], *factors.taps.shape[1:])
    weighted = torch.einsum("gop,goik->gpik", factors.rows, by_group)
    return torch.einsum("gpik,gikl,gpil->gi", weighted, taps, by_group).reshape(-1) / 2
