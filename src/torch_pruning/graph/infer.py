"""Apply the rules to a recorded program: every live value gets its axes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from torch_pruning import rules as _filled  # noqa: F401  (importing the families fills the table of rules)
from torch_pruning.axes.expression import Axis, Fixed, Free, OutputReason, Reason, freeze
from torch_pruning.axes.unify import unify
from torch_pruning.rules.call import OpCall, check_outcome, write_to_out
from torch_pruning.rules.facts import Facts, Outcome
from torch_pruning.rules.laws import NOWHERE, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.pointwise import elementwise, is_pointwise
from torch_pruning.rules.registry import find_rule
from torch_pruning.trace.program import Call, Program, Value, values_in


@dataclass(slots=True)
class Inferred:
    """A program with the axes of its live values, by index, and what the rules said."""

    program: Program
    calls: list[Call]
    axes: dict[int, tuple[Axis, ...]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    laws: list[tuple[Call, tuple[Law, ...]]] = field(default_factory=list)
    unruled: dict[str, Any] = field(default_factory=dict)  # op without a rule -> where it was first met
    unread: frozenset[int] = frozenset()  # indices of values that no live call reads and that are no outputs
    dead: list[Call] = field(default_factory=list)  # calls whose results nobody uses: only their sizes must fit


def state_axes(shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[Axis, ...]]:
    """One Free axis for every dimension of every tensor of the model; sizes of 1, and of 0, are Fixed."""
    return {
        name: tuple(Fixed(size) if size < 2 else Free(size, name=f"{name}[{dim}]") for dim, size in enumerate(shape))
        for name, shape in shapes.items()
    }


def infer(
    program: Program, of_state: Mapping[str, tuple[Axis, ...]], scales: Mapping[str, int] | None = None
) -> Inferred:
    """Run the rules over the live part of a program, unifying into the axes of the model's tensors."""
    inferred = Inferred(program, program.live_calls())
    inferred.unread = _unread(inferred)
    for call in inferred.calls:
        outcome = _apply(call, inferred, of_state)
        for value, axes in zip(call.results(), outcome.axes, strict=True):
            inferred.axes[value.index] = axes
        inferred.laws.append((call, outcome.zeros))
    _fit_dead_calls(inferred, of_state)
    for value in program.outputs:
        for dim, axis in enumerate(axes_of(value, inferred, of_state)):
            freeze(axis, OutputReason(f"dimension {dim} of a model output"))
    for value in program.reachable:
        for axis in axes_of(value, inferred, of_state):
            freeze(axis, Reason(f"the trace ended here, at {type(program.failure).__name__}: what follows may read it"))
    _carry_over(inferred, of_state)
    return inferred


# They take any number of positions, and nobody looks at the order they give.
_ANY_SIZE = frozenset(
    f"aten.{name}" for name in "argsort sort msort argmax argmin cumsum cumprod cummax cummin logcumsumexp flip".split()
)


def _fit_dead_calls(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> None:
    """Calls whose results nobody uses still run, with the sizes that are there then: what ties sizes, ties them too.

    What they compute does not matter, so they neither mark nor cost anything.
    """
    live = set(map(id, inferred.calls))
    facts, inferred.facts = inferred.facts, Facts()
    for call in inferred.program.calls:
        if id(call) in live:
            continue
        inferred.dead.append(call)
        if call.op.rpartition(".")[0] in _ANY_SIZE:
            axes = axes_of(call.inputs()[0], inferred, of_state)
            same = [value for value in call.results() if value.shape == call.inputs()[0].shape]
            inferred.axes.update((value.index, axes) for value in same)
            continue
        if call.op == "aten.select.int" and call.args[2] in (0, -1):  # there is a first and a last one of any number
            axes = axes_of(call.args[0], inferred, of_state)
            dim = call.args[1] % len(axes)
            inferred.axes[call.results()[0].index] = (*axes[:dim], *axes[dim + 1 :])
            continue
        found = _apply(call, inferred, of_state).axes
        inferred.axes.update((value.index, axes) for value, axes in zip(call.results(), found, strict=True))
    facts.equations += inferred.facts.equations
    facts.equal_counts += inferred.facts.equal_counts
    facts.at_least_two += inferred.facts.at_least_two
    facts.divisible += inferred.facts.divisible
    facts.even_strides += inferred.facts.even_strides
    for path, found_axes in inferred.facts.replaced_modules.items():
        facts.replaced_modules.setdefault(path, []).extend(found_axes)
    inferred.facts = facts


def _carry_over(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> None:
    """What forward assigns to a buffer or attribute is what it finds there in the next call: the same axes.

    A hook that computes a weight before each call does so, and a moving average that is no in-place update.
    """
    read = {value.index for call in inferred.calls for value in call.inputs()}
    for name, value in inferred.program.rewritten.items():
        if name not in of_state:
            continue
        reason = Reason(f"{name} is assigned anew in forward")
        before, after = of_state[name], axes_of(value, inferred, of_state)
        if [axis.size for axis in before] == [axis.size for axis in after]:
            for old, new in zip(before, after, strict=True):
                unify(old, new, reason)
        else:
            stale = inferred.program.state[name].index not in read
            for axis in before if stale else (*before, *after):
                freeze(axis, reason)


def _unread(inferred: Inferred) -> frozenset[int]:
    """The results nobody looks at: attention weights that are computed by default, positions beside a maximum, and what
    is only asked for its shape. Where a trace ended early nobody knows what is read next."""
    program = inferred.program
    if program.failure is not None:
        return frozenset()
    reading = (call for call in inferred.calls if not call.op.split(".")[1].endswith("_like"))
    read = {value.index for call in reading for value in call.inputs()}
    read.update(value.index for value in (*program.outputs, *program.carried, *program.rewritten.values()))
    return frozenset(value.index for call in inferred.calls for value in call.results()) - read


def infer_alone(program: Program, call: Call) -> Inferred:
    """One call by itself, with every dimension of its operands free: what the op alone ties together."""
    alone = Inferred(program, [call])
    for value in call.inputs():
        alone.axes[value.index] = tuple(Fixed(1) if size == 1 else Free(size) for size in value.shape)
    outcome = _apply(call, alone, {})
    for value, axes in zip(call.results(), outcome.axes, strict=True):
        alone.axes[value.index] = axes
    return alone


def axes_of(value: Value, inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> tuple[Axis, ...]:
    """The axes of a value: those of the model's tensor, those a rule gave, or Fixed for what came from outside."""
    found = inferred.axes.get(value.index)
    if found is None:
        state = of_state.get(value.name) if value.kind == "state" else None
        # In a second trace with a doubled batch, nothing on the model has another shape.
        found = state if state is not None else tuple(Fixed(size) for size in value.shape)
        inferred.axes[value.index] = found
    return found


def _apply(call: Call, inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> Outcome:
    schema = getattr(call.function, "_schema", None)
    arguments = schema.arguments if schema is not None else ()
    names = _names(call.function)

    def convert(item: Any) -> Any:
        if isinstance(item, Value):
            return Operand(item.index, axes_of(item, inferred, of_state), item.name, item.dtype, call, item.strides)
        if isinstance(item, list):
            return [convert(child) for child in item]
        return item

    bound = {name: convert(item) for name, item in zip(names, call.args, strict=False)}
    bound.update({name: convert(item) for name, item in call.kwargs.items()})
    shapes = [value.shape for value in values_in(call.outputs)]
    training = inferred.program.mode == "train"
    unread = frozenset(n for n, value in enumerate(values_in(call.outputs)) if value.index in inferred.unread)
    op = OpCall(call.op, arguments, bound, shapes, call.where, call.origin, inferred.facts, training, unread)
    rule = find_rule(call.op)
    if rule is None and is_pointwise(call.function):
        rule = elementwise
    outcome = _unknown(op, inferred) if rule is None else rule(op)
    check_outcome(op, outcome)
    write_to_out(op, outcome)
    return outcome


def _unknown(op: OpCall, inferred: Inferred) -> Outcome:
    """An op without a rule freezes every axis that enters it. It is never treated as elementwise."""
    inferred.unruled.setdefault(op.op, op.where)
    for operand in op.tensors():
        op.freeze_all(operand, "op without a rule (add one with torch_pruning.register_rule)")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes), zero=NOWHERE)


@cache
def _names(function: Any) -> tuple[str, ...]:
    if isinstance(function, torch._ops.OpOverload):
        return tuple(argument.name for argument in function._schema.arguments)
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ("self",)
