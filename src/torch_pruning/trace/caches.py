"""Caches of functions: what is computed on stand-ins must not be found there by a later, real run."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Iterator

from torch import nn

_DEEPEST = 4  # decorators around a cache


@contextlib.contextmanager
def caches_forgotten(model: nn.Module) -> Iterator[None]:
    """`functools.lru_cache` of methods of the model's classes, and of functions beside them, is empty before and after.

    Those inside a decorator of one's own as well, which its functions hold in their closures. A cache only saves time,
    so nothing of the model's is lost.
    """
    caches = list(_caches(model))
    try:
        for cache in caches:
            cache.cache_clear()
        yield
    finally:
        for cache in caches:
            cache.cache_clear()


def _caches(model: nn.Module) -> Iterator[functools._lru_cache_wrapper[object]]:
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    users = [cls for cls in classes if cls.__module__.partition(".")[0] not in ("torch", "builtins")]
    beside = {cls.__module__ for cls in users}
    places = [vars(cls) for cls in users] + [vars(sys.modules[name]) for name in beside if name in sys.modules]
    found = {id(cache): cache for place in places for item in list(place.values()) for cache in _inside(item, 0)}
    yield from found.values()


def _inside(item: object, depth: int) -> Iterator[functools._lru_cache_wrapper[object]]:
    """The item if it is a cache; of a function those that its closure holds, of a method those of its function."""
    if isinstance(item, functools._lru_cache_wrapper):
        yield item
        yield from _inside(item.__wrapped__, depth)
    elif isinstance(item, staticmethod | classmethod):
        yield from _inside(item.__func__, depth)
    elif isinstance(item, property):
        yield from _inside(item.fget, depth)
    elif isinstance(item, types.FunctionType) and item.__closure__ and depth < _DEEPEST:
        for cell in item.__closure__:
            with contextlib.suppress(ValueError):  # an empty cell
                yield from _inside(cell.cell_contents, depth + 1)
