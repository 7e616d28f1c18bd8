"""The branches of removed blocks multiplied by zero where the code adds them: what removing blocks is compared with."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torch_pruning.errors import CheckError
from torch_pruning.planning.depth import DepthChange, SilencedSum
from torch_pruning.trace.program import Program
from torch_pruning.trace.recorder import Recorder

_ADDITIONS = frozenset(
    [torch.add, *(getattr(Tensor, name) for name in ("add", "add_", "__add__", "__radd__", "__iadd__"))]
)
_Place = tuple[str, str, int]  # module, file, line


@contextlib.contextmanager
def silenced(model: nn.Module, depth: DepthChange | None) -> Iterator[None]:
    """Runs inside add zeros instead of the branches of the blocks that go.

    Raises:
        CheckError: if one of the sums never came; nothing would have been compared then.
    """
    if depth is None:
        yield
        return
    mode = _Silence(model, depth)
    with mode:
        yield
    if mode.wanted:
        missed = next(iter(mode.wanted))
        raise CheckError(
            f"the sum at {missed[0]} was to lose its branch, and did not run: verify with the inputs that the plan was "
            "made with"
        )


class _Silence(TorchFunctionMode):
    """Independent of how blocks are taken out: it knows lines of code and counts additions."""

    def __init__(self, model: nn.Module, depth: DepthChange) -> None:
        super().__init__()
        self.place_finder = Recorder(Program("eval", "real"))
        self.place_finder.paths = {id(module): path for path, module in model.named_modules()}
        self.wanted: dict[tuple[_Place, int], SilencedSum] = {
            ((entry.module, entry.file, entry.line), entry.ordinal): entry for entry in depth.sums
        }
        self.lines = {place for place, _ in self.wanted}
        self.counted: Counter[_Place] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ADDITIONS:
            args = self._silenced(args, in_place=func is Tensor.add_)
        return func(*args, **(kwargs or {}))

    def _silenced(self, args: tuple[Any, ...], in_place: bool) -> tuple[Any, ...]:
        """`in_place`: the result is whatever tensor is written to, and that may be the branch (`branch.add_(x)`)."""
        where = self.place_finder.where()
        place = (where.module, PurePath(where.file).name, where.line)
        if place not in self.lines:
            return args
        entry = self.wanted.pop((place, self.counted[place]), None)
        self.counted[place] += 1
        if entry is None:
            return args
        branch: Tensor = args[entry.operand]
        zero = branch.mul_(0) if in_place and entry.operand == 0 else branch * 0
        return tuple(zero if index == entry.operand else arg for index, arg in enumerate(args))
