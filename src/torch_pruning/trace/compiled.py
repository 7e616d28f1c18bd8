"""The run that `torch.export` and `torch.compile` would see, where it may differ from the one that is traced.

Code that calls attention with grouped queries (`enable_gqa`) does so where it can, and repeats keys and values
elsewhere: for a mask, and always when it is compiled. How often is an integer on the module, which only that way reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch

from torch_pruning.trace.program import Program

_ATTENTION = "aten.scaled_dot_product_attention.default"


def other_ways(program: Program, trace: Callable[[], Program]) -> list[Program]:
    """The program that `trace` gives as if compiled; none if the first one is alike, or the code cannot run so."""
    if not any(call.op == _ATTENTION and call.kwargs.get("enable_gqa") for call in program.calls):
        return []
    try:
        with _as_if_compiled():
            found = trace()
    except Exception:
        return []
    alike = [call.op for call in found.calls] == [call.op for call in program.calls]
    return [] if alike or found.kind != program.kind else [found]


@contextlib.contextmanager
def _as_if_compiled() -> Iterator[None]:
    with mock.patch.multiple(torch.compiler, is_compiling=lambda: True, is_exporting=lambda: True):
        yield
