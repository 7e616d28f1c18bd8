"""One recorded op, run again on random tensors of other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_pruning.axes.expression import Axis
from torch_pruning.axes.polynomials import Polynomial
from torch_pruning.axes.sizes import size_polynomial
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.trace.program import Call, Value

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One call that takes time: the polynomials of the sizes of its inputs and of its first result."""

    call: Call
    inputs: tuple[tuple[Polynomial, ...], ...]
    result: tuple[Polynomial, ...]

    def shapes(self, count: Callable[[Any], int]) -> tuple[Shape, ...]:
        """The shapes of the inputs, and last that of the result, under these counts of axes."""
        return tuple(tuple(p.evaluate(count) for p in dims) for dims in (*self.inputs, self.result))

    def varying(self) -> list[Polynomial]:
        """The sizes that change with counts, each once."""
        sizes = (size for dims in (*self.inputs, self.result) for size in dims if size.value is None)
        return list(dict.fromkeys(sizes))


def all_work(graph: Graph) -> list[Work]:
    """The live calls of the run in evaluation mode that are more than views, in order."""
    inferred = graph.programs[0]
    found = []
    for call in inferred.program.live_calls():
        results, inputs = call.results(), call.inputs()
        storages = {value.storage for value in inputs}
        if not results or (not call.mutated and all(value.storage in storages for value in results)):
            continue
        known = [_polynomials(axes_of(value, inferred, graph.axes)) for value in inputs]
        found.append(Work(call, tuple(known), _polynomials(_result_axes(results[0], inferred))))
    return found


def _result_axes(value: Value, inferred: Inferred) -> Sequence[Axis]:
    return inferred.axes[value.index]


def _polynomials(axes: Sequence[Axis]) -> tuple[Polynomial, ...]:
    return tuple(size_polynomial(axis) for axis in axes)


def signature(work: Work, shapes: Sequence[Shape]) -> str:
    """What the time of a call depends on, as text: the op, shapes, types, memory order and the other arguments."""
    call = work.call
    tensors = [
        f"{list(shape)} {str(value.dtype).removeprefix('torch.')} {_order(value)}"
        for value, shape in zip(call.inputs(), shapes, strict=False)
    ]
    plain = _plain((call.args, call.kwargs))
    return f"{call.op}({'; '.join(tensors)}){plain} -> {list(shapes[-1])}"


def _plain(item: Any) -> str:
    """Arguments other than tensors."""
    if isinstance(item, Value):
        return "%"
    if isinstance(item, (tuple, list)):
        return "[" + ",".join(map(_plain, item)) + "]"
    if isinstance(item, Mapping):
        return "{" + ",".join(f"{key}:{_plain(value)}" for key, value in item.items()) + "}"
    return repr(item) if isinstance(item, (int, float, str, bool, type(None), torch.dtype)) else type(item).__name__


def runner(work: Work, shapes: Sequence[Shape], device: torch.device) -> Callable[[], Any]:
    """A call of the op on random tensors of these shapes."""
    call = work.call
    inputs = call.inputs()
    tensors = {
        id(value): _random(value, shape, device) for value, shape in zip(inputs, shapes[: len(inputs)], strict=True)
    }

    def real(item: Any) -> Any:
        if isinstance(item, Value):
            return tensors[id(item)]
        if isinstance(item, (tuple, list)):
            return type(item)(map(real, item))
        return {key: real(value) for key, value in item.items()} if isinstance(item, dict) else item

    args, kwargs = list(real(call.args)), real(call.kwargs)
    base = call.op.rpartition(".")[0] if call.op.startswith("aten.") else call.op
    if base in _ADAPTED:
        return _ADAPTED[base](call, args, kwargs, shapes[-1])
    return lambda: call.function(*args, **kwargs)


def _order(value: Value) -> list[int]:
    """Dimensions from the widest stride to the narrowest."""
    return sorted(range(len(value.shape)), key=lambda dim: (-value.strides[dim], dim)) if value.strides else []


def _random(value: Value, shape: Shape, device: torch.device) -> Tensor:
    order = _order(value) or list(range(len(shape)))
    laid_out = [shape[dim] for dim in order]
    if value.dtype.is_floating_point or value.dtype.is_complex:
        # Positive and small, so that square roots, logarithms and deep products stay finite.
        tensor = torch.rand(laid_out, device=device).to(value.dtype)
    else:
        tensor = torch.zeros(laid_out, dtype=value.dtype, device=device)
    return tensor.permute([order.index(dim) for dim in range(len(shape))])


# ---------------------------------------------------------------- arguments that are sizes

Adapted = Callable[[Call, list[Any], dict[str, Any], Shape], Callable[[], Any]]


def _groups(call: Call, args: list[Any], kwargs: dict[str, Any], result: Shape) -> Callable[[], Any]:
    """Convolution: as many groups as channels go into the weight's dim 1."""
    x, weight = args[0], args[1]
    channels = result[1 - weight.dim()] if "transpose" in call.op else x.shape[1 - weight.dim()]
    place = 7 if "transpose" in call.op else 6
    function = call.function
    if len(args) > place:
        args[place] = channels // weight.shape[1]
    elif "groups" in kwargs:
        kwargs["groups"] = channels // weight.shape[1]
    return lambda: function(*args, **kwargs)


def _normalised(call: Call, args: list[Any], kwargs: dict[str, Any], result: Shape) -> Callable[[], Any]:
    """Layer norm: the sizes of the last dimensions."""
    args[1] = list(args[0].shape[-len(args[1]) :])
    return lambda: call.function(*args, **kwargs)


def _sized(call: Call, args: list[Any], kwargs: dict[str, Any], result: Shape) -> Callable[[], Any]:
    """The shape of the result is an argument."""
    args[1] = list(result)
    return lambda: call.function(*args, **kwargs)


def _copied(call: Call, args: list[Any], kwargs: dict[str, Any], result: Shape) -> Callable[[], Any]:
    """Reshapes that copy."""
    return lambda: args[0].reshape(result)


def _attention(call: Call, args: list[Any], kwargs: dict[str, Any], result: Shape) -> Callable[[], Any]:
    """`multi_head_attention_forward`, as the layer that surgery puts in place of the stock one computes it."""
    query, heads, in_weight, in_bias = args[0], int(args[4]), args[5], args[6]
    weight, bias = args[11], args[12]
    if in_weight is None:
        raise NotImplementedError("separate projections")
    width = weight.shape[1]
    heads = math.gcd(heads, width)

    def run() -> Tensor:
        projected = F.linear(query, in_weight, in_bias)  # (tokens, batch, 3 * heads * head_dim)
        q, k, v = (
            part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in projected.chunk(3, dim=-1)
        )  # (batch, heads, tokens, head_dim)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return F.linear(mixed.permute(2, 0, 1, 3).flatten(2), weight, bias)

    return run


_ADAPTED: dict[str, Adapted] = {
    **dict.fromkeys(
        "aten.conv1d aten.conv2d aten.conv3d aten.conv_transpose1d aten.conv_transpose2d aten.conv_transpose3d".split(),
        _groups,
    ),
    "aten.layer_norm": _normalised,
    "aten.rms_norm": _normalised,
    "aten.expand": _sized,
    "aten.reshape": _copied,
    "aten.view": _copied,
    "aten.flatten": _copied,
    "aten._unsafe_view": _copied,
    "torch.multi_head_attention_forward": _attention,
}
