"""From kept units to a plan: positions of every tensor, attributes, layers to replace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.positions import Choice, Kept, all_kept, kept_positions
from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.errors import BudgetError
from torch_pruning.graph.counts import counted
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.guards import attribute_value
from torch_pruning.planning.customized import customized_cuts
from torch_pruning.planning.plan import AttributeChange, Block, GroupChange, Plan, counts_of
from torch_pruning.planning.unread import unread_attributes


def build_plan(graph: Graph, choice: Choice) -> Plan:
    """The plan that keeps the given units; axes absent from `choice` keep all.

    Raises:
        BudgetError: if the counts break a count constraint or would flip a comparison in the model's code.
    """
    choice = {axis: kept for axis, kept in choice.items() if kept.count < axis.size}
    counts = counts_of(choice)
    _check_counts(graph, counts)
    kept: dict[str, dict[int, tuple[int, ...]]] = {}
    blocks: dict[str, Block] = {}
    cache: dict[int, tuple[int, ...]] = {}
    for tensor, axes in graph.axes.items():
        for dim, axis in enumerate(axes):
            touched = [leaf for leaf in leaves(axis) if leaf in choice]
            if not touched:
                continue
            lane_dim = _lane_dimension(axes, dim, touched, choice)
            if lane_dim is not None:
                blocks[tensor] = _block(axes, lane_dim, dim, choice)
                continue
            if id(axis) not in cache:
                cache[id(axis)] = tuple(kept_positions(axis, choice))
            kept.setdefault(tensor, {})[dim] = cache[id(axis)]
    changes = [
        AttributeChange(source, graph.constraints.attribute_values[source], new)
        for source, definition in graph.constraints.definitions.items()
        if (new := attribute_value(definition, counts)) != graph.constraints.attribute_values[source]
    ]
    scales, numbers = _scales(graph, counts)
    # What is only scaled (the bias of a last layer, say) is part of the plan as well.
    touched_tensors = dict.fromkeys((*kept, *blocks, *(tensor for tensor, _, _ in scales)))
    shapes = {name: tuple(axis.size for axis in graph.axes[name]) for name in touched_tensors}
    groups = tuple(
        _group_change(graph, axis, kept_units) for axis, kept_units in choice.items() if axis in graph.group_of
    )
    return Plan(
        shapes,
        kept,
        blocks,
        (*changes, *numbers),
        scales,
        _replaced(graph, choice),
        groups,
        graph.cost(),
        graph.cost(counts),
        graph=graph,
        choice=choice,
        customized=customized_cuts(graph, choice),
        unread=unread_attributes(graph, counts),
    )


def _scales(
    graph: Graph, counts: Mapping[Any, int]
) -> tuple[dict[tuple[str, int, tuple[int, ...]], float], list[AttributeChange]]:
    """Factors to fold into parameters, and float attributes, that make up for numbers which sizes enter."""
    scales: dict[tuple[str, int, tuple[int, ...]], float] = {}
    changes = []
    for repair in graph.repairs:
        change = repair.change(counts)
        if change == 1.0:
            continue
        for target in sorted(repair.targets, key=lambda target: (target.tensor, target.dim, target.positions)):
            key = (target.tensor, target.dim, target.positions)
            scales[key] = scales.get(key, 1.0) * change**repair.power
        if repair.attribute is not None:
            path, name = repair.attribute
            old = getattr(graph.model.get_submodule(path), name)
            if old is not None:  # None is the rounding error of the dtype, and follows it
                source = AttributeSource(path, (("attribute", name),))
                changes.append(AttributeChange(source, old, old * change**repair.attribute_power))
    return scales, changes


def _check_counts(graph: Graph, counts: Mapping[Any, int]) -> None:
    for constraint in graph.constraints.counts:
        value = constraint.polynomial.evaluate(counted(counts))
        if value != 0:
            found = {str(getattr(s, "name", s)): counted(counts)(s) for s in constraint.polynomial.symbols}
            raise BudgetError(
                f"the code needs {constraint} (at {constraint.where}); found {found}: choose counts that keep it true"
            )
    for axis, count in counts.items():
        minimum = graph.group_of[axis].minimum if axis in graph.group_of else 1
        if count < minimum:
            raise BudgetError(f"{axis.name} must keep at least {minimum} units, found {count}: remove fewer")
    broken = graph.broken_guards(counts)
    if broken:
        guard = broken[0].guard
        raise BudgetError(
            f"a comparison in the code must come out as in the trace ({guard.left} {guard.symbol} {guard.right} was "
            f"{guard.outcome} at {guard.where}); these counts would flip it: choose others, or ignore its layers"
        )


def _lane_dimension(axes: tuple[Axis, ...], dim: int, touched: list[Free], choice: Choice) -> int | None:
    """The other dimension of the tensor in which the lane axes of this one lie, if any."""
    own = set(leaves(axes[dim]))
    for leaf in touched:
        for lane in choice[leaf].lanes:
            if lane not in own:
                return next(other for other, axis in enumerate(axes) if lane in set(leaves(axis)))
    return None


def _block(axes: tuple[Axis, ...], lane_dim: int, dim: int, choice: Choice) -> Block:
    """One row of kept positions for every position of the lane dimension (blocks of one), or per lane if it leads."""
    lanes = {lane for leaf in leaves(axes[dim]) if leaf in choice for lane in choice[leaf].lanes}
    rows: list[tuple[int, ...]] = []
    for position in _lane_positions(axes[lane_dim], lanes):
        rows.append(tuple(kept_positions(axes[dim], choice, position)))
    return Block(lane_dim, dim, tuple(rows))


def _lane_positions(axis: Axis, lanes: set[Free]) -> list[dict[Free, int]]:
    """For every position of the axis, where it lies on each of the lane axes; one entry per lane if a lane leads."""
    from torch_pruning.axes.positions import owners_of_positions

    found = [{leaf: unit for leaf, unit in owners if leaf in lanes} for owners in owners_of_positions(axis)]
    if len(lanes) == 1 and found:
        (lane,) = lanes
        width = len(found) // lane.size
        if all(entry[lane] == index // width for index, entry in enumerate(found)):
            return found[::width]
    return found


def _group_change(graph: Graph, axis: Free, kept: Kept) -> GroupChange:
    group = graph.group_of[axis]
    gone = [tuple(sorted(set(range(axis.size)).difference(row))) for row in kept.rows.values()]
    removed: Any = gone[0] if not kept.lanes else tuple(gone)
    return GroupChange(group.name, axis.size, kept.count, removed, group.exact, group.reason)


def _replaced(graph: Graph, choice: Choice) -> dict[str, str]:
    """Stock attention layers whose axes change: they cannot express the result."""
    found: dict[str, str] = {}
    for inferred in graph.programs:
        for path, axes in inferred.facts.replaced_modules.items():
            stock = type(graph.model.get_submodule(path)) is nn.MultiheadAttention
            if stock and any(leaf in choice for axis in axes for leaf in leaves(axis)):
                found[path] = "FreeMultiheadAttention"
    return found


def keep_first(graph: Graph, counts: Mapping[Free, int]) -> Choice:
    """The choice that keeps the first units of each axis: for counts alone."""
    return {axis: Kept({(): all_kept(axis.size).rows[()][:count]}) for axis, count in counts.items()}
