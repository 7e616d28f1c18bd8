"""The pruned model, run on fake tensors: every size and the sequence of ops must be as predicted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from torch_pruning.axes.expression import Axis
from torch_pruning.errors import CheckError
from torch_pruning.graph.counts import Counts, size_under
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.planning.plan import Plan, counts_of
from torch_pruning.trace.program import Call
from torch_pruning.trace.tracer import trace


def check_run(plan: Plan, graph: Graph, model: nn.Module) -> None:
    """Run the model as it is now and compare with what the plan predicts.

    Raises:
        CheckError: for the first op that differs, with both sizes, the module and the source line.
    """
    inferred = graph.programs[0]
    counts = counts_of(plan.choice or {})
    try:
        found = trace(model, graph.example, inferred.program.mode)
    except Exception as error:
        raise CheckError(f"the pruned model does not run: {type(error).__name__}: {error}") from error
    if found.failure is not None and inferred.program.failure is None:
        raise CheckError(
            f"the pruned model does not run: {type(found.failure).__name__}: {found.failure}"
        ) from found.failure
    repaired = {repair.where for repair in graph.repairs}
    # In a run on real data a number may come from the data, and training changes it.
    numbers = plan.exact and inferred.program.kind == found.kind == "fake"
    expected_calls = _outside(inferred.program.calls, graph, plan)
    found_calls = _outside(found.calls, graph, plan)
    for expected, actual in zip(expected_calls, found_calls, strict=False):
        if expected.op != actual.op:
            raise CheckError(
                f"the pruned model takes another path: {expected.op} was expected at {expected.where}, "
                f"found {actual.op} at {actual.where}; a size steers the code there"
            )
        if numbers and str(expected.where) not in repaired and _floats(actual) != _written(expected, plan):
            raise CheckError(
                f"{expected.op} at {expected.where} works with a number that changed from {_floats(expected)} to "
                f"{_floats(actual)}: a size goes into it that the trace did not see; pruning there is not exact"
            )
        _compare(expected, actual, inferred, graph.axes, counts)
    if len(expected_calls) != len(found_calls):
        raise CheckError(
            f"the pruned model runs {len(found_calls)} ops, expected {len(expected_calls)}: a loop depends on a size"
        )


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
) -> None:
    for value, other in zip(expected.results(), actual.results(), strict=True):
        if value.index not in inferred.axes:
            continue  # not live
        predicted = tuple(size_under(axis, counts) for axis in axes_of(value, inferred, of_state))
        if predicted != other.shape:
            raise CheckError(
                f"{expected.op} at {expected.where} must give {list(predicted)} after pruning, found "
                f"{list(other.shape)}: "
                "a size there has a source that the trace did not see"
            )


def _floats(call: Call) -> list[float]:
    """The numbers an op was given, other than sizes."""
    return [item for item in (*call.args, *call.kwargs.values()) if isinstance(item, float)]


def _written(call: Call, plan: Plan) -> list[float]:
    """The numbers as surgery has written them: a float attribute that the plan scales is scaled where it is used."""
    here = [change for change in plan.changes if change.source.module == call.where.module]
    new = {change.old: change.new for change in here if isinstance(change.old, float)}
    return [new.get(number, number) for number in _floats(call)]
