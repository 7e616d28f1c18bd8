"""Carrying a plan out: compute everything, swap everything in, check, or put everything back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.errors import CheckError, StalePlanError
from torch_pruning.graph.graph import Executed, Graph
from torch_pruning.graph.repair import Repair, Target
from torch_pruning.planning.check import check_run, traced_anew
from torch_pruning.planning.plan import Plan, counts_of
from torch_pruning.planning.stale import watch_optimizers
from torch_pruning.planning.surgery import Surgery
from torch_pruning.trace.substitute import named_tensors


def execute(
    plan: Plan,
    model: nn.Module | None,
    optimizer: Any,
    check: bool,
    then: Callable[[nn.Module], None] | None = None,
) -> int:
    """Prune in place; see `Plan.exec`. `then` is called on the pruned model; if it fails, that too is undone here."""
    target, own = _target(plan, model)
    surgery = Surgery(plan, target, optimizer)
    try:
        surgery.apply()
        if check:
            _check(surgery, plan, target)
        if then is not None:
            then(target)
    except BaseException:
        surgery.undo()
        raise
    if own:
        _follow(plan)
    if optimizer is None:
        before = (lambda name: name) if plan.depth is None else plan.depth.original_name
        tensors = named_tensors(target)
        watch_optimizers({n: t for n, t in tensors if before(n) in plan.shapes and isinstance(t, nn.Parameter)})
    return plan.parameters_removed


def trial(plan: Plan, model: nn.Module | None) -> None:
    """Prune, check, and put everything back; see `Plan.check`."""
    target, _ = _target(plan, model)
    surgery = Surgery(plan, target, None)
    try:
        surgery.apply()
        _check(surgery, plan, target)
    finally:
        surgery.undo()


def _check(surgery: Surgery, plan: Plan, target: nn.Module) -> None:
    """A plan that takes blocks out is compared with the graph that was made without them."""
    predicted = plan.shorter or plan
    if predicted.graph is None:
        return
    if plan.depth is None:
        _checked(surgery, plan, predicted.graph, target)
    else:
        check_run(predicted, predicted.graph, target)


def _checked(surgery: Surgery, plan: Plan, graph: Graph, model: nn.Module) -> None:
    """Check the pruned model against the recorded trace or, where it differs, against one of the model as it is now.

    A model may keep what it computed in a run after the trace (anchors, masks), and go another way from then on.
    """
    try:
        check_run(plan, graph, model)
    except CheckError as error:
        surgery.undo()
        inferred = traced_anew(plan, graph, model)
        if [call.op for call in inferred.program.calls] == [call.op for call in graph.programs[0].program.calls]:
            raise error
        surgery.apply()
        check_run(plan, graph, model, inferred)


def _follow(plan: Plan) -> None:
    """The graph of the model as it is now advances; one that knows removed blocks is of no use any more."""
    now = plan.shorter or plan
    if plan.depth is not None and plan.graph is not None:
        plan.graph.outdated = True
    if now.graph is not None and now.choice is not None:
        _advance(now)


def _target(plan: Plan, model: nn.Module | None) -> tuple[nn.Module, bool]:
    own = plan.graph.model if plan.graph is not None else None
    target = model if model is not None else own
    if target is None:
        raise StalePlanError("a plan read from a file needs the model to prune: plan.exec(model=...)")
    plan.fits(target)
    return target, target is own


def _advance(plan: Plan) -> None:
    """The graph follows: its axes shrink, so that the next plan is in the model's new coordinates."""
    assert plan.graph is not None
    assert plan.choice is not None
    graph = plan.graph
    for change in plan.changes:
        if change.source in graph.constraints.attribute_values:
            graph.constraints.attribute_values[change.source] = int(change.new)
        elif isinstance(change.old, float):
            _renumber(graph, change.source.module, change.old, change.new)
    counts = counts_of(plan.choice)
    graph.executed.append(Executed(plan.choice, {axis: axis.size for axis in counts}))
    for axis, count in counts.items():
        assert isinstance(axis, Free)
        axis.shrink(count)
    graph.repairs = [_moved(repair, plan) for repair in graph.repairs]


def _renumber(graph: Graph, module: str, old: float, new: float) -> None:
    now = graph.numbers.items()
    traced = next((number for (path, number), current in now if path == module and current == old), old)
    graph.numbers[module, traced] = new


def _moved(repair: Repair, plan: Plan) -> Repair:
    """The same repair in the coordinates after surgery."""
    targets = set()
    for target in repair.targets:
        kept = plan.kept.get(target.tensor, {}).get(target.dim)
        positions = set(target.positions)
        moved = target.positions if kept is None else tuple(i for i, old in enumerate(kept) if old in positions)
        targets.add(Target(target.tensor, target.dim, moved))
    return replace(repair, targets=frozenset(targets))
