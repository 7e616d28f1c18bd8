"""Times on a device: what a call takes.

By the wall clock; on one thread of the CPU by the time that the process spends there, which is the same when nothing
else runs, and does not grow when something does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torch_pruning.trace.tracer import Example

_SHORTEST = 1e-3  # seconds that one reading lasts at least, by repeating the call
_SETTLED = 0.05  # seconds of calls before the first reading, at most


def synchronise(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given; the CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def milliseconds(call: Callable[[], Any], device: torch.device, readings: int = 5) -> float:
    """The shortest of several readings: whatever else the machine does can only make a call slower."""
    with torch.inference_mode():
        call()
        synchronise(device)
        once = _reading(call, device, 1)
        count = max(1, int(_SHORTEST / max(once, 1e-7)))
        if once < _SETTLED:
            call()
        return 1e3 * min(_reading(call, device, count) for _ in range(readings))


def _reading(call: Callable[[], Any], device: torch.device, count: int) -> float:
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter
    start = now()
    for _ in range(count):
        call()
    synchronise(device)
    return (now() - start) / count


def model_milliseconds(model: nn.Module, example: Example, device: torch.device, readings: int = 7) -> float:
    """What one run of the model takes on the example, in evaluation mode and without autograd."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        return milliseconds(lambda: example.call(model, example.inputs), device, readings)
    finally:
        for module in training:
            module.training = True


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def device_key(device: torch.device) -> str:
    """What measured times are good for: one kind of device, one release of torch, one number of threads."""
    name = _processor() if device.type == "cpu" else str(torch.get_device_module(device).get_device_name(device))
    return f"{device.type} {name} | torch {torch.__version__} | {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
