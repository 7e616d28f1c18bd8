"""Functions of `math` that read integers without asking them: for the length of a run they notice sizes."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch_pruning.axes.sizes import TracedInt

# Others (`sqrt`, `exp`) convert with `float`, which a traced integer sees by itself.
_LOGARITHMS = ("log", "log2", "log10")
# Their results are integers again, which no polynomial gives.
_WHOLE = ("gcd", "lcm", "isqrt", "comb", "perm", "factorial")


@contextlib.contextmanager
def math_sees_sizes(classes: Iterable[type]) -> Iterator[None]:
    """`math.log(x.shape[1])` is a use as a number, `math.gcd(x.shape[1], 8)` freezes what it looks at.

    The files in which one of the `classes` is written see them too, where they say `from math import log`.
    """
    replacements: dict[Any, Any] = {
        getattr(math, name): _seeing(getattr(math, name), whole=name in _WHOLE) for name in (*_LOGARITHMS, *_WHOLE)
    }
    places = [(space, name, item) for space in _namespaces(classes) for name, item in _named(space, replacements)]
    try:
        for space, name, item in places:
            space[name] = replacements[item]
        yield
    finally:
        for space, name, item in places:
            space[name] = item


def _namespaces(classes: Iterable[type]) -> list[dict[str, Any]]:
    """The globals of `math`, and of the files of the classes and their bases."""
    names = dict.fromkeys(base.__module__ for cls in classes for base in cls.__mro__)
    modules = [sys.modules.get(name) for name in names if not name.startswith(("torch.", "builtins"))]
    return [vars(math), *(vars(module) for module in modules if module is not None and module is not math)]


def _named(space: dict[str, Any], replacements: dict[Any, Any]) -> list[tuple[str, Any]]:
    functions = set(map(id, replacements))
    return [(name, item) for name, item in space.items() if id(item) in functions]


def _seeing(function: Callable[..., Any], whole: bool) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        for number in args:
            if isinstance(number, TracedInt):
                (number.log.uneven if whole else number.log.value_use)(number.expression)
        return function(*(int.__int__(number) if isinstance(number, TracedInt) else number for number in args))

    return call
