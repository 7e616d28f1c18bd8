"""Writing solutions onto the model, so that they can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.biases import create_bias
from torch_pruning.recovery.reconstruct import Solved
from torch_pruning.recovery.weights import Solvable
from torch_pruning.trace.substitute import named_tensors


class Writer:
    """Writes onto the tensors of a model, and can undo all of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors = dict(named_tensors(model))
        self.created: dict[str, int] = {}  # sizes of new biases by module
        self._undo: list[Callable[[], None]] = []

    def undo(self) -> None:
        """Everything as it was before the first write."""
        while self._undo:
            self._undo.pop()()

    def put(self, name: str, values: Tensor) -> None:
        """The tensor of this name takes on the values."""
        tensor = self.tensors[name]
        before = tensor.detach().clone()
        self._undo.append(lambda: _copy(tensor, before))
        _copy(tensor, values)

    def add(self, name: str, values: Tensor) -> None:
        """The values are added to the tensor of this name."""
        self.put(name, self.tensors[name].detach() + values)

    def add_bias(self, path: str, values: Tensor, graph: Graph, optimizer: Any) -> None:
        """A layer without a bias gets one, which the graph and the optimizer then know."""
        optimizers = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
        self._undo.append(create_bias(self.model, path, values, optimizers))
        name, weight = (f"{path}.{part}" if path else part for part in ("bias", "weight"))
        self._undo.append(graph.adopt(name, graph.axes[weight][0]))
        self.created[path] = values.numel()


def _copy(tensor: Tensor, values: Tensor) -> None:
    with torch.inference_mode(False), torch.no_grad():
        tensor.copy_(values.clone())


@contextmanager
def undone_on_error(model: nn.Module) -> Iterator[Writer]:
    """A writer whose writes are taken back if anything fails."""
    writer = Writer(model)
    try:
        yield writer
    except BaseException:
        writer.undo()
        raise


def write(
    writer: Writer, solved: Mapping[str, Solved], wanted: Mapping[str, Solvable], graph: Graph, optimizer: Any
) -> None:
    """The new weights, and the shifts where they belong."""
    for name, found in solved.items():
        weight = wanted[name]
        if found.matrix is not None:
            writer.put(name, found.matrix)
        if found.shift is None:
            continue
        if weight.bias is not None:
            writer.add(weight.bias, found.shift)
        elif weight.running_mean is not None:
            writer.add(weight.running_mean, -found.shift)
        elif weight.module is not None:
            writer.add_bias(weight.module, found.shift, graph, optimizer)
