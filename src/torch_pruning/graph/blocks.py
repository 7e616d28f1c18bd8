"""Residual blocks: elements of module lists whose output is their input plus something, found in the recorded run.

    y = x + f(x)        y = (x + f(x)) + g(x + f(x))        y = relu(x + f(x)), x being the result of a relu itself

Without the block y is x: what the model computes if every branch, f(x) and g(...), is multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torch_pruning.trace.program import Call, Program, Value, Where

_ADDS = frozenset(["aten.add.Tensor", "aten.add_.Tensor"])
# Give their first argument, in another layout or, the order of entries being the same, in another shape. A dropout does
# so only if it is off.
_COPIES = frozenset(
    ["aten.contiguous", "aten.clone", "aten.alias", "aten.detach", "aten.to", "aten.view", "aten.reshape",
     "aten._unsafe_view", "aten.flatten", "aten.unflatten", "aten.squeeze", "aten.unsqueeze"]
)  # fmt: skip
_DROPOUTS = frozenset(["aten.dropout", "aten.feature_dropout", "aten.alpha_dropout"])
_RELUS = frozenset(["aten.relu", "aten.relu_"])
# What is not negative stays so.
_KEEP_SIGN = frozenset(
    ["aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.max_pool2d_with_indices", "aten.avg_pool1d",
     "aten.avg_pool2d", "aten.avg_pool3d", "aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.flatten"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BranchSum:
    """The sum that adds a branch: the `ordinal`-th addition at that place of the code; `operand` is the branch."""

    where: Where
    ordinal: int
    operand: int


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """An element of a `nn.Sequential` or `nn.ModuleList` that may go. `input` and `output` are values of the program,
    `calls` the places of its calls in it."""

    path: str
    container: str
    key: str
    input: Value
    output: Value
    calls: range
    sums: tuple[BranchSum, ...]


@dataclass(frozen=True, slots=True)
class RefusedBlock:
    """An element of a module list that may not go, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Blocks:
    """What a search found: blocks in the order they run, and the elements of the same containers that must stay."""

    found: list[ResidualBlock] = field(default_factory=list)
    refused: list[RefusedBlock] = field(default_factory=list)

    def without(self, paths: Mapping[str, str]) -> Blocks:
        """The same with some blocks refused, for the reason given by path."""
        refused = [RefusedBlock(block.path, paths[block.path]) for block in self.found if block.path in paths]
        return Blocks([block for block in self.found if block.path not in paths], [*self.refused, *refused])


def find_blocks(model: nn.Module, program: Program) -> Blocks:
    """Every element of a module list that is a residual block in this run; see `ResidualBlock`."""
    search = _Search(program)
    blocks = Blocks()
    for path, container in model.named_modules():
        if isinstance(container, (nn.Sequential, nn.ModuleList)):
            for key in container._modules:
                element = f"{path}.{key}" if path else key
                found = search.block(element, path, key)
                if isinstance(found, ResidualBlock):
                    blocks.found.append(found)
                elif found is not None:
                    blocks.refused.append(found)
    blocks.found.sort(key=lambda block: block.calls.start)
    return blocks


class _Search:
    """One program, with who produces and who reads each value."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.producer: dict[int, Call] = {v.index: call for call in program.calls for v in call.results()}
        self.place = {id(call): place for place, call in enumerate(program.calls)}
        self.readers: dict[int, list[int]] = {}
        for place, call in enumerate(program.calls):
            for value in call.inputs():
                self.readers.setdefault(value.index, []).append(place)
        given_out = (*program.outputs, *program.reachable, *program.rewritten.values())
        self.given_out = {value.index for value in given_out}
        self.ordinals = _ordinals(program)
        self.calls_below = _calls_below(program)

    def block(self, path: str, container: str, key: str) -> ResidualBlock | RefusedBlock | None:
        """None for an element that did not run, or that has nothing to do with residual sums."""
        places = self.calls_below.get(path)
        if not places:
            return None
        calls = range(places[0], places[-1] + 1)
        if len(calls) != len(places):
            return RefusedBlock(path, "it is called more than once, or something else runs in between")
        seen = self._seen_outside(calls)
        if len(seen) != 1:
            names = ", ".join(map(repr, seen[:3]))
            return RefusedBlock(path, f"{len(seen)} of its values are read elsewhere ({names}), not one")
        (output,) = seen
        found = self._way_back(output, calls)
        if found is None:
            return self._sum_before(path, output, calls)
        source, sums, relu = found
        if relu and not self._not_negative(source):
            return RefusedBlock(path, "its sum passes a relu, and its input may be negative")
        if self._written_while_needed(source, output, calls):
            return RefusedBlock(path, "its output is changed in place later, while its input is still needed")
        return ResidualBlock(path, container, key, source, output, calls, tuple(sums))

    def _sum_before(self, path: str, output: Value, calls: range) -> RefusedBlock | None:
        """For an element that adds to its input, and then makes something else of the sum: which op does."""
        call = self.producer[output.index]
        sums = [inner for inner in self.program.calls[calls.start : calls.stop] if inner.op in _ADDS]
        for inner in sums:
            (total,) = inner.results()
            if total.shape == output.shape and self._way_back(total, calls) is not None:
                return RefusedBlock(path, f"its output is no sum: {call.op} at {call.where} comes behind it")
        return None

    def _seen_outside(self, calls: range) -> list[Value]:
        """The values from inside that others read, or that leave the model. What a cache keeps does not count."""
        seen = []
        for place in calls:
            for value in self.program.calls[place].results():
                outside = any(reader not in calls for reader in self.readers.get(value.index, ()))
                if outside or value.index in self.given_out:
                    seen.append(value)
        return seen

    def _way_back(self, output: Value, calls: range) -> tuple[Value, list[BranchSum], bool] | None:
        """From the output over sums to a value from outside: (that value, the sums, whether a relu lies on the way)."""
        stack: list[tuple[Value, tuple[BranchSum, ...], bool]] = [(output, (), False)]
        visited: set[int] = set()
        while stack:
            value, sums, relu = stack.pop()
            call = self.producer.get(value.index)
            if call is None or self.place[id(call)] not in calls:
                same = (value.shape, value.dtype) == (output.shape, output.dtype)
                if sums and same and value.kind in ("computed", "input"):
                    return value, list(sums), relu
                continue
            if value.index in visited:
                continue
            visited.add(value.index)
            op = call.op.rpartition(".")[0]
            if call.op in _ADDS:
                stack += [(operand, (*sums, branch), relu) for operand, branch in self._operands(call, value)]
            elif op in _RELUS and not sums:
                stack.append((call.inputs()[0], sums, True))
            elif _is_copy(call, op, value):
                stack.append((call.inputs()[0], sums, relu))
        return None

    def _operands(self, call: Call, total: Value) -> Iterator[tuple[Value, BranchSum]]:
        """Each operand of a sum that has its full shape, with the other one as the branch."""
        alpha = call.kwargs.get("alpha", 1)
        for index, operand in enumerate(call.args[:2]):
            if isinstance(operand, Value) and operand.shape == total.shape and (index == 0 or alpha == 1):
                yield operand, BranchSum(call.where, self.ordinals[id(call)], 1 - index)

    def _not_negative(self, value: Value) -> bool:
        call = self.producer.get(value.index)
        while call is not None:
            op = call.op.rpartition(".")[0]
            if op in _RELUS:
                return True
            if op not in _KEEP_SIGN and not _is_copy(call, op, value):
                return False
            value = call.inputs()[0]
            call = self.producer.get(value.index)
        return False

    def _written_while_needed(self, source: Value, output: Value, calls: range) -> bool:
        """Once the block is gone its output is its input, the same memory."""
        after = self.program.calls[calls.stop :]
        written = any(value.storage == output.storage for call in after for value in call.mutated)
        read_later = any(place >= calls.stop for place in self.readers.get(source.index, ()))
        return written and (read_later or source.index in self.given_out)


def _is_copy(call: Call, op: str, value: Value) -> bool:
    if op in _DROPOUTS:
        return call.args[2] is False if len(call.args) > 2 else call.kwargs.get("train") is False
    return op in _COPIES and bool(call.inputs()) and call.inputs()[0].dtype == value.dtype


def _ordinals(program: Program) -> dict[int, int]:
    """By identity of a call that adds: how many additions came before it at the same place of the code."""
    counted: dict[Any, int] = {}
    found = {}
    for call in program.calls:
        if call.op in _ADDS:
            found[id(call)] = counted[call.where] = counted.get(call.where, -1) + 1
    return found


def _calls_below(program: Program) -> dict[str, list[int]]:
    """The places of the calls of every module and of what is below it, in order."""
    found: dict[str, list[int]] = {}
    for place, call in enumerate(program.calls):
        path = call.where.module
        while path:
            found.setdefault(path, []).append(place)
            path = path.rpartition(".")[0]
    return found
