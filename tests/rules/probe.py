"""A case as a module: its tensors are parameters or buffers, so that every dimension of them is a free axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rules.case import Case
from torch_pruning.trace.program import tensors_in


@dataclass(frozen=True, slots=True)
class Variant:
    """How the tensors reach the op.

    `lost`: tensors that are not zero where they are masked, because they go through x / 2 + 1 / 4 first.
    `lanes`: (tensor, outer, inner): these two dimensions come out of one dimension of the parameter, so that the inner
    one may keep other units for each unit of the outer one.
    """

    lost: frozenset[str] = frozenset()
    lanes: tuple[str, int, int] | None = None

    def __str__(self) -> str:
        lost = f", {', '.join(sorted(self.lost))} not zero where removed" if self.lost else ""
        lanes = f", dims {self.lanes[1]} and {self.lanes[2]} of {self.lanes[0]} from one" if self.lanes else ""
        return f"{lost}{lanes}".removeprefix(", ") or "plain"


PLAIN = Variant()


class Probe(nn.Module):
    """`forward` calls the op and hides the result in an object, so that nothing is frozen for being an output."""

    def __init__(
        self, case: Case, tensors: Mapping[str, Tensor], sizes: Mapping[str, int], variant: Variant, *, real: bool
    ) -> None:
        super().__init__()
        self.case = (case,)
        self.variant = variant
        self.real = real
        for name, tensor in tensors.items():
            if tensor.is_floating_point() or tensor.is_complex():
                self.register_parameter(name, nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(name, tensor.clone())
        for name, size in sizes.items():
            setattr(self, name, size)
        self.train(case.train)

    def forward(self) -> Any:
        (case,) = self.case
        given = SimpleNamespace(**{name: getattr(self, name) for name in case.sizes})
        for name in case.makers:
            setattr(given, name, self._arriving(name, getattr(self, name)))
        call = case.real if self.real and case.real is not None else case.call
        if self.real and case.twin is not None:
            case.twin(given)  # refuses sizes that do not fit, before the op reads beyond the end of a tensor
        return SimpleNamespace(out=call(given))

    def _arriving(self, name: str, tensor: Tensor) -> Tensor:
        if self.variant.lanes is not None and self.variant.lanes[0] == name:
            _, outer, inner = self.variant.lanes
            tensor = (
                tensor.unflatten(0, (self.lane_outer, self.lane_inner)).movedim((0, 1), (outer, inner)).contiguous()
            )
        if name in self.variant.lost:
            tensor = tensor * 0.5 + 0.25
        return tensor


def stored(case: Case, variant: Variant) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The tensors and sizes that the module of this variant holds."""
    tensors, sizes = case.tensors(), dict(case.sizes)
    if variant.lanes is not None:
        name, outer, inner = variant.lanes
        shape = tensors[name].shape
        sizes |= {"lane_outer": shape[outer], "lane_inner": shape[inner]}
        tensors[name] = tensors[name].movedim((outer, inner), (0, 1)).flatten(0, 1).contiguous()
    return tensors, sizes


def run(case: Case, tensors: Mapping[str, Tensor], sizes: Mapping[str, int], variant: Variant = PLAIN) -> list[Tensor]:
    """The outputs of the real op."""
    with torch.no_grad():
        out = Probe(case, tensors, sizes, variant, real=True)()
    return [tensor.detach() for tensor, _ in tensors_in(out)]
