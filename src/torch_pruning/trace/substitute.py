"""Put stand-ins for tensors and traced integers on a model for a run, and take everything back after it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from torch_pruning.axes.sizes import AttributeSource, SizeLog, TracedInt

# What nn.Module itself keeps in `__dict__`; integers and tensors of the user are never there.
_INTERNAL = frozenset(nn.Module().__dict__) | {"_parameters", "_buffers", "_modules"}
_MAX_DEPTH = 6
# Most of what stands on modules, told apart by type alone.
_LEAVES = frozenset([type(None), bool, float, str])
_OPAQUE = (type, FunctionType, MethodType, ModuleType, enum.Enum, str, bytes, bool, float, complex, torch.Generator)


@dataclass(slots=True)
class Snapshot:
    """Module dictionaries as they were; `restore` puts back the same objects."""

    entries: list[tuple[dict[Any, Any], dict[Any, Any]]] = field(default_factory=list)
    training: list[tuple[nn.Module, bool]] = field(default_factory=list)

    def save(self, dictionary: dict[Any, Any]) -> None:
        self.entries.append((dictionary, dict(dictionary)))

    def restore(self) -> None:
        for dictionary, before in self.entries:
            dictionary.clear()
            dictionary.update(before)


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all that the trace calls state: parameters, buffers, tensors in attributes and containers.

    A tensor that is held in several places comes once, under its first name.
    """
    found: dict[str, torch.Tensor] = {}

    def collect(name: str, tensor: torch.Tensor) -> torch.Tensor:
        found[name] = tensor
        return tensor

    with substituted(model, collect, None, {}):
        pass
    yield from found.items()


@contextlib.contextmanager
def substituted(
    model: nn.Module,
    replace_tensor: Callable[[str, torch.Tensor], torch.Tensor],
    log: SizeLog | None,
    attributes: dict[AttributeSource, int],
) -> Iterator[None]:
    """The model with its tensors replaced and, where `log` is given, its integers traced.

    `attributes` then receives the source and value of every integer found.
    """
    snapshot = Snapshot()
    try:
        walk = _Walk(replace_tensor, log, attributes, snapshot)
        modules = list(model.named_modules(remove_duplicate=True))
        for _, module in modules:
            snapshot.save(module.__dict__)
            for container in (module._parameters, module._buffers, module._modules):
                if isinstance(container, dict):
                    snapshot.save(container)
        for path, module in modules:
            if not isinstance(module, torch.jit.ScriptModule):
                walk.module(path, module)
        yield
    finally:
        snapshot.restore()


@dataclass(slots=True)
class _Walk:
    replace_tensor: Callable[[str, torch.Tensor], torch.Tensor]
    log: SizeLog | None
    attributes: dict[AttributeSource, int]
    snapshot: Snapshot
    tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    copies: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    class_integers: dict[type, list[tuple[str, int]]] = field(default_factory=dict)

    def module(self, path: str, module: nn.Module) -> None:
        prefix = f"{path}." if path else ""
        for container in (module._parameters, module._buffers):
            for key, tensor in list(container.items()):
                if tensor is not None:
                    container[key] = self._tensor(prefix + key, tensor)  # type: ignore[assignment]
        for key, item in list(module.__dict__.items()):
            if key not in _INTERNAL and type(item) not in _LEAVES:
                module.__dict__[key] = self._item(item, path, (("attribute", key),), 0)
        cls = type(module)
        if cls not in self.class_integers:
            self.class_integers[cls] = list(_class_integers(cls))
        for key, item in self.class_integers[cls]:
            if key not in module.__dict__:
                module.__dict__[key] = self._integer(item, path, (("attribute", key),))

    def _tensor(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        found = self.tensors.get(id(tensor))
        if found is None:
            found = self.tensors[id(tensor)] = (tensor, self.replace_tensor(name, tensor))
        return found[1]

    def _integer(self, value: int, path: str, steps: tuple[Any, ...]) -> int:
        if self.log is None:
            return value
        source = AttributeSource(path, steps)
        self.attributes[source] = value
        return TracedInt(value, source, self.log)

    def _item(self, item: Any, path: str, steps: tuple[Any, ...], depth: int) -> Any:
        if type(item) in _LEAVES:
            return item
        if type(item) is int:
            return self._integer(item, path, steps)
        if isinstance(item, torch.Tensor):
            return self._tensor(str(AttributeSource(path, steps)), item)
        if item is None or isinstance(item, (*_OPAQUE, nn.Module)) or depth > _MAX_DEPTH:
            return item
        if id(item) in self.copies:
            return self.copies[id(item)][1]
        if type(item) in (list, dict) or isinstance(item, tuple):
            return self._container(item, path, steps, depth)
        if hasattr(item, "__dict__") and not type(item).__module__.startswith(("torch.", "builtins", "_thread")):
            self._object(item, path, steps, depth)
        return item

    def _container(self, item: Any, path: str, steps: tuple[Any, ...], depth: int) -> Any:
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        new = [(key, self._item(child, path, (*steps, ("item", key)), depth + 1)) for key, child in pairs]
        if isinstance(item, dict):
            copy: Any = dict(new)
        elif type(item) in (list, tuple):
            copy = type(item)(child for _, child in new)
        elif hasattr(item, "_fields"):
            copy = type(item)(*(child for _, child in new))
        else:  # torch.Size and other subclasses of tuple
            return item
        self.copies[id(item)] = (item, copy)
        return copy

    def _object(self, item: Any, path: str, steps: tuple[Any, ...], depth: int) -> None:
        """A config object or dataclass: its integers are replaced in place, and put back afterwards."""
        self.copies[id(item)] = (item, item)
        self.snapshot.save(vars(item))
        for key, child in list(vars(item).items()):
            vars(item)[key] = self._item(child, path, (*steps, ("attribute", key)), depth + 1)


def _class_integers(cls: type) -> Iterator[tuple[str, int]]:
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for key, item in vars(base).items():
            if type(item) is int and not key.startswith("__"):
                yield key, item
