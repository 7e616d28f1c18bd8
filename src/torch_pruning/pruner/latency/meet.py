"""Meeting a latency budget: predict, prune a copy, measure it, set the prediction right, and again."""

from __future__ import annotations

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Latency, Plan
from torch_pruning.pruner.allot import best_units
from torch_pruning.pruner.budget import Target
from torch_pruning.pruner.decide import Start, allot, candidates_of, scores_of
from torch_pruning.pruner.latency.model import LatencyModel
from torch_pruning.pruner.options import Options

_ROUNDS = 4
_CLOSE = 0.03  # a measurement this near to the budget ends the search: repeated ones differ by as much


def meet_latency(graph: Graph, options: Options, start: Start | None = None) -> Plan:
    """The plan whose measured time is nearest to the budget, of those tried; it says what was predicted and measured.

    Each round asks for the budget by the prediction that the measurements so far have set right, and measures a copy
    of the model that is pruned so.

    Raises:
        BudgetError: with the lowest reachable time, if that is above the budget.
    """
    clusters, parts = candidates_of(graph, options)
    scores = scores_of(graph, clusters, options)
    model = LatencyModel(graph, clusters)
    limit = options.budget.target(model.dense_ms if start is None else start.costs["latency"])
    best: Plan | None = None
    for _ in range(_ROUNDS):
        counts = allot(graph, clusters, scores, parts, options, start, Target(model, limit, "latency", "ms"))
        choice = best_units(graph, counts, scores)
        predicted = float(model(model.steps_of(counts)[None]))
        measured = model.measure(choice)
        plan = build_plan(graph, choice)
        plan.latency = Latency(model.dense_ms, predicted, measured)
        if best is None or _miss(plan, limit) < _miss(best, limit):
            best = plan
        if _miss(best, limit) <= _CLOSE or not plan.groups:
            break
        model.calibrate(counts, measured)
    assert best is not None
    return best


def _miss(plan: Plan, limit: float) -> float:
    """How far the measured time is from the budget, as a share of it."""
    assert plan.latency is not None
    return abs(plan.latency.measured / limit - 1)
