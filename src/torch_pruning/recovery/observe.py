"""Runs of the model on calibration inputs, with every op that multiplies a weight of the model shown to a visitor.

Ops are seen where the dispatcher sees them, so functional calls, hooks and layers of one's own are all alike. A
weight is told by the identity of its tensor; one that is computed first (weight norm, a cast) is not seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torch_pruning.recovery.readings import Call, read
from torch_pruning.trace.substitute import named_tensors, substituted
from torch_pruning.trace.tracer import Example, _fast_path_off, _mode, _random_state, copied

_NORM = "aten::batch_norm"
_SUMS = ("aten::add", "aten::add_")


@dataclass(frozen=True, slots=True)
class Product:
    """One product with a weight of the model. `use` counts those with the same weight in this run.

    With `branch`, what it is judged by is not its own output but that, or the sum of it and `other`: `branch` is the
    output, or what the batch norm `norm` makes of it.
    """

    name: str
    use: int
    call: Call
    norm: tuple[Any, ...] | None = None
    branch: Tensor | None = None
    other: Tensor | None = None

    @property
    def scale(self) -> Tensor | None:
        """What the batch norm multiplies each output by: [O]."""
        if self.norm is None:
            return None
        _, weight, _, _, variance, _, _, eps, *_ = self.norm
        scale: Tensor = (variance + eps).rsqrt()
        return scale if weight is None else scale * weight

    def judged(self) -> Tensor:
        """What it is judged by."""
        if self.branch is None:
            return self.call.run()
        return self.branch if self.other is None else self.branch + self.other

    def behind(self, out: Tensor) -> Tensor:
        """What becomes of the product's output before it is judged, or added."""
        return out if self.norm is None else torch.batch_norm(out, *self.norm[1:])


# -> the result of a product, which may differ from what the model has; None to leave it
Visitor: TypeAlias = Callable[[Product], Tensor | None]


class _Products(TorchDispatchMode):
    def __init__(self, names: Mapping[int, str], places: Mapping[str, str], visit: Visitor) -> None:
        super().__init__()
        self.names = names
        self.places = places
        self.visit = visit
        self.seen: dict[str, int] = {}
        self.branches: dict[int, tuple[Tensor, Product]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = read(func, args, kwargs)
        name = None if call is None else self.names.get(id(call.weight))
        if call is not None and name is not None:
            return self._product(name, call)
        if self.branches:
            base = func.name().partition(".")[0]
            if base == _NORM and (found := self.branches.pop(id(args[0]), None)):
                return self._normed(func(*args, **kwargs), replace(found[1], norm=args))
            if base in _SUMS:
                self._sum(args)
        return func(*args, **kwargs)

    def _product(self, name: str, call: Call) -> Tensor:
        use = self.seen[name] = self.seen.get(name, -1) + 1
        product = Product(name, use, call)
        if name in self.places:
            return self._remember(call.run(), product)
        out = self.visit(product)
        return call.run() if out is None else out

    def _normed(self, out: Tensor, product: Product) -> Tensor:
        if self.places[product.name] == "sum":
            return self._remember(out, product)
        new = self.visit(replace(product, branch=out))
        return out if new is None else new

    def _remember(self, out: Tensor, product: Product) -> Tensor:
        self.branches[id(out)] = out, product
        return out

    def _sum(self, args: tuple[Any, ...]) -> None:
        for branch, other in (args[:2], args[1::-1]):
            found = self.branches.pop(id(branch), None)
            if found is not None:
                new = self.visit(replace(found[1], branch=branch, other=other))
                if new is not None:
                    branch.copy_(new)


class Runner:
    """Forward passes of a model over batches, under `at_rest`. Batches stay as they are."""

    def __init__(self, model: nn.Module, example: Example, places: Mapping[str, str]) -> None:
        self.places = places
        self.keeps_state = False  # whether forward puts anything onto a module, that one run could leave to another
        self.model = model
        self.example = example
        self.names = {id(tensor): name for name, tensor in named_tensors(model)}

    def run(self, batch: Any, visit: Visitor) -> None:
        """One pass, in inference mode, with every product shown to `visit`."""
        inputs = copied(batch, lambda name, tensor: tensor.detach().clone())
        before = self._attributes()
        with torch.inference_mode(), _Products(self.names, self.places, visit):
            self.example.call(self.model, inputs)
        after = self._attributes()
        same = before.keys() == after.keys() and all(after[key] is item for key, item in before.items())
        self.keeps_state = self.keeps_state or not same

    def _attributes(self) -> dict[tuple[int, str], Any]:
        """What stands on every module."""
        standing: dict[tuple[int, str], Any] = {}
        for number, module in enumerate(self.model.modules()):
            for key, item in (*vars(module).items(), *module._buffers.items()):
                standing[number, key] = item
        return standing


@contextlib.contextmanager
def at_rest(model: nn.Module, example: Example, places: Mapping[str, str] = MappingProxyType({})) -> Iterator[Runner]:
    """The model in evaluation mode; products with weights in `places` are visited behind their batch norm ("norm") or
    where they are added to something ("sum").

    Modes, attributes, buffers and the random state come back as they were.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    runner = Runner(model, example, places)
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
