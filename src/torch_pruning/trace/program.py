"""What a run of the model left behind: values, calls in order, sizes that were compared or used as numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import torch

from torch_pruning.axes.sizes import Expression


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the user's code: module path, file, line, function."""

    module: str
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        place = f"{PurePath(self.file).name}:{self.line} in {self.function}"
        return f"{self.module} ({place})" if self.module else place


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of a torch function as the user's code made it, with integers that may carry their source."""

    function: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(eq=False, slots=True)
class Value:
    """One version of one tensor. `name` is set for tensors that live on the model; `storage` is shared by views."""

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    storage: int
    kind: str  # "state" (lives on the model), "input", "constant" (appeared from outside), "computed"
    name: str = ""
    strides: tuple[int, ...] = ()
    offset: int = 0
    layout: Any = None  # a trace.layout.Layout, once a memo has asked for it
    contents: str | None = None  # the entries of a small constant

    def __repr__(self) -> str:
        return f"%{self.name or self.index}{list(self.shape)}"


@dataclass(eq=False, slots=True)
class Call:
    """One op: `args` and `kwargs` with tensors replaced by values. `op` is "aten.linear.default"."""

    op: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    where: Where
    origin: FunctionCall | None
    mutated: tuple[Value, ...] = ()
    _inputs: tuple[Value, ...] | None = None
    _results: tuple[Value, ...] | None = None

    def inputs(self) -> tuple[Value, ...]:
        """The values among the arguments, in order."""
        if self._inputs is None:
            self._inputs = (*values_in(self.args), *values_in(self.kwargs))
        return self._inputs

    def results(self) -> tuple[Value, ...]:
        """The values among the outputs, in order."""
        if self._results is None:
            self._results = tuple(values_in(self.outputs))
        return self._results

    def __repr__(self) -> str:
        return f"{self.outputs} = {self.op}({', '.join(map(repr, self.args))})"


Turn = tuple[str, str, int]  # op, place in the code, and how many calls of that op there were before


def turns(calls: Iterable[Call]) -> list[tuple[Turn, Call]]:
    """Each call under a name that it has in another run as well, if that takes the same path."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for call in calls:
        place = (call.op, str(call.where))
        found.append(((*place, seen[place]), call))
        seen[place] += 1
    return found


@dataclass(frozen=True, slots=True)
class Guard:
    """`left symbol right` was `outcome` in the run."""

    symbol: str
    left: Expression
    right: Expression
    outcome: bool
    where: Where


@dataclass(frozen=True, slots=True)
class ValueUse:
    """A size that was used as a number (`exact` is False for a division that left a remainder)."""

    expression: Expression
    uneven: bool
    where: Where


@dataclass(slots=True)
class Program:
    """Everything recorded in one run. `mode` is "eval" or "train", `kind` "fake", "real" or "real+grad"."""

    mode: str
    kind: str
    values: list[Value] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    state: dict[str, Value] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    carried: list[Value] = field(default_factory=list)  # outputs inside opaque objects (caches): live, not frozen
    guards: list[Guard] = field(default_factory=list)
    value_uses: list[ValueUse] = field(default_factory=list)
    attributes: dict[Any, int] = field(default_factory=dict)  # value of every AttributeSource at trace time
    failure: BaseException | None = None  # what ended a partial run
    reachable: list[Value] = field(default_factory=list)  # what the code could still read where a partial run ended
    rewritten: dict[str, Value] = field(default_factory=dict)  # buffers and attributes that forward assigns anew
    returned: dict[str, list[Value]] = field(default_factory=dict)  # what each module gave back, by path

    def live_calls(self) -> list[Call]:
        """The calls that reach an output or mutate state, in order: no discarded `argsort`, and nothing of which only a
        size was asked.
        """
        results_of_run = (*self.outputs, *self.carried, *self.rewritten.values())
        needed = {value.index for value in results_of_run}
        storages = {value.storage for value in results_of_run}
        storages |= {value.storage for value in (*self.state.values(), *self.inputs)}
        live: list[Call] = []
        for call in reversed(self.calls):
            results = call.results()
            if (
                not results  # something left torch, and Python may do anything with it
                or any(value.index in needed for value in results)
                or any(value.storage in storages for value in call.mutated)
                or self.failure is not None
            ):
                live.append(call)
                for value in call.inputs():
                    needed.add(value.index)
                    storages.add(value.storage)
        live.reverse()
        return live


def values_in(tree: Any) -> list[Value]:
    """The values in nested tuples, lists and dicts, in order."""
    found: list[Value] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Value]) -> None:
    if isinstance(tree, Value):
        found.append(tree)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            _collect(item, found)
    elif isinstance(tree, dict):
        for item in tree.values():
            _collect(item, found)


def tensors_in(tree: Any, *, inside_objects: bool = True) -> Iterator[tuple[torch.Tensor, bool]]:
    """The tensors of a nested structure, each with whether it lies inside an opaque object (a cache, say).

    Dicts, lists, tuples and dataclasses are transparent.
    """
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(tree, False)]
    while stack:
        item, opaque = stack.pop()
        if isinstance(item, torch.Tensor):
            yield item, opaque
            continue
        if id(item) in seen or isinstance(item, (type, str, bytes, int, float, torch.nn.Module)):
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            stack += [(child, opaque) for child in reversed(list(item.values()))]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += [(child, opaque) for child in reversed(list(item))]
        elif dataclasses.is_dataclass(item):
            stack += [(getattr(item, f.name, None), opaque) for f in reversed(dataclasses.fields(item))]
        elif inside_objects and hasattr(item, "__dict__"):
            stack += [(child, True) for child in reversed(list(vars(item).values()))]
