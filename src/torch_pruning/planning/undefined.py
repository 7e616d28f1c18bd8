"""Whether a run computes what is undefined (0 / 0) on its way, even where its outputs do not show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from torch_pruning.trace.program import tensors_in


@contextmanager
def undefined_noticed() -> Iterator[list[nn.Module]]:
    """A list of the modules that give NaN, complete when the block is left. An argmax makes a whole number of one."""
    found: list[nn.Module] = []

    def look(module: nn.Module, args: Any, out: Any) -> None:
        if any(_is_undefined(tensor) for tensor, _ in tensors_in(out, inside_objects=False)):
            found.append(module)

    handle = register_module_forward_hook(look)
    try:
        yield found
    finally:
        handle.remove()


def _is_undefined(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(tensor.isnan().any())
