"""From positions of one dimension to whole units of axes: the only way in which positions can go."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from torch_pruning.axes.expression import Axis, Free, Reason, leaves
from torch_pruning.axes.positions import Choice, Kept, kept_positions, owners_of_positions
from torch_pruning.errors import ConstraintError, FrozenAxisError, PositionError
from torch_pruning.graph.graph import Graph

_Owners = Sequence[tuple[tuple[Free, int], ...]]
_Lane = tuple[tuple[Free, int], ...]  # (axis, unit) of every axis that the lanes run over
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The positions that are to go, of one axis; `where` names it in messages. With `outputs` they may be positions of
    the model's outputs, which are frozen otherwise."""

    axis: Axis
    gone: frozenset[int]
    where: str
    outputs: bool = False

    def __str__(self) -> str:
        return f"{listed(sorted(self.gone))} of {self.where}"


def units_behind(graph: Graph, asked: Asked, protected: Mapping[Free, Reason]) -> Choice:
    """The units whose removal removes exactly these positions, as what each axis keeps.

    (H:2 * D:3): [0, 1, 2] -> unit 0 of H; [1, 4] -> unit 1 of D; [0, 4], with D laned over H -> one D of each H.
    `protected` axes are free, but not to be touched.

    Raises:
        PositionError: if the positions are no union of whole units; the message lists the sets that can go.
        FrozenAxisError: if the units are those of a frozen axis, with its reason.
    """
    owners = owners_of_positions(asked.axis)
    images = _images(owners)
    reasons = _reasons(asked, protected)
    whole = {key for key, image in images.items() if asked.gone.issuperset(image)}
    units: dict[Free, set[int]] = {}
    for leaf, unit in whole:
        if leaf not in reasons:
            units.setdefault(leaf, set()).add(unit)
    choice = {leaf: Kept({(): _without(leaf, gone)}) for leaf, gone in units.items()}
    _require_some_left(choice, asked)
    uncovered = asked.gone - _covered(images, units)
    if uncovered:
        _refuse_frozen(uncovered, owners, images, whole, reasons, asked)
        lost = _lost_by_lane(graph, owners, uncovered, units, reasons, asked)
        choice |= {leaf: _laned(graph, leaf, by_lane) for leaf, by_lane in lost.items() if _equally_many(by_lane)}
        _require_some_left(choice, asked)
        if set(kept_positions(asked.axis, choice)) != set(range(len(owners))) - asked.gone:
            raise PositionError(_refusal(min(uncovered), owners, images, reasons, lost, graph, asked))
    return choice


def require_whole_groups(asked: Asked, groups: int) -> None:
    """Raises PositionError unless the positions are all those of some of the equal groups."""
    width = asked.axis.size // groups
    rows = [set(range(start, start + width)) for start in range(0, asked.axis.size, width)]
    if any(row & asked.gone and not row <= asked.gone for row in rows):
        sets = [listed(sorted(row)) for row in rows if row & asked.gone]
        raise PositionError(
            f"positions must make up whole groups; found {asked}: the sets that can go are {_some(sets)}"
        )


def require_counts(graph: Graph, choice: Choice) -> None:
    """Raises ConstraintError if the code ties the counts to those of axes that are not part of the removal."""
    counts = {axis: kept.count for axis, kept in choice.items()}
    for constraint in graph.constraints.counts:
        symbols = [symbol for symbol in constraint.polynomial.symbols if isinstance(symbol, Free)]
        if not constraint.polynomial.evaluate(lambda axis: counts.get(axis, axis.size)):  # type: ignore[attr-defined,call-overload]
            continue
        found = ", ".join(f"{name_of(graph, axis)} {axis.size} -> {counts.get(axis, axis.size)}" for axis in symbols)
        followers = [name_of(graph, axis) for axis in symbols if axis not in counts]
        remedy = f"{', '.join(followers)} must follow" if followers else "choose counts that keep it true"
        raise ConstraintError(
            f"the code needs {constraint} (at {constraint.where}); found {found}: {remedy}; "
            "torch_pruning.plan chooses units that go together"
        )


def name_of(graph: Graph, axis: Free) -> str:
    """The name of the axis's group."""
    return graph.group_of[axis].name if axis in graph.group_of else axis.name or repr(axis)


def listed(positions: Sequence[int]) -> str:
    """Positions as a message shows them: runs as `0..63`, at most twelve entries."""
    entries: list[str] = []
    for _, run in itertools.groupby(enumerate(positions), lambda entry: entry[1] - entry[0]):
        numbers = [position for _, position in run]
        entries += [f"{numbers[0]}..{numbers[-1]}"] if len(numbers) > 2 else list(map(str, numbers))
    return f"[{', '.join(entries[:12])}{', ...' if len(entries) > 12 else ''}]"


def _images(owners: _Owners) -> dict[tuple[Free, int], list[int]]:
    """For every unit of every axis, the positions that go with it."""
    images: dict[tuple[Free, int], list[int]] = {}
    for position, keys in enumerate(owners):
        for key in keys:
            images.setdefault(key, []).append(position)
    return images


def _reasons(asked: Asked, protected: Mapping[Free, Reason]) -> dict[Free, Reason]:
    found = {leaf: leaf.reason or protected.get(leaf) for leaf in leaves(asked.axis)}
    if asked.outputs:
        found = {leaf: reason for leaf, reason in found.items() if reason is not None and not reason.yields}
    return {leaf: reason for leaf, reason in found.items() if reason is not None}


def _covered(images: Mapping[tuple[Free, int], list[int]], units: Mapping[Free, Set[int]]) -> set[int]:
    return {position for leaf, gone in units.items() for unit in gone for position in images[leaf, unit]}


def _without(leaf: Free, gone: Set[int]) -> tuple[int, ...]:
    return tuple(unit for unit in range(leaf.size) if unit not in gone)


def _require_some_left(choice: Choice, asked: Asked) -> None:
    for leaf, kept in choice.items():
        if kept.count == 0:
            raise PositionError(
                f"at least one unit of every axis must stay; found all {leaf.size} of {leaf.name} to go "
                f"with {asked}: keep one"
            )


def _refuse_frozen(
    uncovered: Set[int],
    owners: _Owners,
    images: Mapping[tuple[Free, int], list[int]],
    whole: Iterable[tuple[Free, int]],
    reasons: Mapping[Free, Reason],
    asked: Asked,
) -> None:
    """Raises FrozenAxisError if only units of frozen axes would cover what is left."""
    frozen = [key for key in whole if key[0] in reasons]
    covered = {position for key in frozen for position in images[key]}
    for position in sorted(uncovered):
        stuck = not any(leaf not in reasons for leaf, _ in owners[position])
        if position in covered or stuck:
            blamed = [key for key in frozen if position in images[key]] or list(owners[position])
            text = str(reasons[blamed[0][0]]) if blamed else "they are no units of any layer of the model"
            raise FrozenAxisError(f"positions {asked} cannot go; position {position} is frozen: {text}")


def _lost_by_lane(
    graph: Graph,
    owners: _Owners,
    uncovered: Set[int],
    units: Mapping[Free, Set[int]],
    reasons: Mapping[Free, Reason],
    asked: Asked,
) -> dict[Free, dict[_Lane, set[int]]]:
    """For every axis that may lose different units in each lane (as the channels of each group of a convolution), what
    each lane loses. Lanes that go as a whole are left out."""
    lost: dict[Free, dict[_Lane, set[int]]] = {}
    here = set(leaves(asked.axis))
    for leaf in dict.fromkeys(leaf for position in sorted(uncovered) for leaf, _ in owners[position]):
        group = graph.group_of.get(leaf)
        over = tuple(lane for lane in group.lanes if lane in here) if group else ()
        if over and leaf not in reasons:
            by_lane = _units_by_lane(owners, leaf, over, asked.gone)
            lost[leaf] = {
                lane: gone
                for lane, gone in by_lane.items()
                if not any(unit in units.get(axis, ()) for axis, unit in lane)
            }
    return lost


def _equally_many(by_lane: Mapping[_Lane, Set[int]]) -> bool:
    counts = {len(gone) for gone in by_lane.values()}
    return len(counts) == 1 and counts != {0}


def _laned(graph: Graph, leaf: Free, by_lane: Mapping[_Lane, Set[int]]) -> Kept:
    """What an axis keeps in each of its lanes."""
    lanes = graph.group_of[leaf].lanes
    # A lane that goes as a whole has no say; it repeats the row of one that stays.
    filler = next(iter(by_lane.values()))
    axes = [axis for axis, _ in next(iter(by_lane))]
    rows = {}
    for combination in itertools.product(*(range(lane.size) for lane in lanes)):
        unit_of = dict(zip(lanes, combination, strict=True))
        rows[combination] = _without(leaf, by_lane.get(tuple((axis, unit_of[axis]) for axis in axes), filler))
    return Kept(rows, lanes)


def _units_by_lane(owners: _Owners, leaf: Free, over: tuple[Free, ...], gone: Set[int]) -> dict[_Lane, set[int]]:
    """For every lane, the units of which every position goes."""
    complete: dict[_Lane, dict[int, bool]] = {}
    for position, keys in enumerate(owners):
        unit_of = dict(keys)
        if leaf in unit_of and all(lane in unit_of for lane in over):
            of_lane = complete.setdefault(tuple((lane, unit_of[lane]) for lane in over), {})
            of_lane[unit_of[leaf]] = of_lane.get(unit_of[leaf], True) and position in gone
    return {lane: {unit for unit, all_gone in units.items() if all_gone} for lane, units in complete.items()}


def _refusal(
    position: int,
    owners: _Owners,
    images: Mapping[tuple[Free, int], list[int]],
    reasons: Mapping[Free, Reason],
    lost: Mapping[Free, Mapping[_Lane, Set[int]]],
    graph: Graph,
    asked: Asked,
) -> str:
    """The message for positions that are no whole units; `position` is one that cannot go like this."""
    sets, hints = [], []
    for leaf, unit in owners[position]:
        if leaf in reasons:
            hints.append(f"units of {name_of(graph, leaf)} are frozen: {reasons[leaf]}")
            continue
        sets.append(listed(images[leaf, unit]))
        if leaf in lost:
            counts = [len(gone) for gone in lost[leaf].values()]
            hints.append(f"or equally many in each of {len(counts)} lanes of {leaf.size}, found {counts}")
    hint = f" ({'; '.join(hints)})" if hints else ""
    return (
        f"positions must be whole units; found {asked}: position {position} can only go with one of these sets "
        f"as a whole: {_some(sets)}{hint}"
    )


def _some(sets: Sequence[str]) -> str:
    return " or ".join(sets[:_SHOWN]) + (" ..." if len(sets) > _SHOWN else "")
