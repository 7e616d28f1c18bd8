"""What the commonest ops give for row-major tensors, without asking PyTorch, whose answer for fake tensors is slow.

Every law here demands arguments that fit and returns None otherwise: then the op runs and PyTorch says what is wrong.
The result is the layout of a new tensor, or the number of the argument that is returned itself (in-place ops).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torch_pruning.trace.layout import Layout, LayoutTable
from torch_pruning.trace.program import Value, values_in

Shape = tuple[int, ...]
_Law = Callable[..., "Shape | int | None"]
_laws: dict[Any, _Law] = {}
_aten = torch.ops.aten


def row_major_result(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], table: LayoutTable
) -> Layout | int | None:
    """The single output of an op on row-major floating-point tensors of one type; None if no law covers the case."""
    law = _laws.get(function)
    if law is None:
        return None
    layouts: list[Layout] = [value.layout for value in values_in(args)]
    first = layouts[0]
    if any(value is not None for value in values_in(kwargs)) or not first.dtype.is_floating_point:
        return None
    for layout in layouts:
        if not layout.fake or layout.dtype != first.dtype or layout.device != first.device or not layout.row_major:
            return None
    shape = law(*[_shape(arg) for arg in args])
    return table.new(shape, first) if isinstance(shape, tuple) else shape


class _Shaped(tuple[int, ...]):
    """The shape of a tensor argument, as distinct from a list of numbers."""

    __slots__ = ()


def _shape(arg: Any) -> Any:
    if isinstance(arg, Value):
        return _Shaped(arg.shape)
    return [_shape(item) for item in arg] if isinstance(arg, list) else arg


def _law(*functions: Any) -> Callable[[_Law], _Law]:
    def register(law: _Law) -> _Law:
        _laws.update(dict.fromkeys(functions, law))
        return law

    return register


@_law(
    _aten.relu.default, _aten.gelu.default, _aten.silu.default, _aten.sigmoid.default, _aten.tanh.default,
    _aten.hardswish.default, _aten.hardsigmoid.default, _aten.hardtanh.default, _aten.relu6.default,
    _aten.leaky_relu.default, _aten.elu.default, _aten.mish.default, _aten.rsqrt.default, _aten.sqrt.default,
    _aten.exp.default, _aten.neg.default, _aten.abs.default,
)  # fmt: skip
def _elementwise(x: Shape, *numbers: Any) -> Shape | None:
    return None if any(isinstance(number, _Shaped) for number in numbers) else tuple(x)


@_law(
    _aten.relu_.default, _aten.silu_.default, _aten.sigmoid_.default, _aten.hardswish_.default,
    _aten.hardtanh_.default, _aten.relu6_.default, _aten.leaky_relu_.default, _aten.gelu_.default,
)  # fmt: skip
def _elementwise_in_place(x: Shape, *numbers: Any) -> int | None:
    return None if any(isinstance(number, _Shaped) for number in numbers) else 0


@_law(_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor)
def _binary(x: Any, y: Any) -> Shape | None:
    """Equal shapes, or a number on one side, or sizes of 1 on one side of tensors of equal rank."""
    if not isinstance(x, _Shaped) or not isinstance(y, _Shaped):
        number = y if isinstance(x, _Shaped) else x
        return None if isinstance(number, complex) else tuple(x if isinstance(x, _Shaped) else y)
    if x == y:
        return tuple(x)
    narrow, wide = (x, y) if x.count(1) >= y.count(1) else (y, x)
    if len(x) != len(y) or any(a not in (1, b) for a, b in zip(narrow, wide, strict=True)):
        return None
    return tuple(wide)


@_law(_aten.add_.Tensor, _aten.sub_.Tensor, _aten.mul_.Tensor, _aten.div_.Tensor)
def _binary_in_place(x: Any, y: Any) -> int | None:
    number = isinstance(x, _Shaped) and isinstance(y, (int, float))
    return 0 if number or (isinstance(y, _Shaped) and x == y) else None


@_law(_aten.batch_norm.default)
def _batch_norm(
    x: Shape, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *numbers: Any
) -> Shape | None:
    if len(x) < 2 or 0 in x or (not training and (mean is None or variance is None)):
        return None
    return tuple(x) if all(p in (None, (x[1],)) for p in (weight, bias, mean, variance)) else None


@_law(_aten.layer_norm.default)
def _layer_norm(x: Shape, normalized: list[int], weight: Any = None, bias: Any = None, *numbers: Any) -> Shape | None:
    over = tuple(normalized)
    if not over or 0 in x or tuple(x[-len(over) :]) != over:
        return None
    return tuple(x) if all(p in (None, over) for p in (weight, bias)) else None


@_law(_aten.group_norm.default)
def _group_norm(x: Shape, groups: int, weight: Any = None, bias: Any = None, *numbers: Any) -> Shape | None:
    if len(x) < 2 or 0 in x or groups < 1 or x[1] % groups:
        return None
    return tuple(x) if all(p in (None, (x[1],)) for p in (weight, bias)) else None


@_law(_aten.linear.default)
def _linear(x: Shape, weight: Shape, bias: Any = None) -> Shape | None:
    """[..., I], [O, I], [O] -> [..., O]."""
    if len(weight) != 2 or not x or 0 in x or x[-1] != weight[1] or bias not in (None, (weight[0],)):
        return None
    return (*x[:-1], weight[0])


@_law(_aten.matmul.default)
def _matmul(x: Shape, y: Shape) -> Shape | None:
    """[..., A, B], [..., B, C] -> [..., A, C] with the same batch; fewer dimensions go other ways."""
    if len(x) < 3 or len(x) != len(y) or x[:-2] != y[:-2] or x[-1] != y[-2] or 0 in (*x, *y):
        return None
    return (*x[:-1], y[-1])


@_law(_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default)
def _convolution(
    x: Shape,
    weight: Shape,
    bias: Any = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Shape | None:
    """[B, I, ...], [O, I / groups, ...] -> [B, O, ...]."""
    rank = len(x) - 2
    if rank < 1 or len(weight) != len(x) or 0 in (*x, *weight) or bias not in (None, (weight[0],)):
        return None
    if groups < 1 or weight[1] * groups != x[1] or weight[0] % groups:
        return None
    steps, pads, gaps = (_per_dimension(setting, rank) for setting in (stride, padding, dilation))
    if steps is None or pads is None or gaps is None or min(*steps, *gaps) < 1 or min(pads) < 0:
        return None
    sizes = [
        (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, gap in zip(x[2:], weight[2:], steps, pads, gaps, strict=True)
    ]
    return (x[0], weight[0], *sizes) if min(sizes) > 0 else None


def _per_dimension(setting: Any, rank: int) -> list[int] | None:
    listed = list(setting)
    return listed * rank if len(listed) == 1 else listed if len(listed) == rank else None


@_law(_aten.cat.default)
def _cat(tensors: list[Shape], dim: int = 0) -> Shape | None:
    first, *others = tensors
    if not first or any(0 in shape for shape in tensors) or not -len(first) <= dim < len(first):
        return None
    dim %= len(first)
    if any(len(o) != len(first) or o[:dim] != first[:dim] or o[dim + 1 :] != first[dim + 1 :] for o in others):
        return None
    return (*first[:dim], sum(shape[dim] for shape in tensors), *first[dim + 1 :])


@_law(_aten.adaptive_avg_pool2d.default)
def _adaptive_pool(x: Shape, sizes: list[int]) -> Shape | None:
    """[B, C, H, W], (h, w) -> [B, C, h, w]."""
    return (*x[:2], *sizes) if len(x) == 4 and len(sizes) == 2 and 0 not in (*x, *sizes) else None


@_law(_aten.softmax.int)
def _softmax(x: Shape, dim: int, dtype: Any = None) -> Shape | None:
    return tuple(x) if dtype is None and x and 0 not in x and -len(x) <= dim < len(x) else None
