"""The history of a graph: what was pruned, as plain data that replays on a fresh model.

An entry is `[name, is_out, idxs]`, positions of one width of one layer, where these say everything. Otherwise it is
`{"units": {name of a group: units that went, or a list of them per lane}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from torch_pruning.axes.positions import Choice, Kept
from torch_pruning.dependency.closure import Asked, units_behind
from torch_pruning.dependency.rows import Root, parameter_at, removed_positions, through_lanes
from torch_pruning.dependency.sides import is_of_inputs
from torch_pruning.errors import PruningError

if TYPE_CHECKING:
    from torch_pruning.dependency.graph import DependencyGraph

Entry: TypeAlias = "list[Any] | dict[str, Any]"
History: TypeAlias = "list[Entry]"


def entry_of(owner: DependencyGraph, root: Root, choice: Choice) -> Entry:
    """What to write down before a choice of units is carried out."""
    gone = removed_positions(root.axis, choice)
    if through_lanes(root.axis, choice) is root.axis or through_lanes(root.axis, choice).size == root.axis.size:
        asked = Asked(root.axis, frozenset(gone), root.path, outputs=True)
        if _same(_units(owner, asked), choice):
            return [root.path, not is_of_inputs(root.function), gone]
    return units_entry(owner, choice)


def units_entry(owner: DependencyGraph, choice: Choice) -> dict[str, Any]:
    """An entry that names the units of every group."""
    units: dict[str, Any] = {}
    for axis, kept in choice.items():
        rows = [[unit for unit in range(axis.size) if unit not in set(row)] for row in kept.rows.values()]
        units[owner.graph.group_of[axis].name] = rows if kept.lanes else rows[0]
    return {"units": units}


def _units(owner: DependencyGraph, asked: Asked) -> Choice | None:
    try:
        return units_behind(owner.graph, asked, {})
    except PruningError:
        return None


def _same(found: Choice | None, choice: Choice) -> bool:
    """Whether two choices keep the same, axes of which nothing goes aside."""
    if found is None:
        return False
    one, other = (
        {axis: dict(kept.rows) for axis, kept in each.items() if kept.count < axis.size} for each in (found, choice)
    )
    return one == other


def replay(owner: DependencyGraph, entry: Entry) -> None:
    """Carry one entry out.

    Raises:
        ValueError: for an entry of another form, or a layer or group that the model does not have.
    """
    if isinstance(entry, Mapping):
        owner.exec_units(choice_of(owner, entry.get("units")))
        return
    if not isinstance(entry, (list, tuple)) or len(entry) != 3 or not isinstance(entry[0], str):
        raise ValueError(f"an entry must be [name, is_out, idxs] or {{'units': ...}}; found {entry!r}")
    name, is_out, idxs = entry
    layer = _layer(owner, name)
    function = owner.function_of(layer, outputs=bool(is_out))
    if function is None:
        raise ValueError(f"{name} must be a layer that can be pruned; found {layer!r}: was the history of this model?")
    group = owner.get_pruning_group(layer, function, idxs)
    group.prune(record_history=False)


def choice_of(owner: DependencyGraph, units: Any) -> Choice:
    """What each axis keeps, from the units that go by name of group."""
    by_name = {group.name: group for group in owner.graph.groups}
    if not isinstance(units, Mapping) or not units.keys() <= by_name.keys():
        unknown = sorted(set(units) - by_name.keys()) if isinstance(units, Mapping) else units
        raise ValueError(f"an entry must name groups of the model; found {unknown!r}: was the history of this model?")
    choice: dict[Any, Kept] = {}
    for name, gone in units.items():
        axis, lanes = by_name[name].axis, by_name[name].lanes
        by_lane = bool(gone) and isinstance(gone[0], (list, tuple))
        rows = [
            tuple(unit for unit in range(axis.size) if unit not in set(row)) for row in (gone if by_lane else [gone])
        ]
        choice[axis] = Kept(dict(zip(_keys(lanes), rows, strict=True)), lanes) if by_lane else Kept({(): rows[0]})
    return choice


def _keys(lanes: Any) -> list[tuple[int, ...]]:
    keys: list[tuple[int, ...]] = [()]
    for lane in lanes:
        keys = [(*key, position) for key in keys for position in range(lane.size)]
    return keys


def _layer(owner: DependencyGraph, name: str) -> Any:
    try:
        return owner.model.get_submodule(name)
    except AttributeError:
        parameter: nn.Parameter | None = parameter_at(owner.model, name)
        if parameter is None:
            raise ValueError(f"the model has no layer or parameter {name!r}: was the history of this model?") from None
        return parameter
