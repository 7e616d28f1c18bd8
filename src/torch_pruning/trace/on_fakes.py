"""Ops whose kernels take more than PyTorch's own shape inference does: on fake tensors their shapes are given here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def run_op(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the op gives for these arguments."""
    shaped = _SHAPED.get(function)
    if shaped is not None and any(isinstance(arg, FakeTensor) for arg in args):
        out = shaped(*args, **kwargs)
        if out is not None:
            return out
    return function(*args, **kwargs)


def _grouped_mm(x: Tensor, weight: Tensor, offs: Tensor | None = None, *others: Any, **options: Any) -> Tensor | None:
    """[T, I], [E, I, O] -> [T, O]. Shape inference knows bfloat16 only, the kernels float32 as well."""
    if (x.dim(), weight.dim()) != (2, 3) or x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        return None
    return x.new_empty(x.shape[0], weight.shape[2])


_SHAPED: dict[Any, Callable[..., Any]] = {torch.ops.aten._grouped_mm.default: _grouped_mm}
