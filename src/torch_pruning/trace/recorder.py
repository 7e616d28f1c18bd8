"""The two modes that record a run: one sees ops, the other the torch functions of the user's code and their sizes."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from torch_pruning.axes.sizes import DimensionSource, Expression
from torch_pruning.axes.traced import TracedInt, expression_of
from torch_pruning.trace.customized import customized_layer
from torch_pruning.trace.memo import Memo
from torch_pruning.trace.on_fakes import run_op
from torch_pruning.trace.program import Call, FunctionCall, Guard, Program, Value, ValueUse, Where, values_in

_TORCH = torch.__path__[0] + os.sep
_HERE = __file__.rsplit("trace", 1)[0]
_DECORATORS = contextlib.__file__  # frames of decorated functions, ours or the user's
_SHAPE = torch.Tensor.shape
_SIZE = torch.Tensor.size
_NUMEL = torch.Tensor.numel
_LEN = torch.Tensor.__len__
# Functions through which a tensor's data or memory leaves torch.
_LEAVING = {
    getattr(torch.Tensor, name)
    for name in (
        "numpy",
        "tolist",
        "__array__",
        "data_ptr",
        "__dlpack__",
        "untyped_storage",
        "storage",
        "share_memory_",
    )
}
# Constants of at most so many entries are compared when a plan is checked.
_SMALL = 256
# Functions that make tensors out of Python numbers, which then are numbers and no sizes.
_FROM_NUMBERS = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}
# Functions that are Python inside and have a rule of their own.
_OPAQUE = {torch.nn.functional.multi_head_attention_forward, customized_layer}


class Recorder:
    """Builds a Program. Tensors are told apart by identity, so each is kept alive until the run is over.

    `memo` holds what ops on fake tensors give; without it every op runs.
    """

    def __init__(self, program: Program, memo: Memo | None = None) -> None:
        self.program = program
        self.memo = memo
        self.of_tensor: dict[int, Value] = {}
        self.alive: list[torch.Tensor] = []
        self.by_storage: dict[int, list[Value]] = {}
        self.functions: list[FunctionCall] = []
        self.paths: dict[int, str] = {}
        self.codes: dict[CodeType, tuple[bool, bool]] = {}
        self.recording = True

    # ---- values

    def value(self, tensor: torch.Tensor, kind: str, name: str = "") -> Value:
        """A new version of this tensor."""
        layout = None if self.memo is None else self.memo.layouts.of_tensor(tensor)
        index = len(self.program.values)
        if layout is not None and layout.usual:
            storage = tensor.untyped_storage()._cdata
            where = layout.strides, layout.offset, layout
            value = Value(index, layout.shape, layout.dtype, storage, kind, name, *where)
        else:
            strided = tensor.layout == torch.strided
            storage = tensor.untyped_storage()._cdata if strided else id(tensor)
            place = (tensor.stride(), int(tensor.storage_offset())) if strided else ((), 0)
            value = Value(index, tuple(tensor.shape), tensor.dtype, storage, kind, name, *place, layout)
        self.program.values.append(value)
        if id(tensor) not in self.of_tensor:
            self.alive.append(tensor)
        self.of_tensor[id(tensor)] = value
        self.by_storage.setdefault(value.storage, []).append(value)
        return value

    def lookup(self, tensor: torch.Tensor) -> Value:
        """The current value of a tensor. One that appeared unseen (`p.data`) is the value it is a full view of."""
        value = self.of_tensor.get(id(tensor))
        # `p.data = q` changes a tensor unseen.
        if value is not None and value.shape == tensor.shape and _lies_alike(value, tensor):
            return value
        if tensor.layout == torch.strided:
            for candidate in reversed(self.by_storage.get(tensor.untyped_storage()._cdata, [])):
                same = candidate.shape == tuple(tensor.shape) and candidate.strides == tensor.stride()
                if same and candidate.offset == tensor.storage_offset():
                    self.of_tensor[id(tensor)] = candidate
                    self.alive.append(tensor)
                    return candidate
        constant = self.value(tensor, "constant")
        constant.contents = _contents(tensor)
        return constant

    def encode(self, item: Any, found: list[tuple[torch.Tensor, Value]]) -> Any:
        """The argument with values in the place of tensors; these are appended to `found`."""
        if isinstance(item, torch.Tensor):
            value = self.lookup(item)
            found.append((item, value))
            return value
        if isinstance(item, (list, tuple)):
            return [self.encode(child, found) for child in item]
        return item

    # ---- calls

    def record(self, op: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any) -> Any:
        """Run an op and write it down."""
        tensors: list[tuple[torch.Tensor, Value]] = []
        encoded = tuple([self.encode(arg, tensors) for arg in args])
        encoded_kwargs = {key: self.encode(arg, tensors) for key, arg in kwargs.items()}
        out = run() if self.memo is None else self._remembered(function, encoded, encoded_kwargs, tensors, run)
        written = [
            encoded[index] if index < len(encoded) else encoded_kwargs.get(name) for index, name in _mutated(function)
        ]
        mutated = tuple(values_in(written))
        outputs = self._outputs(out)
        origin = self.functions[-1] if self.functions else None
        self.program.calls.append(Call(op, function, encoded, encoded_kwargs, outputs, self.where(), origin, mutated))
        return out

    def _remembered(self, function: Any, args: Any, kwargs: Any, tensors: Any, run: Any) -> Any:
        """As `run()`. What the memo itself does to make tensors is no part of the program."""
        assert self.memo is not None
        before, self.recording = self.recording, False
        try:
            return self.memo.run(function, args, kwargs, tensors, run)
        finally:
            self.recording = before

    def _outputs(self, out: Any) -> Any:
        if isinstance(out, torch.Tensor):
            return self.value(out, "computed")
        if isinstance(out, (list, tuple)):
            return [self._outputs(item) for item in out]
        return None

    def where(self) -> Where:
        """The innermost line outside torch and this package, and the innermost module around it."""
        frame: FrameType | None = sys._getframe(2)
        user: FrameType | None = None
        module = ""
        while frame is not None:
            code = frame.f_code
            kind = self.codes.get(code)
            if kind is None:
                kind = self.codes[code] = _kind_of(code)
            users, methods = kind
            if users and user is None:
                user = frame
            # Reading the locals of a frame copies them all, so only where a module can be among them.
            if methods and not module and isinstance(owner := frame.f_locals.get("self"), nn.Module):
                module = self.paths.get(id(owner), "")
            if user is not None and module:
                break
            frame = frame.f_back
        if user is None:
            return Where(module, "", 0, "")
        return Where(module, user.f_code.co_filename, user.f_lineno, user.f_code.co_name)

    # ---- sizes (the protocol of traced integers)

    def guard(self, symbol: str, left: Expression, right: Expression, outcome: bool) -> None:
        if self.recording:
            self.program.guards.append(Guard(symbol, left, right, outcome, self.where()))

    def value_use(self, expression: Expression) -> int:
        """Write it down; returns the index of the event."""
        if self.recording:
            self.program.value_uses.append(ValueUse(expression, False, self.where()))
        return len(self.program.value_uses) - 1

    def uneven(self, expression: Expression) -> None:
        if self.recording:
            self.program.value_uses.append(ValueUse(expression, True, self.where()))

    def rounded(self, event: int) -> None:
        """A number that a size went into became an integer again: nothing ties it to the size any more."""
        if self.recording and event >= 0:
            self.program.value_uses[event] = replace(self.program.value_uses[event], uneven=True)

    def dimension(self, tensor: torch.Tensor, dim: int) -> int:
        value = self.lookup(tensor)
        return TracedInt(value.shape[dim], DimensionSource(value.index, dim % len(value.shape)), self)


def _contents(tensor: torch.Tensor) -> str | None:
    """The entries of a small tensor that has any, as text, in which NaN is equal to NaN."""
    real = type(tensor) is torch.Tensor and tensor.device.type != "meta" and tensor.layout == torch.strided
    return str(tensor.tolist()) if real and tensor.numel() <= _SMALL else None


def _kind_of(code: CodeType) -> tuple[bool, bool]:
    """(is it the user's code, may it be a method of a module) of a function."""
    ours = code.co_filename.startswith(_HERE)
    users = not ours and not code.co_filename.startswith((_TORCH, _DECORATORS, "<"))
    return users, not ours and "self" in code.co_varnames[:1]


_mutated_arguments: dict[Any, tuple[tuple[int, str], ...]] = {}


def _mutated(function: Any) -> tuple[tuple[int, str], ...]:
    """Positions and names of the arguments that an op writes to, by its schema."""
    found = _mutated_arguments.get(function)
    if found is None:
        schema = getattr(function, "_schema", None)
        arguments = schema.arguments if schema is not None else ()
        found = tuple(
            (i, a.name) for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write
        )
        _mutated_arguments[function] = found
    return found


class OpMode(TorchDispatchMode):
    """Records every op that reaches the dispatcher."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # What runs inside of an op, and what is asked of tensors here, is no part of the user's code. For ops of
        # scripted functions, which come past no torch function, the other mode would listen.
        with torch._C.DisableTorchFunction():
            if func.namespace == "prim" or not self.recorder.recording:
                return func(*args, **kwargs)
            return self.recorder.record(str(func), func, args, kwargs, lambda: run_op(func, args, kwargs))


def _used_as_numbers(item: Any) -> None:
    """Write down each traced integer in nested tuples and lists."""
    if isinstance(item, TracedInt):
        item.log.value_use(item.expression)
    elif isinstance(item, (tuple, list)):
        for child in item:
            _used_as_numbers(child)


class FunctionMode(TorchFunctionMode):
    """Gives sizes their source, and keeps the arguments of the function that an op came from."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        recorder = self.recorder
        if getattr(func, "__self__", None) is _SHAPE:
            return torch.Size([recorder.dimension(args[0], dim) for dim in range(args[0].dim())])
        if func is _SIZE and isinstance(args[0], torch.Tensor):
            return self._size(*args, **kwargs)
        if func is _NUMEL:
            total: int = 1
            for dim in range(args[0].dim()):
                total = recorder.dimension(args[0], dim) * total
            return total
        if func is _LEN and args[0].dim():
            # Python makes a plain number of it, whose source is lost.
            recorder.uneven(expression_of(recorder.dimension(args[0], 0)))
        name = getattr(func, "__name__", str(func))
        if func in _LEAVING:
            return recorder.record("torch.leave", func, args[:1], {}, lambda: func(*args, **kwargs))
        if func in _FROM_NUMBERS:
            _used_as_numbers((*args, *kwargs.values()))
        recorder.functions.append(FunctionCall(func, name, args, kwargs))
        try:
            if func in _OPAQUE and recorder.recording:
                return recorder.record(f"torch.{name}", func, args, kwargs, lambda: self._silently(func, args, kwargs))
            return func(*args, **kwargs)
        finally:
            recorder.functions.pop()

    def _size(self, tensor: torch.Tensor, dim: int | None = None) -> Any:
        if dim is not None:
            return self.recorder.dimension(tensor, int(dim))
        return torch.Size([self.recorder.dimension(tensor, dim) for dim in range(tensor.dim())])

    def _silently(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.recorder.recording = False
        try:
            return func(*args, **kwargs)
        finally:
            self.recorder.recording = True


def _lies_alike(value: Value, tensor: torch.Tensor) -> bool:
    """Whether it has the same strides; sparse tensors have none to ask for."""
    return not value.strides or value.strides == tensor.stride()
