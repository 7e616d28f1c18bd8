"""What ops give for arguments of known shapes and strides, so that each case is worked out on fake tensors only once.

A fake tensor has no data: what an op makes of it follows from the op, the layouts of its tensors, which of them share
memory, and its other arguments. Inferring that costs PyTorch a tenth of a millisecond up to thirty (the first batch
norm of a size); making a tensor of a known layout costs a fiftieth. Networks repeat themselves, and the second mode
repeats the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from torch_pruning.trace.layout import Layout, LayoutTable
from torch_pruning.trace.program import Value
from torch_pruning.trace.row_major import row_major_result

# Arguments that are no tensors and compare by what they say.
_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format)


@dataclass(frozen=True, slots=True)
class Made:
    """One output: a tensor of this layout, on new memory or on that of an argument or of an earlier output."""

    layout: Layout
    argument: int | None = None
    output: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an op returns: for each output a recipe, the number of the argument that it is, or None. `container` is its
    type if it returns several."""

    outputs: tuple[Made | int | None, ...]
    container: type | None = None


Tensors = Sequence[tuple[torch.Tensor, Value]]


@dataclass(slots=True)
class Memo:
    """Results by op and arguments. It may serve several runs, as nothing in it belongs to one of them."""

    layouts: LayoutTable = field(default_factory=LayoutTable)
    results: dict[Any, Result | None] = field(default_factory=dict)

    def run(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Tensors, run: Callable[[], Any]
    ) -> Any:
        """What `run` would return. `args` and `kwargs` have values in the place of the tensors, which come in order."""
        key = self._key(function, args, kwargs, tensors)
        if key is None:
            return run()
        if key in self.results:
            result = self.results[key]
            return run() if result is None else _make(result, tensors)
        row_major = row_major_result(function, args, kwargs, self.layouts)
        if row_major is not None:
            result = Result((Made(row_major) if isinstance(row_major, Layout) else row_major,))
            self.results[key] = result
            return _make(result, tensors)
        out = run()
        self.results[key] = self._described(out, tensors)
        return out

    def _key(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Tensors) -> Any:
        """None for what has to be run: unusual tensors or arguments, ops of others."""
        if not tensors or not _depends_on_layouts_only(function):
            return None
        if not torch.is_inference_mode_enabled() or torch._C._is_any_autocast_enabled():
            return None
        if not all(value.layout.usual for _, value in tensors):
            return None
        storages = [value.storage for _, value in tensors]
        shared = () if len(set(storages)) == len(storages) else tuple(map(storages.index, storages))
        try:
            named = tuple([(name, _key_of(item)) for name, item in kwargs.items()]) if kwargs else ()
            return function, tuple(map(_key_of, args)), named, shared, torch.get_default_dtype()
        except _UnusualArgumentError:
            return None

    def _described(self, out: Any, tensors: Tensors) -> Result | None:
        """The result as a recipe; None if there is none, as for real tensors, whose values differ each time."""
        items = list(out) if type(out) in (tuple, list) else [out]
        outputs: list[Made | int | None] = []
        storages: list[int] = []
        for item in items:
            if item is None:
                outputs.append(None)
                storages.append(-1)
                continue
            if type(item) is not FakeTensor:
                return None
            same = next((index for index, (tensor, _) in enumerate(tensors) if tensor is item), None)
            made = self._made(item, same, tensors, storages)
            if made is None:
                return None
            outputs.append(made)
            storages.append(item.untyped_storage()._cdata)
        return Result(tuple(outputs), type(out) if type(out) in (tuple, list) else None)

    def _made(self, item: Any, same: int | None, tensors: Tensors, storages: list[int]) -> Made | int | None:
        layout = self.layouts.of_tensor(item)
        if not layout.usual:
            return None
        if same is not None:  # an op that reshapes its argument in place has to run
            return same if tensors[same][1].layout is layout else None
        storage = item.untyped_storage()._cdata
        for index, (_, value) in enumerate(tensors):
            if value.storage == storage:
                return Made(layout, argument=index)
        if storage in storages:
            return Made(layout, output=storages.index(storage))
        # A new tensor fills its memory; a view into the middle of something that nobody else holds is left alone.
        return Made(layout) if item.untyped_storage().nbytes() == layout.bytes else None


@cache
def _depends_on_layouts_only(function: Any) -> bool:
    """True of ATen's own ops, and of the Python function made of them that is recorded as a whole."""
    if isinstance(function, torch._ops.OpOverload):
        return function.namespace == "aten"
    return function is torch.nn.functional.multi_head_attention_forward


class _UnusualArgumentError(Exception):
    """An argument that cannot be part of a key."""


def _key_of(item: Any) -> Any:
    kind = type(item)
    if kind is Value:
        return item.layout
    if item is None or kind is int or kind is str:
        return item
    if kind is list or kind is tuple:
        return tuple(map(_key_of, item))
    if kind is bool or kind is float:
        return kind, item  # because True == 1 == 1.0
    if isinstance(item, int):  # a traced size: functions see it, ops do not
        return int.__int__(item)
    if isinstance(item, _PLAIN):
        return item
    raise _UnusualArgumentError


def _make(result: Result, tensors: Tensors) -> Any:
    made: list[Any] = []
    mode = next(tensor.fake_mode for tensor, _ in tensors if isinstance(tensor, FakeTensor))
    for recipe in result.outputs:
        if recipe is None:
            made.append(None)
        elif isinstance(recipe, int):
            made.append(tensors[recipe][0])
        elif recipe.layout.inference:
            made.append(_made_tensor(recipe, tensors, made, mode))
        else:  # a view of a parameter
            with torch.inference_mode(False), torch.no_grad():
                made.append(_made_tensor(recipe, tensors, made, mode))
    return made[0] if result.container is None else result.container(made)


def _made_tensor(recipe: Made, tensors: Tensors, made: Sequence[Any], mode: FakeTensorMode) -> FakeTensor:
    layout = recipe.layout
    if recipe.argument is None and recipe.output is None:
        inner = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device="meta")
    else:
        base = made[recipe.output] if recipe.output is not None else tensors[recipe.argument][0]  # type: ignore[index]
        inner = torch.empty(0, dtype=layout.dtype, device="meta")
        inner.set_(base.untyped_storage(), layout.offset, layout.shape, layout.strides)
    return FakeTensor(mode, inner, layout.device)
