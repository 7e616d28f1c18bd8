"""The pruned model, run on fake tensors: every size and the sequence of ops must be as predicted."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

from torch import nn

from torch_pruning.axes.expression import Axis, Fixed, Free, Product, leaves, resolve
from torch_pruning.errors import CheckError, StalePlanError
from torch_pruning.graph.counts import Counts, size_under
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import Inferred, axes_of, infer
from torch_pruning.planning.arguments import contents_of, numbers_of, positions_of, same_sizes, written
from torch_pruning.planning.plan import Plan, counts_of
from torch_pruning.trace.program import Call, Program, turns
from torch_pruning.trace.tracer import trace


def check_run(plan: Plan, graph: Graph, model: nn.Module, inferred: Inferred | None = None) -> None:
    """Run the model as it is now and compare with what the plan predicts, from the trace that was recorded or another.

    Raises:
        CheckError: for the first op that differs, with both sizes, the module and the source line.
    """
    inferred = inferred or graph.programs[0]
    try:
        _check_run(plan, graph, model, inferred)
    except _DifferenceError as difference:
        axes = _pruned_at(difference.call, inferred, graph, plan)
        raise CheckError(str(difference), axes) from None
    except CheckError as crash:
        call = None if crash.__cause__ is None else _call_at(crash.__cause__, inferred)
        if call is None:
            raise
        raise CheckError(str(crash), _pruned_at(call, inferred, graph, plan)) from crash.__cause__


class _DifferenceError(CheckError):
    """The first op that differs."""

    def __init__(self, message: str, call: Call) -> None:
        super().__init__(message)
        self.call = call


def _call_at(error: BaseException, inferred: Inferred) -> Call | None:
    """The first call recorded at the innermost line of the traceback at which any was."""
    calls: dict[tuple[str, int], Call] = {}
    for call in inferred.calls:
        calls.setdefault((call.where.file, call.where.line), call)
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return next((calls[place] for place in reversed(frames) if place in calls), None)


def _pruned_at(call: Call, inferred: Inferred, graph: Graph, plan: Plan) -> list[Free]:
    """The axes that the plan prunes and that an op reads or makes, or at least its module holds."""
    chosen = plan.choice or {}
    values = [axes_of(value, inferred, graph.axes) for value in (*call.inputs(), *call.results())]
    prefix = f"{call.where.module}."
    held = [axes for name, axes in graph.axes.items() if name.startswith(prefix)]
    for tensors in (values, held):
        found = dict.fromkeys(leaf for axes in tensors for axis in axes for leaf in leaves(axis) if leaf in chosen)
        if found:
            return list(found)
    return []


def _check_run(plan: Plan, graph: Graph, model: nn.Module, inferred: Inferred) -> None:
    counts = counts_of(plan.choice or {})
    found = _run(graph, model, inferred.program)
    # In a run on real data a number may come from the data, and training changes it.
    numbers = plan.exact and inferred.program.kind == found.kind == "fake"
    expected_calls = _outside(inferred.program.calls, graph, plan)
    found_calls = _outside(found.calls, graph, plan)
    if found.kind != "fake" and [call.op for call in expected_calls] != [call.op for call in found_calls]:
        _compare_by_place(expected_calls, found_calls, inferred, graph.axes, counts)
        return
    repaired = {id(call) for turn, call in turns(inferred.program.calls) if turn in graph.repaired}
    for expected, actual in zip(expected_calls, found_calls, strict=False):
        if expected.op != actual.op:
            raise _DifferenceError(
                f"the pruned model takes another path: {expected.op} was expected at {expected.where}, "
                f"found {actual.op} at {actual.where}; a size steers the code there",
                expected,
            )
        if numbers and id(expected) not in repaired:
            _compare_numbers(expected, actual, plan, graph)
        _compare(expected, actual, inferred, graph.axes, counts, real=found.kind != "fake")
    if len(expected_calls) != len(found_calls):
        last = expected_calls[min(len(expected_calls), len(found_calls)) - 1]
        raise _DifferenceError(
            f"the pruned model runs {len(found_calls)} ops, expected {len(expected_calls)}: a loop depends on a size",
            last,
        )


def _compare_numbers(expected: Call, actual: Call, plan: Plan, graph: Graph) -> None:
    """Nothing but tensors and sizes may differ: a size that became a number where the trace could not see it does."""
    looks = (
        ("a number", lambda call: written(call, plan, graph) if call is expected else numbers_of(call)),
        ("a tensor from outside of the model", contents_of),
        ("a position in what is not pruned", positions_of if same_sizes(expected, actual) else lambda call: []),
    )
    for text, look in looks:
        before, after = look(expected), look(actual)
        if before != after:
            raise _DifferenceError(
                f"{expected.op} at {expected.where} works with {text} that changed from {before} to {after}: "
                "a size goes into it that the trace did not see; pruning there is not exact "
                "(1 / n is seen where 1.0 / n is not; ignore= leaves the layer alone)",
                expected,
            )


def traced_anew(plan: Plan, graph: Graph, model: nn.Module) -> Inferred:
    """The axes of a run of the unpruned model as it is now: what it keeps from earlier runs may lead it another way.

    Raises:
        StalePlanError: if this run ties or freezes what the plan removes.
    """
    program = _run(graph, model, graph.programs[0].program)
    known = {
        name: axes
        for name, axes in graph.axes.items()
        if name in program.state and program.state[name].shape == tuple(axis.size for axis in axes)
    }
    inferred = infer(program, known)
    for axis in plan.choice or {}:
        if axis.bound is not None or axis.reason is not None:
            raise StalePlanError(
                "the model must run as when the plan was made; it keeps something from a run since then that "
                f"needs {axis.name} as it is ({axis.reason or 'it has become part of another axis'}): build the graph "
                "and plan again"
            )
    return inferred


def _run(graph: Graph, model: nn.Module, recorded: Program) -> Program:
    try:
        found = trace(model, graph.example, recorded.mode)
    except Exception as error:
        raise CheckError(f"the pruned model does not run: {type(error).__name__}: {error}") from error
    if found.failure is not None and recorded.failure is None:
        raise CheckError(
            f"the pruned model does not run: {type(found.failure).__name__}: {found.failure}"
        ) from found.failure
    return found


def _outside(calls: list[Call], graph: Graph, plan: Plan) -> list[Call]:
    """The calls outside the layers that surgery replaces, without those that only copy for the sake of layout."""
    replaced = graph.attention_layers | set(plan.replaced)
    return [
        call
        for call in calls
        if call.where.module not in replaced
        and not _inside(call.where.module, replaced)
        # Not dispatched at all for a tensor that is contiguous already, which a dimension of one unit may make it.
        and call.op != "aten.contiguous.default"
    ]


def _inside(module: str, replaced: frozenset[str]) -> bool:
    return any(module.startswith(f"{path}.") for path in replaced)


def _compare(
    expected: Call,
    actual: Call,
    inferred: Inferred,
    of_state: Mapping[str, tuple[Axis, ...]],
    counts: Counts,
    real: bool = False,
) -> None:
    if real and len(expected.results()) != len(actual.results()):
        return  # taken apart, one result for each of what the data say
    for value, other in zip(expected.results(), actual.results(), strict=True):
        if value.index in inferred.axes and not _fits(
            axes_of(value, inferred, of_state), value.shape, other.shape, counts, real
        ):
            predicted = [size_under(axis, counts) for axis in axes_of(value, inferred, of_state)]
            raise _DifferenceError(
                f"{expected.op} at {expected.where} must give {predicted} after pruning, found {list(other.shape)}: "
                "a size there has a source that the trace did not see",
                expected,
            )


def _fits(axes: Sequence[Axis], before: Sequence[int], found: Sequence[int], counts: Counts, real: bool) -> bool:
    """Whether sizes are as predicted. In a run on real data some may come from the data, and be others now."""
    predicted = [size_under(axis, counts) for axis in axes]
    return len(predicted) == len(found) and all(
        size == other or (real and _may_come_from_data(axis, size == old))
        for axis, size, old, other in zip(axes, predicted, before, found, strict=True)
    )


def _may_come_from_data(axis: Axis, unpruned: bool) -> bool:
    """Whether nothing on the model has this size, as with the tokens that an expert gets; or only rows of a table that
    stays, as many as a model predicts frames; or whether units of the model are among rows."""
    if all(leaf.reason is not None and (leaf.temporary or leaf.depth) for leaf in leaves(axis)):
        return unpruned
    return _has_rows(axis)


def _has_rows(axis: Axis) -> bool:
    """Whether units of the model are flattened together with something that is not its own, as rows of data are."""
    axis = resolve(axis)
    return isinstance(axis, Product) and any(isinstance(factor, Fixed) for factor in axis.factors)


def _compare_by_place(
    expected: Sequence[Call],
    found: Sequence[Call],
    inferred: Inferred,
    of_state: Mapping[str, tuple[Axis, ...]],
    counts: Counts,
) -> None:
    """For runs on real data, which steer the code (which experts get a token): every op must give what it gave, at this
    line, at one of its turns.

    Raises:
        CheckError: for an op whose sizes fit none of them.
    """
    of_place: dict[tuple[str, str], list[Call]] = {}
    for call in expected:
        of_place.setdefault((call.op, str(call.where)), []).append(call)
    for call in found:
        turns = of_place.get((call.op, str(call.where)), [])
        errors = []
        for turn in turns:
            try:
                _compare(turn, call, inferred, of_state, counts, real=True)
                break
            except CheckError as error:
                errors.append(error)
        else:
            if errors:
                raise errors[0]
