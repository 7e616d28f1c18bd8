"""Run a model in float64 whatever its code asks for: it is the formula that is compared, not its rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SHORT = (torch.float32, torch.float16, torch.bfloat16)
_SHORT_CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


@contextmanager
def in_double() -> Iterator[None]:
    """Casts to a shorter floating-point type give float64, new tensors are float64.

    Kernels without float64, and one whose gradients are wrong, are replaced.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _InDouble():
            yield
    finally:
        torch.set_default_dtype(before)


class _InDouble(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _SHORT_CASTS:
            func = torch.Tensor.double
        kwargs = {key: _lengthened(item) for key, item in (kwargs or {}).items()}
        return _REPLACED.get(func, func)(*(_lengthened(arg) for arg in args), **kwargs)


def _lengthened(item: Any) -> Any:
    return torch.float64 if isinstance(item, torch.dtype) and item in _SHORT else item


def _grouped_mm(
    x: Tensor, weight: Tensor, *, offs: Tensor | None = None, bias: Any = None, out_dtype: Any = None
) -> Tensor:
    """x [T, I], weight [E, I, O], ends of the rows of each expert [E] -> [T, O]: one product per expert.

    Rows behind the last end are zero; the kernel leaves them undefined.
    """
    if offs is None or bias is not None or (x.dim(), weight.dim()) != (2, 3):
        raise NotImplementedError("a grouped product of this form has no float64 stand-in")
    ends: list[int] = offs.tolist()
    pairs = zip([0, *ends[:-1]], ends, weight, strict=True)
    parts = [x[start:end] @ matrix for start, end, matrix in pairs]
    return torch.cat([*parts, x.new_zeros(x.shape[0] - ends[-1], weight.shape[2])])


def _gradient_laid_out_alike(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The norm, with the gradient of its result copied into the result's own layout before it goes on.

    Of a batch of one, torch's backward of batch norm on the CPU reads a gradient as if it lay in memory as the input
    does. It does not where the result was flattened and transposed; parameter gradients come out wrong then. Instance
    norm is batch norm over a batch of one.
    """

    def run(*args: Any, **kwargs: Any) -> Tensor:
        out = norm(*args, **kwargs)
        strides = out.stride()
        if out.requires_grad:
            out.register_hook(
                lambda grad: torch.empty_strided(grad.shape, strides, dtype=grad.dtype, device=grad.device).copy_(grad)
            )
        return out

    return run


_NORMS = [getattr(holder, name) for holder in (torch.nn.functional, torch) for name in ("batch_norm", "instance_norm")]
_REPLACED: dict[Any, Callable[..., Any]] = {
    **{norm: _gradient_laid_out_alike(norm) for norm in _NORMS},
    **{
        getattr(holder, name): _grouped_mm
        for holder, name in ((torch.nn.functional, "grouped_mm"), (torch, "_grouped_mm"))
        if hasattr(holder, name)
    },
}
