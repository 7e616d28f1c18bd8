"""The one place that changes a model: everything is computed first, then swapped in, and can be put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.errors import OptimizerError
from torch_pruning.planning.attention import FreeMultiheadAttention
from torch_pruning.planning.attributes import AttributeWriter, stock_attributes
from torch_pruning.planning.biases import create_bias
from torch_pruning.planning.customized import CustomizedSurgery
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.shorten import Shortening
from torch_pruning.planning.tensors import assign, shrink, shrink_blocks
from torch_pruning.trace.substitute import named_tensors


@dataclass(slots=True)
class _Swap:
    tensor: Tensor
    old: Tensor
    old_grad: Tensor | None
    new: Tensor
    new_grad: Tensor | None


class Surgery:
    """Shrinks the tensors of a plan on one model: data, gradients, optimizer state. `undo` restores everything."""

    def __init__(self, plan: Plan, model: nn.Module, optimizer: Any) -> None:
        self.plan = plan
        self.model = model
        self.optimizers = _optimizers(optimizer)
        self.swaps: list[_Swap] = []
        self.states: list[tuple[dict[Any, Any], Any, Any]] = []
        self.writer = AttributeWriter(model)
        self.converted: list[Callable[[], None]] = []
        self.customized: list[CustomizedSurgery] = []
        self.biases: list[Callable[[], None]] = []
        self.shortening = None if plan.depth is None else Shortening(plan.depth, model, self.optimizers)

    def apply(self) -> None:
        """Compute all new tensors, then swap them in and write the attributes."""
        tensors = dict(named_tensors(self.model))
        smaller = {name: self._shrunk(name, tensors[name]) for name in self.plan.shapes}
        grads = {name: self._shrunk_grad(name, tensors[name]) for name in self.plan.shapes}
        states = [entry for name in self.plan.shapes for entry in self._new_states(name, tensors[name])]
        for name, new in smaller.items():
            tensor = tensors[name]
            swap = _Swap(tensor, tensor.data, tensor.grad if tensor.is_leaf else None, new, grads[name])
            self.swaps.append(swap)
            assign(tensor, new, grads[name])
        for state, key, new_entry in states:
            self.states.append((state, key, state[key]))
            state[key] = new_entry
        for cut in self.plan.customized:
            layer = self.model.get_submodule(cut.path)
            self.customized.append(CustomizedSurgery(layer))
            self.customized[-1].apply(cut, layer, self.optimizers)
        for path, size in self.plan.biases.items():
            self.biases.append(create_bias(self.model, path, torch.zeros(size), self.optimizers))
        self._write_attributes()
        if self.shortening is not None:  # last, for until then names are those of the plan
            self.shortening.apply()

    def undo(self) -> None:
        """Everything as it was."""
        if self.shortening is not None:
            self.shortening.undo()
        self.writer.undo()
        while self.biases:
            self.biases.pop()()
        for customized in reversed(self.customized):
            customized.undo()
        for undo in reversed(self.converted):
            undo()
        for state, key, old in reversed(self.states):
            state[key] = old
        for swap in reversed(self.swaps):
            assign(swap.tensor, swap.old, swap.old_grad)
        self.swaps, self.states, self.converted, self.customized = [], [], [], []

    def _write_attributes(self) -> None:
        for path in self.plan.replaced:
            module = self.model.get_submodule(path)
            if type(module) is nn.MultiheadAttention:
                self.converted.append(FreeMultiheadAttention.convert(module))
        for change in self.plan.changes:
            self.writer.write(change.source, change.new)
        for module, name, value in stock_attributes(self.model):
            self.writer.set(module, name, value)

    def _shrunk(self, name: str, tensor: Tensor) -> Tensor:
        factors = {key: factor for key, factor in self.plan.scales.items() if key[0] == name}
        if factors:
            tensor = tensor.detach().clone(memory_format=torch.preserve_format)
            for (_, dim, positions), factor in factors.items():
                scale_positions(tensor, dim, positions, factor)
        return self.cut(name, tensor)

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Blocks first, in the coordinates of the whole tensor; then what shrinks alike everywhere."""
        result = tensor
        block = self.plan.blocks.get(name)
        if block is not None:
            result = shrink_blocks(result, block.lane_dim, block.dim, torch.tensor(block.kept))
        dims = {dim: torch.tensor(kept, dtype=torch.long) for dim, kept in self.plan.kept.get(name, {}).items()}
        return shrink(result, dims)

    def _shrunk_grad(self, name: str, tensor: Tensor) -> Tensor | None:
        if not tensor.is_leaf or tensor.grad is None:
            return None
        return self.cut(name, tensor.grad)

    def _new_states(self, name: str, tensor: Tensor) -> Iterable[tuple[dict[Any, Any], Any, Any]]:
        """(state, key, new entry) for every optimizer entry of the parameter's shape."""
        for optimizer in self.optimizers:
            state: dict[Any, Any] = optimizer.state.get(tensor, {})
            for key, entry in state.items():
                if not isinstance(entry, Tensor) or entry.dim() == 0 or entry.numel() == 1:
                    continue
                if entry.shape != tensor.shape:
                    raise OptimizerError(
                        f"optimizer state must have the shape of its parameter; {key!r} of {name} has "
                        f"{list(entry.shape)}, the parameter {list(tensor.shape)}: remove this state, or build a new "
                        f"{type(optimizer).__name__} after pruning"
                    )
                yield state, key, self.cut(name, entry)


def scale_positions(tensor: Tensor, dim: int, positions: Iterable[int], factor: float) -> None:
    """Multiply the slices at these positions, in place."""
    with torch.inference_mode(False), torch.no_grad():
        index = torch.tensor(list(positions), dtype=torch.long, device=tensor.device)
        tensor.index_copy_(dim, index, tensor.index_select(dim, index) * factor)


def _optimizers(optimizer: Any) -> list[Any]:
    if optimizer is None:
        return []
    found = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    for candidate in found:
        if not hasattr(candidate, "state") or not isinstance(candidate.state, Mapping):
            raise TypeError(
                f"optimizer must have a mapping `state`, as torch.optim has; found {type(candidate).__name__}"
            )
    return found
