"""The run that `torch.export` and `torch.compile` would see, where it may differ from the one that is traced.

Code that calls attention with grouped queries (`enable_gqa`) does so where it can, and repeats keys and values
elsewhere: for a mask, and always when it is compiled. Code that calls `nn.MultiheadAttention` gives it no mask where
that would hide nothing, and elsewhere, as when it is compiled, one for each head. How often is an integer on the
module, which only that way reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from torch_pruning.trace.program import Program

_ATTENTION = "aten.scaled_dot_product_attention.default"


def other_ways(program: Program, model: nn.Module, trace: Callable[[], Program]) -> list[Program]:
    """The program that `trace` gives as if compiled; none if the first one is alike, or the code cannot run so.

    Only the modules that hold such attention, and it itself, are told that they are compiled: others (experts, say) may
    choose ops then that have nothing to do with it.
    """
    modules = dict(model.named_modules())
    layers = [path for path, module in modules.items() if isinstance(module, nn.MultiheadAttention)]
    layers += [call.where.module for call in program.calls if call.op == _ATTENTION and call.kwargs.get("enable_gqa")]
    if not layers:
        return []
    holders = {holder for path in layers for holder in accumulate(path.split("."), "{}.{}".format)} | {""}
    try:
        with _as_if_compiled({id(module) for path, module in modules.items() if path in holders}):
            found = trace()
    except Exception:
        return []
    alike = [call.op for call in found.calls] == [call.op for call in program.calls]
    return [] if alike or found.kind != program.kind else [found]


@contextlib.contextmanager
def _as_if_compiled(told: set[int]) -> Iterator[None]:
    """`torch.compiler.is_compiling()` is true while the innermost module that runs is one of these."""
    running: list[int] = []

    def compiling() -> bool:
        return bool(running) and running[-1] in told

    def left(*_: Any) -> None:
        running.pop()

    with contextlib.ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(lambda module, _: running.append(id(module))).remove)
        stack.callback(register_module_forward_hook(left, always_call=True).remove)
        stack.enter_context(mock.patch.multiple(torch.compiler, is_compiling=compiling, is_exporting=compiling))
        yield
