"""Numbers that count the elements of a module list, and those that number them: what has to follow when some go."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.graph.blocks import ResidualBlock
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.shorter_run import difference
from torch_pruning.planning.attributes import AttributeWriter
from torch_pruning.planning.depth import ItemsChange, ListChange
from torch_pruning.trace.memo import Memo
from torch_pruning.trace.program import Program
from torch_pruning.trace.tracer import trace


@dataclass(slots=True)
class Probe:
    """Runs of one model that is being tried out. They share what ops give, and what was found about integers."""

    graph: Graph
    memo: Memo = field(default_factory=Memo)
    counting: dict[tuple[AttributeSource, str], bool] = field(default_factory=dict)

    def run(self) -> Program:
        """The model as it is at this moment, recorded in the mode of the graph's first run."""
        return trace(self.graph.model, self.graph.example, self.graph.programs[0].program.mode, self.memo)


def numbering(graph: Graph, change: ListChange) -> list[ItemsChange]:
    """Integers on the elements that say their place in the list (`layer_idx`), in every one of them at the same spot.

    A constant may be added. They are counted anew, as caches ask.
    """
    if len(change.keys) < 2 or change.new_keys == change.kept:
        return []
    by_spot: dict[tuple[str, Any], dict[str, tuple[AttributeSource, int]]] = {}
    prefix = f"{change.path}." if change.path else ""
    for source, value in graph.programs[0].program.attributes.items():
        if source.module.startswith(prefix):
            key, _, below = source.module[len(prefix) :].partition(".")
            by_spot.setdefault((below, source.steps), {})[key] = (source, value)
    changes = []
    for of_key in by_spot.values():
        if of_key.keys() != set(change.keys):
            continue
        first = of_key[change.keys[0]][1]
        if any(of_key[key][1] != first + place for place, key in enumerate(change.keys)):
            continue
        for place, key in enumerate(change.kept):
            source, value = of_key[key]
            if value != first + place:
                changes.append(ItemsChange(source, value, first + place))
    return changes


def counts(probe: Probe, change: ListChange, last: ResidualBlock | None) -> list[ItemsChange]:
    """Integers of the modules around the list, and of their config objects, that are read as its length.

    That is seen by changing them. Either the model then runs one element less, `last`; or its class, called with the
    config object alone, builds a list that is one shorter. Lists of strings that are as long, and stand beside such
    an integer, lose the entries of the elements that go.
    """
    found = []
    for source in _candidates(probe.graph, change):
        key = source, change.path
        if key not in probe.counting:
            by_list = _shortens_list(probe.graph, change, source)
            probe.counting[key] = by_list or _shortens_run(probe, change, source, last)
        if probe.counting[key]:
            found.append(ItemsChange(source, len(change.keys), len(change.kept)))
    return [*found, *_lists_beside(probe.graph, change, [entry.source for entry in found])]


def _candidates(graph: Graph, change: ListChange) -> Iterator[AttributeSource]:
    sizes = graph.constraints.definitions
    for source, value in graph.programs[0].program.attributes.items():
        around = source.module == "" or change.path == source.module or change.path.startswith(f"{source.module}.")
        if value == len(change.keys) and around and source not in sizes:
            yield source


def _shortens_run(probe: Probe, change: ListChange, source: AttributeSource, last: ResidualBlock | None) -> bool:
    if last is None:
        return False
    writer = AttributeWriter(probe.graph.model)
    try:
        writer.write(source, len(change.keys) - 1)
        shorter = probe.run()
    except Exception:
        return False
    finally:
        writer.undo()
    return difference(probe.graph.programs[0].program, [last], shorter, lambda name: name) is None


def _shortens_list(graph: Graph, change: ListChange, source: AttributeSource) -> bool:
    """Whether this list, and no other, is one shorter when a class that takes the config object builds its module anew.

    That takes no memory. It is the module around the list if that has the config object too, which costs less, else
    the one on which the integer was found.
    """
    (_, attribute), *rest = source.steps
    if len(rest) != 1:
        return False
    config = vars(graph.model.get_submodule(source.module)).get(attribute)
    owner = change.path.rpartition(".")[0]
    holds_it = any(item is config for item in vars(graph.model.get_submodule(owner)).values())
    path = owner if holds_it else source.module
    module = graph.model.get_submodule(path)
    name = change.path[len(path) :].lstrip(".")
    before, after = (
        _list_lengths(module, config, {rest[0][1]: length}) for length in (len(change.keys), len(change.keys) - 1)
    )
    differ = {key for key in before if before[key] != after.get(key) and not key.startswith(f"{name}.")}
    return differ == {name} and before[name] == len(change.keys) and after.get(name) == len(change.keys) - 1


def _list_lengths(like: nn.Module, config: Any, entries: dict[str, int]) -> dict[str, int]:
    """The lengths of all module lists when a module's class is called with a changed copy of its config object."""
    changed = copy.copy(config)
    vars(changed).update(entries)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(Exception))  # a class that wants other arguments says nothing
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.device("meta"))
        warnings.simplefilter("ignore")
        built = type(like)(changed)
        lists = (nn.ModuleList, nn.Sequential)
        return {path: len(part) for path, part in built.named_modules() if isinstance(part, lists)}
    return {}


def _lists_beside(graph: Graph, change: ListChange, found: Sequence[AttributeSource]) -> Iterable[ItemsChange]:
    for module, steps in dict.fromkeys((source.module, source.steps[:-1]) for source in found if len(source.steps) > 1):
        config = vars(graph.model.get_submodule(module)).get(steps[0][1])
        for name, item in vars(config).items() if config is not None and len(steps) == 1 else ():
            as_long = isinstance(item, (list, tuple)) and len(item) == len(change.keys)
            if as_long and all(isinstance(entry, str) for entry in item):
                kept = [entry for key, entry in zip(change.keys, item, strict=True) if key in change.kept]
                yield ItemsChange(AttributeSource(module, (*steps, ("attribute", name))), item, type(item)(kept))
