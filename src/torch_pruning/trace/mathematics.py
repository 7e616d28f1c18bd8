"""Functions that read integers without asking them: for the length of a run they notice sizes."""

from __future__ import annotations

import ast
import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from torch_pruning.axes.traced import TracedFloat, TracedInt

# Others (`sqrt`, `exp`) convert with `float`, which a traced integer sees by itself.
_LOGARITHMS = ("log", "log2", "log10")
# Their results are integers again, which no polynomial gives.
_WHOLE = ("gcd", "lcm", "isqrt", "comb", "perm", "factorial")


@contextlib.contextmanager
def math_sees_sizes(classes: Iterable[type]) -> Iterator[None]:
    """`math.log(x.shape[1])` is a use as a number, `math.gcd(x.shape[1], 8)` freezes what it looks at.

    The files in which one of the `classes` is written see them too, where they say `from math import log`. There,
    `int(x.shape[1] / 2)` keeps its source, if the file has no other use for the name `int` than to call it.
    """
    replacements: dict[Any, Any] = {
        getattr(math, name): _seeing(getattr(math, name), whole=name in _WHOLE) for name in (*_LOGARITHMS, *_WHOLE)
    }
    modules = _modules(classes)
    spaces = [vars(module) for module in (math, *modules)]
    places = [(space, name, item) for space in spaces for name, item in _named(space, replacements)]
    converting = [vars(module) for module in modules if "int" not in vars(module) and _only_calls_int(module)]
    try:
        for space, name, item in places:
            space[name] = replacements[item]
        for space in converting:
            space["int"] = _Int
        yield
    finally:
        for space, name, item in places:
            space[name] = item
        for space in converting:
            del space["int"]


def _modules(classes: Iterable[type]) -> list[ModuleType]:
    """The files of the classes and their bases."""
    names = dict.fromkeys(base.__module__ for cls in classes for base in cls.__mro__)
    modules = [sys.modules.get(name) for name in names if not name.startswith(("torch.", "builtins"))]
    return [module for module in modules if module is not None and module is not math]


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


class _Calls(type):
    """What calls and type tests of `int` give, with the source of a size that goes through one."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], TracedInt):
            return args[0]
        return args[0].whole() if len(args) == 1 and isinstance(args[0], TracedFloat) else int(*args, **kwargs)

    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, int)


class _Int(int, metaclass=_Calls):
    """Stands for `int`."""


@cache
def _only_calls_int(module: ModuleType) -> bool:
    """Whether a file calls `int`, and else names it in annotations and `isinstance` alone: a type that is handed on, or
    compared with, has to be `int` itself."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return False
    if "int(" not in source:
        return False
    harmless: set[int] = set()
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        harmless.update(id(name) for part in _harmless(node) for name in ast.walk(part))
    return all(id(node) in harmless for node in nodes if isinstance(node, ast.Name) and node.id == "int")


def _harmless(node: ast.AST) -> list[ast.AST]:
    """The parts of a node in which `int` may stand: what it calls, what `isinstance` looks for, annotations."""
    found: list[ast.AST | None] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        found = [node.func, *(node.args[1:] if node.func.id == "isinstance" else ())]
    elif isinstance(node, ast.arg | ast.AnnAssign):
        found = [node.annotation]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        found = [node.returns]
    return [part for part in found if part is not None]
