"""How a tensor lies in memory: all that an op on fake tensors can see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Shape, strides, offset, type and device. Equal layouts of one table are the same object.

    `usual` is False for tensors that carry more than that (sparse, quantized, conjugated, with a constant, subclasses).
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device
    fake: bool
    inference: bool  # born in inference mode, or a view of such a tensor
    usual: bool = True

    @property
    def row_major(self) -> bool:
        """Whether the strides are exactly those of a new tensor of this shape."""
        return self.strides == row_major_strides(self.shape)

    @property
    def bytes(self) -> int:
        """Memory from the first element to the last."""
        if 0 in self.shape:
            return 0
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize


UNUSUAL = Layout((), (), 0, torch.float32, torch.device("meta"), fake=False, inference=False, usual=False)


@dataclass(slots=True)
class LayoutTable:
    """One object per layout, so that they compare and hash by identity."""

    known: dict[tuple[Any, ...], Layout] = field(default_factory=dict)

    def get(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
        dtype: torch.dtype,
        device: torch.device,
        fake: bool,
        inference: bool,
    ) -> Layout:
        key = (shape, strides, offset, dtype, device, fake, inference)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = Layout(*key)
        return found

    def new(self, shape: Sequence[int], like: Layout) -> Layout:
        """The layout of a new fake tensor of this shape, made in inference mode, of the type and device of another."""
        size = tuple(shape)
        return self.get(size, row_major_strides(size), 0, like.dtype, like.device, fake=True, inference=True)

    def of_tensor(self, tensor: torch.Tensor) -> Layout:
        """The layout of any tensor."""
        fake = type(tensor) is FakeTensor
        usual = fake or type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if not usual or tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg() or tensor.is_quantized:
            return UNUSUAL
        if isinstance(tensor, FakeTensor) and tensor.constant is not None:
            return UNUSUAL
        device = tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device
        shape, offset = tuple(tensor.shape), int(tensor.storage_offset())
        return self.get(shape, tensor.stride(), offset, tensor.dtype, device, fake, tensor.is_inference())


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a new tensor: (2, 3, 4) -> (12, 4, 1)."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
