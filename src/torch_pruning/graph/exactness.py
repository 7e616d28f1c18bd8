"""Which groups are exact: whether what is computed over an axis notices that removed units are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.rules.facts import ScaleRepair
from torch_pruning.rules.laws import Law, ZeroSet, zero_set
from torch_pruning.rules.operand import Operand
from torch_pruning.trace.program import Call, Value, Where


@dataclass(frozen=True, slots=True)
class Mark:
    """Why removing units of an axis differs from zeroing them. `count_only`: by a factor that the counts determine."""

    text: str
    where: Where | None
    mode: str
    count_only: bool = False
    repair: ScaleRepair | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.text} at {self.where}" if self.where else self.text


def find_marks(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> dict[Free, list[Mark]]:
    """The marks of one program, by Free axis. Frozen axes cannot be pruned and get none."""
    zeros = _ZeroSets(inferred, of_state)
    statistics = inferred.facts.statistics
    marks: dict[Free, list[Mark]] = {}
    zeros.run()
    for statistic in statistics:
        axes = frozenset(leaf for leaf in leaves(statistic.axis) if leaf.reason is None)
        if not axes:
            continue
        exact = zeros.evaluate(statistic.law, axes) if statistic.kind in ("sum", "count") else frozenset()
        for leaf in axes:
            if leaf in exact and statistic.kind == "sum":
                continue
            count_only = statistic.kind == "count" and leaf in exact
            repair = statistic.repair if count_only else None
            mark = Mark(statistic.text, statistic.where, inferred.program.mode, count_only, repair)
            marks.setdefault(leaf, []).append(mark)
    return marks


def zero_sets(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> dict[int, ZeroSet]:
    """For every live value, by index, the Free axes on which it is zero where units are removed."""
    zeros = _ZeroSets(inferred, of_state)
    zeros.run()
    return zeros.zero


def inexact_under(
    inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]], masked: Mapping[str, ZeroSet]
) -> ZeroSet:
    """The axes over which some sum would notice removed units if only these tensors were zero there, by name."""
    zeros = _ZeroSets(inferred, of_state, masked)
    zeros.run()
    noticed: set[Free] = set()
    for statistic in inferred.facts.statistics:
        axes = frozenset(leaf for leaf in leaves(statistic.axis) if leaf.reason is None)
        if axes and statistic.kind != "all":
            noticed.update(axes - zeros.evaluate(statistic.law, axes))
    return frozenset(noticed)


class _ZeroSets:
    """Forward pass: for every value, the Free axes on which it is zero where units are removed.

    All tensors of the model are zero there, or only those that `masked` names, on these axes.
    """

    def __init__(
        self,
        inferred: Inferred,
        of_state: Mapping[str, tuple[Axis, ...]],
        masked: Mapping[str, ZeroSet] | None = None,
    ) -> None:
        self.inferred = inferred
        self.of_state = of_state
        self.masked = masked
        self.zero: dict[int, ZeroSet] = {}
        self.carried: dict[int, ZeroSet] = {}
        self.leaves_of: dict[int, tuple[ZeroSet, ZeroSet]] = {}  # by identity of the axes
        self.by_storage: dict[int, list[int]] = {}

    def run(self) -> None:
        for call, laws in self.inferred.laws:
            for value in call.inputs():
                self._enter(value)
            results = list(call.results())
            for value, law in zip(results, laws, strict=True):
                carried = self._carried(value)
                repeated = self._repeated(value)
                # An operand may be zero on an axis that was summed over; the result says nothing about that one.
                self.zero[value.index] = carried & zero_set(law, self._of_operand, self._carried_by, carried, repeated)
                self.by_storage.setdefault(value.storage, []).append(value.index)
            self._spoil_aliases(call, results)

    def evaluate(self, law: Law, axes: ZeroSet) -> ZeroSet:
        return zero_set(law, self._of_operand, self._carried_by, axes)

    def _enter(self, value: Value) -> None:
        if value.index not in self.zero:
            self.zero[value.index] = self._of_state(value) if value.kind == "state" else frozenset()
            self.by_storage.setdefault(value.storage, []).append(value.index)

    def _of_state(self, value: Value) -> ZeroSet:
        return self._carried(value) if self.masked is None else self.masked.get(value.name, frozenset())

    def _carried(self, value: Value) -> ZeroSet:
        found = self.carried.get(value.index)
        if found is None:
            found, _ = self._leaves(value)
            self.carried[value.index] = found
        return found

    def _repeated(self, value: Value) -> ZeroSet:
        """The axes that lie on several dimensions of a value."""
        return self._leaves(value)[1]

    def _leaves(self, value: Value) -> tuple[ZeroSet, ZeroSet]:
        """(all Free axes of a value, those that lie on several of its dimensions)"""
        axes = axes_of(value, self.inferred, self.of_state)
        found = self.leaves_of.get(id(axes))
        if found is None:
            dims = Counter(leaf for axis in axes for leaf in set(leaves(axis)))
            several = frozenset(leaf for leaf, count in dims.items() if count > 1)
            found = self.leaves_of[id(axes)] = (frozenset(dims), several)
        return found

    def _of_operand(self, operand: Operand) -> ZeroSet:
        return self.zero.get(operand.value, frozenset())

    def _carried_by(self, operand: Operand) -> ZeroSet:
        return self.carried.get(operand.value, frozenset())

    def _spoil_aliases(self, call: Call, results: list[Value]) -> None:
        """An in-place write that is not zero on an axis spoils that axis for every view of the same memory."""
        mutated = {value.storage for value in call.mutated}
        for value in results:
            if value.storage in mutated:
                lost = self._carried(value) - self.zero[value.index]
                for index in self.by_storage.get(value.storage, []):
                    if index != value.index:
                        self.zero[index] -= lost
