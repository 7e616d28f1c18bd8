"""What each module of a run gave back: the tensors that the code around it got hold of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.recorder import Recorder


@contextmanager
def returns_recorded(recorder: Recorder) -> Iterator[None]:
    """`returned` of the program gets, by path, the values that each module returns while the block runs."""

    def look(module: nn.Module, args: Any, out: Any) -> None:
        path = recorder.paths.get(id(module))
        if path is None:
            return
        values = (recorder.of_tensor.get(id(tensor)) for tensor, _ in tensors_in(out))
        recorder.program.returned.setdefault(path, []).extend(value for value in values if value is not None)

    handle = register_module_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()
