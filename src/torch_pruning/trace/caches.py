"""Caches of functions: what is computed on stand-ins must not be found there by a later, real run."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def caches_forgotten(model: nn.Module) -> Iterator[None]:
    """`functools.lru_cache` of methods of the model's classes, and of functions beside them, is empty before and after.

    A cache only saves time, so nothing of the model's is lost.
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
    found = {id(item): item for place in places for item in place.values()}
    yield from (item for item in found.values() if isinstance(item, functools._lru_cache_wrapper))
