"""Runs of the model on calibration inputs, with every op that multiplies a weight of the model shown to a visitor.

Ops are seen where the dispatcher sees them, so functional calls, hooks and layers of one's own are all alike. A weight is told by
the identity of its tensor; one that is computed first (weight norm, a cast) is not seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torch_pruning.recovery.readings import Call, read
from torch_pruning.trace.substitute import named_tensors, substituted
from torch_pruning.trace.tracer import Example, _fast_path_off, _mode, _random_state, copied

# (name of the weight, how often it was seen before in this run, the op) -> its result
Visitor: TypeAlias = Callable[[str, int, Call], Tensor]


class _Products(TorchDispatchMode):
    def __init__(self, names: Mapping[int, str], visit: Visitor) -> None:
        super().__init__()
        self.names = names
        self.visit = visit
        self.seen: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = read(func, args, kwargs)
        name = None if call is None else self.names.get(id(call.weight))
        if call is None or name is None:
            return func(*args, **kwargs)
        use = self.seen[name] = self.seen.get(name, -1) + 1
        return self.visit(name, use, call)


class Runner:
    """Forward passes of a model over batches, under `at_rest`. Batches stay as they are."""

    def __init__(self, model: nn.Module, example: Example) -> None:
        self.model = model
        self.example = example
        self.names = {id(tensor): name for name, tensor in named_tensors(model)}

    def run(self, batch: Any, visit: Visitor) -> None:
        """One pass, in inference mode, with every product shown to `visit`."""
        inputs = copied(batch, lambda name, tensor: tensor.detach().clone())
        with torch.inference_mode(), _Products(self.names, visit):
            self.example.call(self.model, inputs)


@contextlib.contextmanager
def at_rest(model: nn.Module, example: Example) -> Iterator[Runner]:
    """The model in evaluation mode. Modes, attributes, buffers and the random state come back as they were."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    runner = Runner(model, example)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_random_state())
        stack.enter_context(_fast_path_off())
        stack.enter_context(_mode(model, training=False))
        stack.enter_context(substituted(model, lambda name, tensor: tensor, None, {}))
        try:
            yield runner
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    if buffer.shape == before.shape and not buffer.equal(before):
                        buffer.copy_(before)
