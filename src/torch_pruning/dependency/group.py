"""A group as Torch-Pruning 1.x has it: everything that goes with positions of one layer, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.positions import Choice, owners_of_positions
from torch_pruning.dependency.rows import Dependency, Going, Root, Row, removed_positions, through_lanes, write_rows
from torch_pruning.dependency.sides import channels_function
from torch_pruning.planning.tensors import Positions

if TYPE_CHECKING:
    from torch_pruning.dependency.graph import DependencyGraph


@dataclass(frozen=True, slots=True)
class GroupItem:
    """One row of a group, `dep, idxs = item`: a step, and positions along its own dimension.

    `root_idxs[i]` is the position of the group's first row that `idxs[i]` belongs to.
    """

    dep: Dependency
    idxs: list[int]
    root_idxs: list[int]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.dep, self.idxs))

    def __getitem__(self, index: int) -> Any:
        return (self.dep, self.idxs)[index]

    def __len__(self) -> int:
        return 2

    def __str__(self) -> str:
        return f"({_step(self.dep)}, {self.idxs})"

    __repr__ = __str__


@dataclass(slots=True)
class PruningGroup:
    """The rows that carry positions `idxs` of one width of one layer, its root; the root is row 0.

    `choice` says which units stay; None stands for a group of all positions, which describes a width and leaves the
    choice to `prune(idxs)`. `protected` says why pruners leave the group alone, if they do.
    """

    owner: DependencyGraph = field(repr=False)
    root: Root
    idxs: list[int]
    choice: Choice | None = field(default=None, repr=False)
    protected: str | None = None
    _items: list[GroupItem] | None = field(default=None, repr=False)
    epoch: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.epoch = self.owner.graph.epoch

    # ---- rows

    @property
    def items(self) -> list[GroupItem]:
        """The rows, in dependency order; they are those of the model as it was when they were first looked at."""
        if self._items is None:
            self._items = self._rows()
        return self._items

    def _rows(self) -> list[GroupItem]:
        touched = self.axes
        going = Going(touched, self._removed, channels_function)
        rows = write_rows(self.owner.graph, self.owner.flows, going, self.root)
        index = _positions_by_units(self._whole(self.root.axis), self.idxs)
        by_axis: dict[int, list[int]] = {}  # rows with the same axis, of which there are many, lose the same positions
        for row in rows:
            if id(row.axis) not in by_axis:
                by_axis[id(row.axis)] = self._root_idxs(row, index)
        return [GroupItem(row.dependency, row.idxs, list(by_axis[id(row.axis)])) for row in rows]

    @property
    def axes(self) -> list[Free]:
        """The engine's axes that the group lies on."""
        return list(self.choice) if self.choice is not None else list(dict.fromkeys(leaves(self.root.axis)))

    def _whole(self, axis: Axis) -> Axis:
        return axis if self.choice is None else through_lanes(axis, self.choice)

    def _removed(self, axis: Axis) -> list[int]:
        if self.choice is not None:
            return removed_positions(axis, self.choice)
        wanted = set(self.axes)
        owners = owners_of_positions(axis)
        return [position for position, units in enumerate(owners) if any(leaf in wanted for leaf, _ in units)]

    def _root_idxs(self, row: Row, of_root: _Index) -> list[int]:
        owners = owners_of_positions(self._whole(row.axis))
        common = frozenset(leaves(row.axis)) | {leaf for units in owners for leaf, _ in units}
        return of_root.belonging([owners[position] for position in row.idxs], common)

    def __iter__(self) -> Iterator[GroupItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    # ---- pruning

    def prune(self, idxs: Positions | None = None, record_history: bool = True, *, optimizer: Any = None) -> int:
        """Prune the model in place; returns the number of parameters removed.

        With `idxs`, positions of the root as they are *now*, the group only says where. Without, what the group was
        made for goes, wherever it is by now. All or nothing: after an error the model is as it was.

        Raises:
            PositionError: for positions that are no whole units, or all there are.
            FrozenAxisError, ConstraintError, StalePlanError: as `DependencyGraph.get_pruning_plan`.
        """
        return self.owner.prune_group(self, idxs, record_history, optimizer)

    exec = prune

    # ---- showing

    def details(self) -> str:
        """Every row with its positions."""
        return self._text(lambda item: f"idxs ({len(item.idxs)}) ={item.idxs}")

    def __str__(self) -> str:
        return self._text(lambda item: f"len(idxs)={len(item.idxs)}")

    def _text(self, positions: Any) -> str:
        ruler = "-" * 32
        rows = [f"[{number}] {_step(item.dep)}, {positions(item)}" for number, item in enumerate(self.items)]
        if rows:
            rows[0] += " (root)"
        note = [f"protected: {self.protected}"] if self.protected else []
        return "\n".join(["", ruler, "          Pruning Group", ruler, *rows, *note, ruler, ""])


def _step(dep: Dependency) -> str:
    return f"{dep.trigger.__name__} on {dep.source.name} => {dep.handler.__name__} on {dep.target.name}"


_Units = Sequence[tuple[Free, int]]
_Key = frozenset[tuple[Free, int]]


class _Index:
    """Which position of the root each position of another row belongs to."""

    def __init__(self, owners: Sequence[_Units], idxs: Sequence[int]) -> None:
        self.entries = [(position, owners[position]) for position in idxs]
        self.axes = {leaf for _, units in self.entries for leaf, _ in units}
        self.tables: dict[frozenset[Free], Mapping[_Key, Sequence[int]]] = {}
        self.fallback = idxs[:1] or [0]

    def belonging(self, row: Sequence[_Units], axes: frozenset[Free]) -> list[int]:
        """Root positions, one for each of the row.

        Where several of the row share units with several of the root, as those of one group of a grouped convolution
        do, they are dealt out in order: so many to each, as far as that goes.
        """
        common = axes & self.axes
        table = self._table(common)
        keys = [_key(units, common) for units in row]
        shares, dealt = Counter(keys), Counter[_Key]()
        found = []
        for key in keys:
            roots = table.get(key, self.fallback)
            found.append(roots[dealt[key] * len(roots) // shares[key]])
            dealt[key] += 1
        return found

    def _table(self, common: frozenset[Free]) -> Mapping[_Key, Sequence[int]]:
        if common not in self.tables:
            table: dict[_Key, list[int]] = {}
            for position, units in self.entries:
                table.setdefault(_key(units, common), []).append(position)
            table.pop(frozenset(), None)
            self.tables[common] = table
        return self.tables[common]


def _key(units: _Units, axes: frozenset[Free]) -> _Key:
    return frozenset(unit for unit in units if unit[0] in axes)


def _positions_by_units(axis: Axis, idxs: Sequence[int]) -> _Index:
    return _Index(owners_of_positions(axis), idxs)
