"""Put stand-ins for tensors and traced integers on a model for a run, and take everything back after it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.axes.traced import SizeLog, TracedInt

# What nn.Module itself keeps in `__dict__`; integers and tensors of the user are never there.
_INTERNAL = frozenset(nn.Module().__dict__) | {"_parameters", "_buffers", "_modules"}
# The dictionaries among it: parameters, buffers, submodules and hooks.
_REGISTRIES = [key for key, item in nn.Module().__dict__.items() if isinstance(item, dict)]
_EMPTY: dict[Any, Any] = {}
_MAX_DEPTH = 6
_OPAQUE = (
    nn.Module, type, FunctionType, MethodType, ModuleType, enum.Enum, str, bytes, bool, float, complex, torch.Generator,
    type(None),
)  # fmt: skip


@dataclass(slots=True)
class Dictionaries:
    """Dictionaries as they were; `restore` puts the same objects back into them, any number of times."""

    entries: list[tuple[dict[Any, Any], dict[Any, Any]]] = field(default_factory=list)

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Dictionaries:
        """What stands on these modules, and what is registered there.

        A forward pass may install hooks and note on the module that it has; one must not go without the other.
        """
        found = cls()
        for module in modules:
            entries = module.__dict__
            found.save(entries)
            for key in _REGISTRIES:
                if isinstance(registry := entries.get(key), dict):
                    found.save(registry)
        return found

    def save(self, dictionary: dict[Any, Any]) -> None:
        self.entries.append((dictionary, dict(dictionary) if dictionary else _EMPTY))

    def restore(self) -> None:
        for dictionary, before in self.entries:
            dictionary.clear()
            dictionary.update(before)


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all that the trace calls state: parameters, buffers, tensors in attributes and containers.

    A tensor that is held in several places comes once, under its first name.
    """
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        prefix = f"{path}." if path else ""
        for container in (module._parameters, module._buffers):
            for key, tensor in list(container.items()):
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield prefix + key, tensor
        for key, item in list(module.__dict__.items()):
            if key not in _INTERNAL and _kind(item) not in ("opaque", "integer"):
                yield from _tensors_within(item, path, (("attribute", key),), seen)


def _tensors_within(item: Any, path: str, steps: tuple[Any, ...], seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of one attribute, in the order in which `_Walk` meets them."""
    kind = _kind(item)
    if kind in ("opaque", "integer") or id(item) in seen:
        return
    if kind == "tensor":
        seen.add(id(item))
        yield str(AttributeSource(path, steps)), item
    elif len(steps) <= _MAX_DEPTH + 1 and (children := _children(item, kind)):
        seen.add(id(item))
        for step, child in children:
            yield from _tensors_within(child, path, (*steps, step), seen)


def _kind(item: Any) -> str:
    """Most of what stands on modules is told apart by type alone."""
    cls: Any = type(item)
    return _kind_of(cls)


@cache
def _kind_of(cls: Any) -> str:
    if cls is int:
        return "integer"
    if issubclass(cls, torch.Tensor):
        return "tensor"
    if issubclass(cls, _OPAQUE):
        return "opaque"
    if cls in (list, dict) or issubclass(cls, tuple):
        return "container"
    # A config object, dataclass or the like.
    is_object = cls.__dictoffset__ and not cls.__module__.startswith(("torch.", "builtins", "_thread"))
    return "object" if is_object else "opaque"


def _children(item: Any, kind: str) -> list[tuple[tuple[str, Any], Any]]:
    """(step of a path, child) of all that a container or an object holds."""
    if kind == "object":
        return [(("attribute", key), child) for key, child in vars(item).items()]
    pairs = item.items() if isinstance(item, dict) else enumerate(item)
    return [(("item", key), child) for key, child in pairs]


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
    modules = list(model.named_modules(remove_duplicate=True))
    before = Dictionaries.of(module for _, module in modules)
    try:
        walk = _Walk(replace_tensor, log, attributes, before)
        for path, module in modules:
            if not isinstance(module, torch.jit.ScriptModule):
                walk.module(path, module)
        yield
    finally:
        before.restore()


@dataclass(slots=True)
class _Walk:
    replace_tensor: Callable[[str, torch.Tensor], torch.Tensor]
    log: SizeLog | None
    attributes: dict[AttributeSource, int]
    before: Dictionaries
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
            if key not in _INTERNAL and _kind(item) != "opaque":
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
        kind = _kind(item)
        if kind == "integer":
            return self._integer(item, path, steps)
        if kind == "tensor":
            return self._tensor(str(AttributeSource(path, steps)), item)
        if kind == "opaque" or depth > _MAX_DEPTH:
            return item
        if id(item) in self.copies:
            return self.copies[id(item)][1]
        if kind == "container":
            return self._container(item, path, steps, depth)
        self._object(item, path, steps, depth)
        return item

    def _container(self, item: Any, path: str, steps: tuple[Any, ...], depth: int) -> Any:
        new = [
            (step[1], self._item(child, path, (*steps, step), depth + 1))
            for step, child in _children(item, "container")
        ]
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
        self.before.save(vars(item))
        for step, child in _children(item, "object"):
            vars(item)[step[1]] = self._item(child, path, (*steps, step), depth + 1)


def _class_integers(cls: type) -> Iterator[tuple[str, int]]:
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for key, item in vars(base).items():
            if type(item) is int and not key.startswith("__"):
                yield key, item
