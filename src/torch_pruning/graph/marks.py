"""The marks of a graph: what is inexact in any trace, less what repairs set right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from torch_pruning.axes.expression import Axis, Free
from torch_pruning.axes.sizes import Ratio
from torch_pruning.graph.constraints import Constraints, NumberUse
from torch_pruning.graph.exactness import Mark, find_marks
from torch_pruning.graph.infer import Inferred
from torch_pruning.graph.repair import Repair, RepairFinder
from torch_pruning.rules.facts import ScaleRepair

Marks = dict[Free, list[Mark]]


class _OfProgram:
    """The marks of one program, each with the repairs that would lift it."""

    def __init__(self, inferred: Inferred, modules: Mapping[str, nn.Module]) -> None:
        self.inferred = inferred
        self.finder = RepairFinder(inferred, modules)
        self.found: dict[ScaleRepair, Repair | None] = {}
        self.rows: list[tuple[Free, Mark, list[Repair] | None]] = []
        self.read = {value.name for call in inferred.calls for value in call.inputs()}
        self.asked: set[Repair | None] = set()

    def collect(self, of_state: Mapping[str, tuple[Axis, ...]], uses: Iterable[NumberUse]) -> None:
        for leaf, marks in find_marks(self.inferred, of_state).items():
            for mark in marks:
                self.rows.append((leaf, mark, self._repairs([mark.repair] if mark.repair else [])))
        by_event: dict[int, list[ScaleRepair]] = {}
        for repair in self.inferred.facts.number_repairs:
            assert repair.event is not None
            by_event.setdefault(repair.event, []).append(repair)
        for use in uses:
            wanted = by_event.get(use.event, [])
            if use.event < 0:
                wanted = [use.repair] if use.repair else []
            repairs = self._repairs(wanted, use.size) if use.size is not None else None
            mark = Mark("its size is used as a number", use.where, self.inferred.program.mode, count_only=True)
            self.rows += [(leaf, mark, repairs) for leaf in use.axes]
        self.asked = set(self.found.values())

    def _repairs(self, wanted: list[ScaleRepair], size: Ratio | None = None) -> list[Repair] | None:
        """One repair for each that is wanted; None if one cannot be found, or none is wanted."""
        for repair in wanted:
            if repair not in self.found:
                self.found[repair] = self.finder.find(repair, size)
        repairs = [found for repair in wanted if (found := self.found[repair]) is not None]
        return repairs if repairs and len(repairs) == len(wanted) else None

    def allows(self, repair: Repair) -> bool:
        """Whether scaling the targets is right in this program too: it asks for the same, or does not read them."""
        return repair in self.asked or self.read.isdisjoint(target.tensor for target in repair.targets)


def find_all_marks(
    inferred: Sequence[Inferred],
    of_state: Mapping[str, tuple[Axis, ...]],
    constraints: Constraints,
    modules: Mapping[str, nn.Module],
) -> tuple[Marks, list[Repair]]:
    """The marks that stay, and the repairs that lift the others."""
    programs = [_OfProgram(program, modules) for program in inferred]
    for program in programs:
        program.collect(of_state, [use for use in constraints.number_uses if use.program == id(program.inferred)])
    asked = {repair for program in programs for _, _, repairs in program.rows for repair in repairs or ()}
    allowed = {repair for repair in asked if all(program.allows(repair) for program in programs)}
    marks: Marks = {}
    used: dict[tuple[str, Repair], None] = {}
    for program in programs:
        for leaf, mark, repairs in program.rows:
            if repairs is None or not allowed.issuperset(repairs):
                marks.setdefault(leaf, []).append(mark)
            else:
                used.update({(repair.where, repair): None for repair in repairs})
    return marks, [repair for _, repair in used]
