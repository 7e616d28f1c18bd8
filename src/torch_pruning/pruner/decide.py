"""`plan` and `prune`: one call from a budget to a plan, or to a smaller model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.ignored import Ignored, ignored_axes
from torch_pruning.importance.base import resolve_importance
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.pruner.allot import Rounding, admissible_steps, choose_units, keeping_guards, movable, uniform_counts
from torch_pruning.pruner.budget import Budget, meet_budget
from torch_pruning.pruner.report import PruneReport
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example


def plan(
    model: nn.Module | Graph,
    example_inputs: Any = None,
    *,
    pruning_ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    importance: Any = "magnitude",
    scope: str = "local",
    round_to: int = 1,
    ignore: Iterable[Ignored] = (),
    exact_only: bool = False,
    follow: str = "head_dims",
    seed: int = 0,
    unused: str = "freeze",
) -> Plan:
    """Decide what goes; nothing is touched. One budget: `pruning_ratio` (the share of units to remove), `macs` or
    `params` (at most 1: the share to keep; above: an absolute number, of one sample).

    `example_inputs`: a tensor, a tuple of positional or a dict of keyword arguments; a `Graph` needs none.
    `importance`: "magnitude", "l1", "random", or a function of a group that returns [units] scores.
    `round_to`: kept counts are multiples of it. `ignore`: modules, parameter names or patterns ("head.*") whose
    produced axes stay. `exact_only`: leave groups alone whose removal is not the same as zeroing. `follow`: what gives
    way where the code ties a width to heads x head dim, "head_dims" or "heads". `unused`: parameters that never ran
    "freeze" what they could read; "ignore" is your word that they never will.

    Raises:
        ValueError: for no or several budgets, or values out of range.
        BudgetError: for a budget that cannot be met; the message gives the closest reachable value.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> print(tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5))
    0: 8 -> 4
    parameters 58 -> 30
    MACs       48 -> 24
    """
    budget = _one_budget(pruning_ratio, macs, params)
    if scope != "local":
        raise ValueError(f"scope must be 'local', found {scope!r}")
    graph = model if isinstance(model, Graph) else build_graph(model, [Example(example_inputs)], unused)
    rounding = Rounding(_positive("round_to", round_to))
    clusters = [
        (cluster, admissible_steps(cluster, graph, rounding))
        for cluster in movable(graph, ignored_axes(graph, ignore), exact_only, follow)
    ]
    if budget.kind == "ratio":
        counts = keeping_guards(graph, uniform_counts(clusters, budget.value))
    else:
        attribute = "macs" if budget.kind == "macs" else "parameters"
        dense = getattr(graph.cost(), attribute)
        target = budget.value * dense if budget.value <= 1 else budget.value

        def cost(counts: dict[Free, int]) -> float:
            return float(getattr(graph.cost(keeping_guards(graph, counts)), attribute))

        counts = keeping_guards(graph, meet_budget(clusters, cost, target, attribute))
    tensors = dict(named_tensors(graph.model))
    choice = choose_units(graph, counts, resolve_importance(importance, seed), tensors)
    return build_plan(graph, choice)


def prune(model: nn.Module, example_inputs: Any, *, optimizer: Any = None, **options: Any) -> PruneReport:
    """Plan and carry out, in place; the report prints a before/after table. Options are those of `plan`.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> tp.prune(net, torch.randn(1, 4), params=0.6).after.parameters
    30
    """
    chosen = plan(model, example_inputs, **options)
    chosen.exec(optimizer)
    return PruneReport(chosen)


def _one_budget(ratio: float | None, macs: float | None, params: float | None) -> Budget:
    given = {kind: value for kind, value in (("ratio", ratio), ("macs", macs), ("params", params)) if value is not None}
    if len(given) != 1:
        raise ValueError(f"exactly one of pruning_ratio, macs and params is needed, found {sorted(given) or 'none'}")
    ((kind, value),) = given.items()
    if not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"a budget must be a number, found {value!r}")
    if kind == "ratio" and not 0 <= value < 1:
        raise ValueError(f"pruning_ratio is the share of units to remove, at least 0 and below 1; found {value}")
    if kind != "ratio" and value <= 0:
        raise ValueError(f"{kind} must be positive: at most 1 is a share to keep, above 1 a number; found {value}")
    return Budget(kind, float(value))


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, found {value!r}")
    return value
