"""The marks of a graph: what is inexact in any trace, less what repairs set right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import nn

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.sizes import Ratio
from torch_pruning.graph.constraints import Constraints, NumberUse
from torch_pruning.graph.exactness import Mark, find_marks
from torch_pruning.graph.infer import Inferred
from torch_pruning.graph.repair import Repair, RepairFinder
from torch_pruning.rules.facts import ScaleRepair
from torch_pruning.trace.program import Call, Turn, turns

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

    def readers(self, used: Collection[Repair]) -> list[Call]:
        """The calls that work on what these repairs scale."""
        return [wanted.operand.reader for wanted, repair in self.found.items() if repair in used]

    def allows(self, repair: Repair) -> bool:
        """Whether scaling the targets is right in this program too: it asks for the same, or does not read them."""
        return repair in self.asked or self.read.isdisjoint(target.tensor for target in repair.targets)


def find_all_marks(
    inferred: Sequence[Inferred],
    of_state: Mapping[str, tuple[Axis, ...]],
    constraints: Constraints,
    modules: Mapping[str, nn.Module],
) -> tuple[Marks, list[Repair], frozenset[Turn]]:
    """The marks that stay, the repairs that lift the others, and the calls whose numbers these set right."""
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
    _pass_on(marks, constraints, {leaf for axes in of_state.values() for axis in axes for leaf in leaves(axis)})
    right = {id(call) for program in programs for call in program.readers({repair for _, repair in used})}
    calls = [pair for program in inferred for pair in turns(program.program.calls)]
    return marks, [repair for _, repair in used], frozenset(turn for turn, call in calls if id(call) in right)


def _pass_on(marks: Marks, constraints: Constraints, on_model: set[Free]) -> None:
    """What is made in the size of a group, as `torch.ones(width)` is, is marked for it: nothing masks its entries."""
    ties = [{s for s in tie.polynomial.symbols if isinstance(s, Free)} for tie in constraints.counts]
    open_leaves = [leaf for leaf in marks if leaf not in on_model]
    passed: set[Free] = set()
    while open_leaves:
        leaf = open_leaves.pop()
        passed.add(leaf)
        for other in {axis for tie in ties if leaf in tie for axis in tie} - passed:
            known = marks.setdefault(other, [])
            known += [mark for mark in marks[leaf] if mark not in known]
            if other not in on_model:
                open_leaves.append(other)
