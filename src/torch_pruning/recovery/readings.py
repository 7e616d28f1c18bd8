"""Ops as regressions: rows of inputs, a weight, rows of outputs.

    linear       x [..., I]               -> rows [1, N, I]          weight -> [1, O, I]
    convolution  x [B, G * I, H, W]       -> patches [G, N, I * kh * kw]   weight -> [G, O, I * kh * kw]
    transposed   x with zeros in between  -> patches [1, N, I * kh * kw]   weight, taps reversed -> [1, O, I * kh * kw]

so that outputs [G, N, O] = rows @ weight^T + bias for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read one op. Positions are those of its arguments; `out` is the weight's dimension of outputs."""

    name: str
    x: int
    weight: int
    bias: int | None
    out: int
    contracted: int
    rows: Callable[[Call, Tensor], Tensor]
    outputs: Callable[[Call, Tensor, Tensor], Tensor]
    positions: Callable[[Call, Tensor], int]
    matrix: Callable[[Call, Tensor], Tensor]  # weight -> [G, O, columns]
    tensor: Callable[[Call, Tensor], Tensor]  # and back, in the weight's shape
    flat: bool = False  # whether the weight has to be a matrix
    undivided: int | None = None  # the argument, a number of groups, that has to be one

    def takes(self, arguments: Sequence[Any]) -> bool:
        """Whether an op with these arguments can be read so."""
        if self.flat and len(getattr(arguments[self.weight], "shape", ())) != 2:
            return False
        return self.undivided is None or len(arguments) <= self.undivided or arguments[self.undivided] == 1


@dataclass(frozen=True, slots=True)
class Call:
    """One op of a run with its arguments in the order of the schema, defaults filled in."""

    reading: Reading
    function: Any
    arguments: tuple[Any, ...]

    @property
    def x(self) -> Tensor:
        x: Tensor = self.arguments[self.reading.x]
        return x

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.arguments[self.reading.weight]
        return weight

    @property
    def bias(self) -> Tensor | None:
        return None if self.reading.bias is None else self.arguments[self.reading.bias]

    def run(self, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The op's result, with another weight and bias if given."""
        arguments = list(self.arguments)
        if weight is not None:
            arguments[self.reading.weight] = weight
        if bias is not None and self.reading.bias is not None:
            arguments[self.reading.bias] = bias
        out: Tensor = self.function(*arguments)
        return out

    # ---- as a regression

    def positions(self, out: Tensor) -> int:
        """How many rows there are."""
        return self.reading.positions(self, out)

    def rows(self, index: Tensor) -> Tensor:
        """The inputs at these positions, at least in float32: [G, N, columns]."""
        return _precise(self.reading.rows(self, index))

    def outputs(self, out: Tensor, index: Tensor) -> Tensor:
        """The outputs at these positions, at least in float32: [N, all outputs]."""
        return _precise(self.reading.outputs(self, out, index))

    def matrix(self) -> Tensor:
        """The weight, at least in float32, as [G, O, columns]."""
        return _precise(self.reading.matrix(self, self.weight))

    def layout(self) -> Callable[[Tensor], Tensor]:
        """What brings any tensor of the weight's shape into the form of `matrix`."""
        bare = replace(self, arguments=tuple(None if isinstance(a, Tensor) else a for a in self.arguments))
        return lambda tensor: bare.reading.matrix(bare, tensor)

    def tensor(self, matrix: Tensor) -> Tensor:
        """A weight in the op's own shape from [G, O, columns]."""
        return self.reading.tensor(self, matrix)


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


# ---------------------------------------------------------------- linear


def _flat(call: Call, x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _linear_rows(call: Call, index: Tensor) -> Tensor:
    return _flat(call, call.x)[index].unsqueeze(0)


def _linear_outputs(call: Call, out: Tensor, index: Tensor) -> Tensor:
    return _flat(call, out)[index]


def _linear_positions(call: Call, out: Tensor) -> int:
    return out.numel() // max(1, out.shape[-1])


# ---------------------------------------------------------------- convolution

_STRIDE, _PADDING, _DILATION, _GROUPS = 3, 4, 5, 6
# Of a transposed one.
_OUTPUT_PADDING, _TRANSPOSED_GROUPS, _TRANSPOSED_DILATION = 5, 6, 7


def _each(value: Any, rank: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * rank if len(values) == 1 else values


def _patches(call: Call) -> Tensor:
    """A view [B, C, *out, *kernel] of the padded input: no patch is copied until it is picked."""
    rank = call.weight.dim() - 2
    stride, dilation = _each(call.arguments[_STRIDE], rank), _each(call.arguments[_DILATION], rank)
    return _windows(
        F.pad(_batched(call), _padding(call, rank, call.weight.shape[2:], dilation)), call, stride, dilation
    )


def _batched(call: Call) -> Tensor:
    return call.x if call.x.dim() == call.weight.dim() else call.x.unsqueeze(0)


def _windows(x: Tensor, call: Call, stride: list[int], dilation: list[int]) -> Tensor:
    kernel = call.weight.shape[2:]
    sizes = [
        (size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    steps = [n * s for n, s in zip(x.stride()[2:], stride, strict=True)]
    taps = [n * d for n, d in zip(x.stride()[2:], dilation, strict=True)]
    return x.as_strided(
        (*x.shape[:2], *sizes, *kernel), (*x.stride()[:2], *steps, *taps), storage_offset=x.storage_offset()
    )


def _padding(call: Call, rank: int, kernel: tuple[int, ...], dilation: list[int]) -> list[int]:
    """For `F.pad`: the last dimension first, before and after."""
    given = call.arguments[_PADDING]
    if given == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    padding = [0] * rank if given == "valid" else _each(given, rank)
    return [side for p in reversed(padding) for side in (p, p)]


def _conv_rows(call: Call, index: Tensor) -> Tensor:
    return _picked_rows(call, _patches(call), index, call.arguments[_GROUPS])


def _picked_rows(call: Call, patches: Tensor, index: Tensor, groups: int) -> Tensor:
    rank = call.weight.dim() - 2
    at = torch.unravel_index(index, (patches.shape[0], *patches.shape[2 : 2 + rank]))
    picked = _pick(patches, at)  # (rows, channels, *kernel)
    rows: Tensor = picked.reshape(len(index), groups, -1).transpose(0, 1)
    return rows


def _conv_outputs(call: Call, out: Tensor, index: Tensor) -> Tensor:
    rank = call.weight.dim() - 2
    out = out if out.dim() == rank + 2 else out.unsqueeze(0)
    at = torch.unravel_index(index, (out.shape[0], *out.shape[2:]))
    picked = _pick(out, at)
    return picked


def _pick(tensor: Tensor, at: tuple[Tensor, ...]) -> Tensor:
    """[B, C, ..., rest] at positions of all dimensions but C -> [N, C, rest]."""
    index: Any = (at[0], slice(None), *at[1:])
    picked: Tensor = tensor[index]
    return picked


def _conv_positions(call: Call, out: Tensor) -> int:
    return out.numel() // max(1, call.weight.shape[call.reading.out])


def _conv_matrix(call: Call, weight: Tensor) -> Tensor:
    groups = call.arguments[_GROUPS]
    return weight.reshape(groups, weight.shape[0] // groups, -1)


# ---------------------------------------------------------------- transposed convolution


def _transposed_rows(call: Call, index: Tensor) -> Tensor:
    """The convolution that it comes to: of the input with zeros between its pixels and a border, with stride one."""
    rank = call.weight.dim() - 2
    stride, padding = (_each(call.arguments[n], rank) for n in (_STRIDE, _PADDING))
    extra, dilation = (_each(call.arguments[n], rank) for n in (_OUTPUT_PADDING, _TRANSPOSED_DILATION))
    x = _batched(call)
    sizes = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], stride, strict=True)]
    apart = x.new_zeros((*x.shape[:2], *sizes))
    between: tuple[Any, ...] = (..., *[slice(None, None, s) for s in stride])
    apart[between] = x
    border = [d * (k - 1) - p for d, k, p in zip(dilation, call.weight.shape[2:], padding, strict=True)]
    sides = [side for b, e in zip(reversed(border), reversed(extra), strict=True) for side in (b, b + e)]
    patches = _windows(F.pad(apart, sides).contiguous(), call, [1] * rank, dilation)
    return _picked_rows(call, patches, index, 1)


def _transposed_matrix(call: Call, weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).flip(tuple(range(2, weight.dim()))).flatten(1).unsqueeze(0)


def _transposed_tensor(call: Call, matrix: Tensor) -> Tensor:
    inputs, outputs, *kernel = call.weight.shape
    return matrix.reshape(outputs, inputs, *kernel).flip(tuple(range(2, 2 + len(kernel)))).transpose(0, 1)


_LINEAR: dict[str, Any] = {
    "rows": _linear_rows,
    "outputs": _linear_outputs,
    "positions": _linear_positions,
    "tensor": lambda call, matrix: matrix[0],
    "matrix": lambda call, weight: weight.unsqueeze(0),
    "flat": True,
}
_TRANSPOSED = {
    **_LINEAR,
    "tensor": lambda call, matrix: matrix[0].t(),
    "matrix": lambda call, weight: weight.t().unsqueeze(0),
}
_CONVOLUTION: dict[str, Any] = {
    "rows": _conv_rows,
    "outputs": _conv_outputs,
    "positions": _conv_positions,
    "tensor": lambda call, matrix: matrix.reshape(call.weight.shape),
    "matrix": _conv_matrix,
}

_TRANSPOSED_CONVOLUTION: dict[str, Any] = {
    **_CONVOLUTION,
    "rows": _transposed_rows,
    "tensor": _transposed_tensor,
    "matrix": _transposed_matrix,
    "undivided": _TRANSPOSED_GROUPS,
}

# By the op's name without its overload.
READINGS: dict[str, Reading] = {
    "aten::linear": Reading("linear", 0, 1, 2, 0, 1, **_LINEAR),
    "aten::addmm": Reading("addmm", 1, 2, 0, 1, 0, **_TRANSPOSED),
    "aten::mm": Reading("mm", 0, 1, None, 1, 0, **_TRANSPOSED),
    "aten::matmul": Reading("matmul", 0, 1, None, 1, 0, **_TRANSPOSED),
    **{f"aten::conv{n}d": Reading(f"conv{n}d", 0, 1, 2, 0, 1, **_CONVOLUTION) for n in (1, 2, 3)},
    **{
        f"aten::conv_transpose{n}d": Reading(f"conv_transpose{n}d", 0, 1, 2, 1, 0, **_TRANSPOSED_CONVOLUTION)
        for n in (1, 2, 3)
    },
}


def read(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The op as a regression on its weight, or None if it is none."""
    reading = READINGS.get(function.name().partition(".")[0])
    if reading is None:
        return None
    schema = function._schema.arguments
    arguments = [
        args[n]
        if n < len(args)
        else kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None)
        for n, argument in enumerate(schema)
        if not argument.kwarg_only
    ]
    if any(argument.kwarg_only and argument.name in kwargs for argument in schema):
        return None  # addmm with alpha or beta is no plain product
    if not reading.takes(arguments):
        return None
    call = Call(reading, function, tuple(arguments))
    weight, bias = call.weight, call.bias
    if not isinstance(weight, Tensor) or weight.dim() < 2 or not weight.is_floating_point():
        return None
    plain_bias = bias is None or bias.shape == (weight.shape[reading.out],)
    return call if plain_bias else None
