"""From blocks to a plan without them, and the proof that the shortened model computes what it should."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from torch import nn

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.errors import CheckError
from torch_pruning.graph.blocks import Blocks, ResidualBlock, find_blocks
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.shorter_run import difference
from torch_pruning.planning.depth import DepthChange, ListChange, SilencedSum
from torch_pruning.planning.layer_counts import Probe, counts, numbering
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.shorten import Shortening


def removable_blocks(probe: Probe) -> Blocks:
    """The smallest residual blocks that can be taken out of their lists, in the order they run.

    One element of every kind of list, which is the class that owns it and its name there, is taken out on trial: code
    that calls elements by their place does not follow.
    """
    graph = probe.graph
    blocks = find_blocks(graph.model, graph.programs[0].program)
    tried: dict[Any, str | None] = {}
    refused: dict[str, str] = {}
    for block in sorted(blocks.found, key=lambda block: -block.path.count(".")):
        kind = _kind(graph.model, block)
        if kind not in tried:
            tried[kind] = _trial(probe, blocks, block)
        if tried[kind] is not None:
            refused[block.path] = f"taking it out fails: {tried[kind]}"
    blocks = blocks.without(refused)
    around = {
        block.path: "it holds smaller blocks that can go"
        for block in blocks.found
        if any(other.path.startswith(f"{block.path}.") for other in blocks.found)
    }
    return blocks.without(around)


def shorten_plan(
    probe: Probe, blocks: Blocks, chosen: Sequence[ResidualBlock], unused: str, width: Callable[[Graph], Plan] | None
) -> Plan:
    """The plan that takes these blocks out and, where `width` is given, goes on with what that plans for the rest.

    `width` is called with the graph of the shortened model while the model is short.

    Raises:
        CheckError: if the shortened model would not compute what the original does with zeros for the branches.
    """
    graph = probe.graph
    change = depth_change(probe, blocks, chosen)
    with _shortened(graph.model, change):
        reason = _compared(probe, change, chosen)
        if reason is not None:
            raise CheckError(f"without {', '.join(change.removed)} the model would be another one: {reason}")
        after = build_graph(graph.model, [graph.example], unused)
        if width is not None:
            return with_width(graph, change, width(after))
    shorter = Plan({}, {}, before=after.cost(), after=after.cost(), graph=after, choice={})
    return Plan({}, {}, before=graph.cost(), after=after.cost(), graph=graph, depth=change, shorter=shorter)


def with_width(graph: Graph, change: DepthChange, width: Plan) -> Plan:
    """One plan of both, in the names of the whole model; `width` is in those of the shortened one."""
    name = change.original_name
    return replace(
        width,
        shapes={name(tensor): shape for tensor, shape in width.shapes.items()},
        kept={name(tensor): dims for tensor, dims in width.kept.items()},
        blocks={name(tensor): block for tensor, block in width.blocks.items()},
        changes=tuple(replace(entry, source=_original(entry.source, change)) for entry in width.changes),
        scales={(name(tensor), dim, at): factor for (tensor, dim, at), factor in width.scales.items()},
        replaced={name(path): kind for path, kind in width.replaced.items()},
        customized=tuple(replace(cut, path=name(cut.path)) for cut in width.customized),
        before=graph.cost(),
        graph=graph,
        choice=None,
        depth=change,
        shorter=width,
    )


def _original(source: AttributeSource, change: DepthChange) -> AttributeSource:
    return AttributeSource(change.original_name(source.module) if source.module else "", source.steps)


def depth_change(probe: Probe, blocks: Blocks, chosen: Sequence[ResidualBlock], counted: bool = True) -> DepthChange:
    """What changes when these blocks go: lists, sums, numbers; those that count a list are looked for if `counted`."""
    graph = probe.graph
    by_list: dict[str, set[str]] = {}
    for block in chosen:
        by_list.setdefault(block.container, set()).add(block.key)
    lists, changes = [], []
    for path, gone in by_list.items():
        keys = tuple(graph.model.get_submodule(path)._modules)
        change = ListChange(path, keys, tuple(key for key in keys if key not in gone))
        lists.append(change)
        last = next((b for b in blocks.found if (b.container, b.key) == (path, keys[-1])), None)
        changes += [*numbering(graph, change), *(counts(probe, change, last) if counted else ())]
    shapes = {
        name: tuple(parameter.shape)
        for block in chosen
        for name, parameter in graph.model.get_submodule(block.path).named_parameters(prefix=block.path)
    }
    return DepthChange(tuple(lists), tuple(changes), tuple(_sums(chosen)), shapes)


def _sums(chosen: Sequence[ResidualBlock]) -> Iterator[SilencedSum]:
    for block in chosen:
        for branch in block.sums:
            where = branch.where
            file = PurePath(where.file).name
            yield SilencedSum(where.module, file, where.line, branch.ordinal, branch.operand)


def _kind(model: nn.Module, block: ResidualBlock) -> Any:
    owner, _, name = block.container.rpartition(".")
    return type(model.get_submodule(owner)), name if not name.isdigit() else ""


def _trial(probe: Probe, blocks: Blocks, block: ResidualBlock) -> str | None:
    """Why the model without this block is not as predicted; None if it is. Many lists need no count to follow."""
    reason: str | None = None
    for counted in (False, True):
        change = depth_change(probe, blocks, [block], counted)
        with _shortened(probe.graph.model, change):
            reason = _compared(probe, change, [block])
        if reason is None:
            break
    return reason


def _compared(probe: Probe, change: DepthChange, chosen: Sequence[ResidualBlock]) -> str | None:
    """Runs the shortened model, whatever it raises then being the reason."""
    program = probe.graph.programs[0].program
    try:
        shorter = probe.run()
    except Exception as error:
        return f"it does not run: {type(error).__name__}: {error}"
    return difference(program, chosen, shorter, change.original_name)


@contextlib.contextmanager
def _shortened(model: nn.Module, change: DepthChange) -> Iterator[None]:
    shortening = Shortening(change, model)
    try:
        shortening.apply()
        yield
    finally:
        shortening.undo()
