"""Taking blocks out of module lists, and putting them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from torch_pruning.planning.attributes import AttributeWriter
from torch_pruning.planning.depth import DepthChange


class Shortening:
    """The blocks of a `DepthChange` on one model: module lists, what counts them, the optimizer. `undo` restores."""

    def __init__(self, change: DepthChange, model: nn.Module, optimizers: Sequence[Any] = ()) -> None:
        self.change = change
        self.model = model
        self.optimizers = optimizers
        self.writer = AttributeWriter(model)
        self.modules: list[tuple[nn.Module, dict[str, nn.Module | None]]] = []
        self.states: list[tuple[Any, Any, Any]] = []
        self.groups: list[tuple[dict[str, Any], list[Any]]] = []

    def apply(self) -> None:
        """Numbers first, while paths are those of the plan."""
        for item in self.change.changes:
            self.writer.write(item.source, item.new)
        containers = dict(self.model.named_modules(remove_duplicate=False))
        before = {id(parameter): parameter for parameter in self.model.parameters()}
        for change in self.change.lists:
            container = containers[change.path]
            entries = container._modules
            self.modules.append((container, dict(entries)))
            kept = [entries[key] for key in change.kept]
            entries.clear()
            entries.update(zip(change.new_keys, kept, strict=True))
        # A parameter that a removed block shares with what stays is no longer there by one name only.
        stays = {id(parameter) for parameter in self.model.parameters()}
        self._forget([parameter for key, parameter in before.items() if key not in stays])

    def undo(self) -> None:
        """Everything as it was."""
        for group, parameters in reversed(self.groups):
            group["params"] = parameters
        for state, parameter, entry in reversed(self.states):
            state[parameter] = entry
        for container, entries in reversed(self.modules):
            container._modules.clear()
            container._modules.update(entries)
        self.writer.undo()
        self.modules, self.states, self.groups = [], [], []

    def _forget(self, parameters: Sequence[nn.Parameter]) -> None:
        """The optimizers hold neither the parameters nor what they remember of them."""
        gone = {id(parameter) for parameter in parameters}
        for optimizer in self.optimizers:
            for parameter in parameters:
                if parameter in optimizer.state:
                    self.states.append((optimizer.state, parameter, optimizer.state.pop(parameter)))
            for group in getattr(optimizer, "param_groups", ()):
                if any(id(parameter) in gone for parameter in group["params"]):
                    self.groups.append((group, group["params"]))
                    group["params"] = [p for p in group["params"] if id(p) not in gone]
