"""Run a model under recording, on fake tensors where possible, and leave it as it was."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from torch_pruning.trace.caches import caches_forgotten
from torch_pruning.trace.collector import collector_paused
from torch_pruning.trace.compiled import other_ways
from torch_pruning.trace.customized import CustomizedLayers
from torch_pruning.trace.mathematics import math_sees_sizes
from torch_pruning.trace.memo import Memo
from torch_pruning.trace.program import Program, Value, tensors_in
from torch_pruning.trace.recorder import _HERE, _TORCH, FunctionMode, OpMode, Recorder
from torch_pruning.trace.returned import returns_recorded
from torch_pruning.trace.substitute import substituted

ForwardFn = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, slots=True)
class Example:
    """How to call the model: its inputs, and optionally the user's own call and choice of outputs.

    A dict is passed as keyword arguments, a tuple or list as positional ones, anything else as the only argument.
    """

    inputs: Any
    forward_fn: ForwardFn | None = None
    output_transform: Callable[[Any], Any] | None = None
    customized: CustomizedLayers | None = None

    def call(self, model: nn.Module, inputs: Any) -> Any:
        if self.customized is None:
            return self._call(model, inputs)
        with self.customized.on(model):
            return self._call(model, inputs)

    def _call(self, model: nn.Module, inputs: Any) -> Any:
        if self.forward_fn is not None:
            return self.forward_fn(model, inputs)
        if isinstance(inputs, dict):
            return model(**inputs)
        if isinstance(inputs, (tuple, list)):
            return model(*inputs)
        return model(inputs)


@collector_paused()
def trace(model: nn.Module, example: Example, mode: str = "eval", memo: Memo | None = None) -> Program:
    """Record one run of the model in "eval" or "train" mode.

    Fake tensors first; where the model looks at data, real ones; where it calls autograd itself, real ones with grad.
    Where there are no data (on the "meta" device), a run that ended behind the last parameter is enough.
    The model, its inputs and the random state come back as they were. The model's own exceptions pass through.
    Traces that share a `memo` work out what ops on fake tensors give only once.
    """
    program, failure = _attempt(model, example, mode, "fake", memo or Memo())
    if failure is None:
        return program
    error = failure
    for kind in ("real", "real+grad"):
        real_program, real_error = _attempt(model, example, mode, kind)
        if real_error is None:
            return real_program
        error = real_error if kind == "real" else error
    if _is_of_fakes(failure) and _complete(program, model):
        return program
    raise error


def _is_of_fakes(error: BaseException) -> bool:
    """Whether the run ended because fake tensors have no data, and not by an exception of the model itself."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__module__ == FakeTensorMode.__module__:
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _reachable(error: BaseException, program: Program, recorder: Recorder) -> list[Value]:
    """The values that the code could have gone on with: what nothing has read yet, and the variables of its frames."""
    read = {value.index for call in program.calls for value in call.inputs()}
    found = {value.index: value for call in program.calls for value in call.results() if value.index not in read}
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(_HERE):
            for tensor, _ in tensors_in(dict(frame.tb_frame.f_locals), inside_objects=not file.startswith(_TORCH)):
                value = recorder.of_tensor.get(id(tensor))
                if value is not None and value.kind == "computed":
                    found[value.index] = value
        frame = frame.tb_next
    return list(found.values())


def _complete(program: Program, model: nn.Module) -> bool:
    """Whether every parameter was read before a run failed (detectors look at data in post-processing)."""
    used = {value.storage for call in program.calls for value in call.inputs()}
    return bool(program.calls) and all(
        value.storage in used for name, value in program.state.items() if isinstance(_named(model, name), nn.Parameter)
    )


def _named(model: nn.Module, name: str) -> Any:
    try:
        return model.get_parameter(name)
    except AttributeError:
        return None


def _attempt(
    model: nn.Module, example: Example, mode: str, kind: str, memo: Memo | None = None
) -> tuple[Program, BaseException | None]:
    program = Program(mode, kind)
    recorder = Recorder(program, memo)
    modules = dict(model.named_modules())
    recorder.paths = {id(module): path for path, module in modules.items()}
    stand_in = _fakes() if kind == "fake" else _clone

    def replace_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
        new = stand_in(name, tensor)
        program.state[name] = recorder.value(new, "state", name)
        return new

    with contextlib.ExitStack() as stack:
        stack.enter_context(caches_forgotten(model))
        stack.enter_context(_mode(model, training=mode == "train"))
        stack.enter_context(_random_state())
        stack.enter_context(_fast_path_off())
        stack.enter_context(math_sees_sizes({type(module) for module in modules.values()}))
        inputs = copied(example.inputs, stand_in)
        program.inputs += [recorder.value(tensor, "input") for tensor, _ in tensors_in(inputs)]
        stack.enter_context(substituted(model, replace_tensor, recorder, program.attributes))
        stack.enter_context(torch.inference_mode(kind != "real+grad"))
        try:
            with returns_recorded(recorder), OpMode(recorder), FunctionMode(recorder):
                outputs = example.call(model, inputs)
        except Exception as error:
            program.failure = error
            program.reachable = _reachable(error, program, recorder)
            return program, error
        finally:
            recorder.recording = False
        if example.output_transform is not None:
            outputs = example.output_transform(outputs)
        for tensor, opaque in tensors_in(outputs):
            (program.carried if opaque else program.outputs).append(recorder.lookup(tensor))
        program.rewritten = _rewritten(modules, program, recorder)
    return program, None


def _rewritten(modules: Mapping[str, nn.Module], program: Program, recorder: Recorder) -> dict[str, Value]:
    """The tensors that stand on the model after the run in place of those that stood there before, by name."""
    found: dict[str, Value] = {}
    for path, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        prefix = f"{path}." if path else ""
        for key, item in (*module._buffers.items(), *module.__dict__.items()):
            if isinstance(item, torch.Tensor) and (before := program.state.get(prefix + key)) is not None:
                after = recorder.lookup(item)
                if after.storage != before.storage:
                    found[prefix + key] = after
    return found


def _fakes() -> Callable[[str, torch.Tensor], torch.Tensor]:
    """Stand-ins without memory for floating-point tensors; copies of the others, which hold indices and masks."""
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)

    def make(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() and not tensor.is_complex():
            return tensor.detach().clone()
        if tensor.layout != torch.strided:
            return fake_mode.from_tensor(tensor)
        strided = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        device = torch.device("cpu") if tensor.device.type == "meta" else tensor.device
        fake = FakeTensor(fake_mode, strided, device)
        if isinstance(tensor, nn.Parameter):
            fake._is_param = True
        return fake

    return make


def _clone(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad)
    return tensor.detach().clone()


def copied(inputs: Any, stand_in: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    """A deep copy of the example inputs, containers and caches included, with every tensor replaced."""
    with _ReplaceOnCopy(stand_in):
        return copy.deepcopy(inputs)


class _ReplaceOnCopy(TorchFunctionMode):
    def __init__(self, stand_in: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stand_in = stand_in

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self.stand_in("", tensor)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def doubled(example: Example) -> Example:
    """The example with its batch repeated: batch norm refuses a batch of one in training mode.

    The batch is dim 0 of the first input; tensors of another size there (a mask, a vector of weights) are not repeated.
    """
    sizes = [tensor.shape[0] for tensor, _ in tensors_in(example.inputs) if tensor.dim()]

    def twice(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor]) if tensor.dim() and tensor.shape[0] == sizes[0] else tensor

    return replace(example, inputs=copied(example.inputs, twice))


@contextlib.contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module in the given mode; each gets its own flag back."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, flag in before:
            if module.training is not flag:
                module.training = flag


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    devices = (
        list(range(torch.cuda.device_count())) if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    )
    with torch.random.fork_rng(devices=devices):
        yield


@contextlib.contextmanager
def _fast_path_off() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def trace_modes(model: nn.Module, example: Example, modes: Sequence[str] = ("eval", "train")) -> list[Program]:
    """One program per mode, and one of the code as it would be compiled where that may be another.

    Training mode is tried with a doubled batch too, and left out if the model refuses it.
    """
    memo = Memo()
    programs = [trace(model, example, modes[0], memo)]
    programs += other_ways(programs[0], model, lambda: trace(model, example, modes[0], memo))
    for mode in modes[1:]:
        try:
            programs.append(trace(model, example, mode, memo))
        except Exception:
            with contextlib.suppress(Exception):
                programs.append(trace(model, doubled(example), mode, memo))
    return programs
