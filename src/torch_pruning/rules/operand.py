"""A tensor argument of an op, with the axes of its dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch_pruning.axes.expression import Axis


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """`value` is the index of the recorded value; `name` is set for tensors that live on the model; `dtype` tells masks
    from indices."""

    value: int
    axes: tuple[Axis, ...]
    name: str = ""
    dtype: Any = None
    reader: Any = None  # the recorded call that reads it; rules pass it on unseen
    strides: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    def repeats(self, dim: int) -> bool:
        """Whether one and the same element stands at every position of a dimension."""
        return self.axes[dim].size == 1 or (len(self.strides) == self.rank and self.strides[dim] == 0)

    @property
    def rank(self) -> int:
        return len(self.axes)
