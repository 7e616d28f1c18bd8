"""Time and memory of a model as it runs, on the device it is on."""

from __future__ import annotations

import contextlib
import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torch_pruning.progress import track
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example

RunFn = Callable[[nn.Module, Any], Any]


def measure_latency(
    model: nn.Module, example_inputs: Any, repeat: int = 300, warmup: int = 50, run_fn: RunFn | None = None
) -> tuple[float, float]:
    """Mean and standard deviation of the milliseconds of one run, in evaluation mode, without gradients.

    `run_fn(model, example_inputs)` runs the model otherwise.

    >>> mean, deviation = measure_latency(nn.Linear(4, 2), torch.randn(1, 4), repeat=3, warmup=1)
    >>> mean > 0
    True
    """
    if repeat < 1:
        raise ValueError(f"repeat must be at least 1; found {repeat}: one run gives a time without a deviation")
    device = _device(model, example_inputs)
    times = []
    with _at_rest(model):
        for number in track(range(-warmup, repeat), "measuring latency"):
            _synchronize(device)
            start = time.perf_counter()
            _run(model, example_inputs, run_fn)
            _synchronize(device)
            if number >= 0:
                times.append((time.perf_counter() - start) * 1e3)
    found = torch.tensor(times, dtype=torch.float64)
    return float(found.mean()), float(found.std()) if repeat > 1 else 0.0


def measure_fps(
    model: nn.Module, example_inputs: Any, repeat: int = 300, warmup: int = 50, run_fn: RunFn | None = None
) -> float:
    """Runs per second, see `measure_latency`.

    >>> measure_fps(nn.Linear(4, 2), torch.randn(1, 4), repeat=3, warmup=1) > 0
    True
    """
    return 1e3 / measure_latency(model, example_inputs, repeat, warmup, run_fn)[0]


def measure_throughput(
    model: nn.Module, example_inputs: Any, repeat: int = 300, warmup: int = 50, run_fn: RunFn | None = None
) -> float:
    """Samples per second: the size of the first input's first dimension, times the runs per second.

    >>> measure_throughput(nn.Linear(4, 2), torch.randn(16, 4), repeat=3, warmup=1) > 0
    True
    """
    first = next((tensor for tensor, _ in tensors_in(example_inputs) if tensor.dim()), None)
    samples = 1 if first is None else first.shape[0]
    return samples * measure_fps(model, example_inputs, repeat, warmup, run_fn)


def measure_memory(
    model: nn.Module, example_inputs: Any, device: torch.device | str | None = None, run_fn: RunFn | None = None
) -> int:
    """Bytes that are in use at the peak of one run, parameters and inputs included.

    An accelerator's allocator keeps count itself; on the CPU it is the tensors that ops return, without what they use
    inside.

    >>> measure_memory(nn.Linear(4, 2, bias=False), torch.randn(1, 4))  # weight, input, output
    56
    """
    device = torch.device(device) if device is not None else _device(model, example_inputs)
    counter = getattr(torch, device.type, None)
    with _at_rest(model):
        if device.type != "cpu" and hasattr(counter, "max_memory_allocated"):
            counter.reset_peak_memory_stats(device)  # type: ignore[union-attr]
            _run(model, example_inputs, run_fn)
            _synchronize(device)
            return int(counter.max_memory_allocated(device))  # type: ignore[union-attr]
        with _LiveBytes() as live:
            held = [tensor for tensor, _ in tensors_in(example_inputs)]
            for tensor in itertools.chain(model.parameters(), model.buffers(), held):
                live.add(tensor)
            _run(model, example_inputs, run_fn)
        return live.peak


class _LiveBytes(TorchDispatchMode):
    """Bytes of the memory behind all tensors that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known[key] = weakref.finalize(storage, self._gone, key, size)
        self.known[key].atexit = False
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        del self.known[key]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor, _ in tensors_in(out):
            self.add(tensor)
        return out


def _run(model: nn.Module, example_inputs: Any, run_fn: RunFn | None) -> Any:
    return run_fn(model, example_inputs) if run_fn is not None else Example(example_inputs).call(model, example_inputs)


def _device(model: nn.Module, example_inputs: Any) -> torch.device:
    inputs = (tensor for tensor, _ in tensors_in(example_inputs))
    first: Tensor | None = next(itertools.chain(model.parameters(), inputs), None)
    return torch.device("cpu") if first is None else first.device


def _synchronize(device: torch.device) -> None:
    module = getattr(torch, device.type, None)
    if device.type != "cpu" and hasattr(module, "synchronize"):
        module.synchronize()  # type: ignore[union-attr]


@contextlib.contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module gets its own flag back."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, flag in before:
            module.training = flag
