"""Whether a shortened model computes what the original does without its blocks: two recorded runs, call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from torch_pruning.graph.blocks import ResidualBlock
from torch_pruning.trace.program import Call, Program, Value


def difference(
    program: Program, blocks: Sequence[ResidualBlock], shorter: Program, original_name: Callable[[str], str]
) -> str | None:
    """What is not as predicted in the run of the model without these blocks; None if everything is.

    The prediction: the same ops in the same order, less those of the blocks, each on the same values, tensors and
    numbers, where the input of a block stands for its output. Ops that no output depends on do not count: a cache makes
    entries for each layer, and a mask may be for the removed ones alone. `original_name` gives the name that a tensor
    of the shortened model had before. So equality is a proof, up to constants that come from outside of the model.
    """
    if shorter.failure is not None and program.failure is None:
        return f"it does not run: {type(shorter.failure).__name__}: {shorter.failure}"
    matching = _Matching(blocks, original_name)
    matching.pair_up(program.inputs, shorter.inputs)
    gone = {place for block in blocks for place in block.calls}
    left = [call for place, call in enumerate(program.calls) if place not in gone]
    expected = _needed(program, left, matching.source)
    for before, after in zip_longest(expected, _needed(shorter, shorter.calls, lambda value: value.index)):
        found = matching.of_calls(before, after)
        if found is not None:
            return found
    if len(program.outputs) != len(shorter.outputs):
        return f"it gives {len(shorter.outputs)} outputs, not {len(program.outputs)}"
    pairs = zip(program.outputs, shorter.outputs, strict=True)
    if not all(matching.same(before, after) for before, after in pairs):
        return "one of its outputs is another value"
    return None


def _needed(program: Program, calls: Sequence[Call], source: Callable[[Value], int]) -> list[Call]:
    """The calls that outputs or the state of the model depend on, in order. What is kept in caches does not count."""
    results = (*program.outputs, *program.rewritten.values())
    needed = {source(value) for value in results}
    storages = {value.storage for value in (*results, *program.state.values(), *program.inputs)}
    found = []
    for call in reversed(calls):
        makes = any(source(value) in needed for value in call.results())
        writes = any(value.storage in storages for value in call.mutated)
        if makes or writes or not call.results() or program.failure is not None:
            found.append(call)
            needed.update(source(value) for value in call.inputs())
            storages.update(value.storage for value in call.inputs())
    return found[::-1]


@dataclass(slots=True)
class _Matching:
    """Which value of the shorter run is which of the original one."""

    blocks: Sequence[ResidualBlock]
    original_name: Callable[[str], str]
    known: dict[int, int] = field(default_factory=dict)
    passed_on: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.passed_on = {block.output.index: block.input.index for block in self.blocks}

    def pair_up(self, before: Sequence[Value], after: Sequence[Value]) -> None:
        for old, new in zip(before, after, strict=False):
            self.known[new.index] = self.source(old)

    def of_calls(self, before: Call | None, after: Call | None) -> str | None:
        """What differs between two calls; if nothing does, their results are the same values from now on."""
        if before is None or after is None:
            call = before or after
            assert call is not None
            return f"{call.op} at {call.where} runs only {'with' if before else 'without'} the block"
        if before.op != after.op:
            return f"{after.op} runs at {after.where} instead of {before.op} at {before.where}"
        if not self.same(before.args, after.args) or not self.same(before.kwargs, after.kwargs):
            return f"{after.op} at {after.where} works on other tensors or numbers"
        self.pair_up(before.results(), after.results())
        return None

    def same(self, before: Any, after: Any) -> bool:
        """Whether arguments of an op agree."""
        if isinstance(before, Value) and isinstance(after, Value):
            return self._same_value(before, after)
        if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
            return len(before) == len(after) and all(map(self.same, before, after))
        if isinstance(before, dict) and isinstance(after, dict):
            return before.keys() == after.keys() and all(self.same(before[key], after[key]) for key in before)
        if isinstance(before, (int, float, str, bool, type(None))):
            return bool(type(before) is type(after) or isinstance(after, (int, float))) and bool(before == after)
        return type(before) is type(after)

    def _same_value(self, before: Value, after: Value) -> bool:
        if after.index in self.known:
            return self.known[after.index] == self.source(before)
        if after.kind == "state":
            return before.kind == "state" and before.name == self.original_name(after.name)
        if after.kind == before.kind == "constant" and (before.shape, before.dtype) == (after.shape, after.dtype):
            self.known[after.index] = before.index
            return True
        return False

    def source(self, value: Value) -> int:
        """The value that stands for this one once the blocks are gone, by index."""
        index = value.index
        while index in self.passed_on:
            index = self.passed_on[index]
        return index
