"""`plan` and `prune`: one call from a budget to a plan, or to a smaller model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.ignored import Ignored, matched_names
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.settled import carried_out
from torch_pruning.pruner.budget import KINDS
from torch_pruning.pruner.decide import Start, decide
from torch_pruning.pruner.depth import BlockScore, DepthOptions, plan_depth
from torch_pruning.pruner.latency.clock import device_of, model_milliseconds
from torch_pruning.pruner.latency.meet import meet_latency
from torch_pruning.pruner.options import Options, Ratios, one_budget
from torch_pruning.pruner.report import PruneReport
from torch_pruning.recovery.calibration import read_once
from torch_pruning.recovery.execute import RecoveryReport, execute
from torch_pruning.recovery.options import Options as RecoveryOptions
from torch_pruning.recovery.selection import with_calibration
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example


def plan(
    model: nn.Module | Graph,
    example_inputs: Any = None,
    *,
    pruning_ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    memory: float | None = None,
    latency: float | None = None,
    importance: Any = "magnitude",
    scope: str = "local",
    ratios: Ratios | None = None,
    head_ratio: float | Ratios = 0.0,
    head_dim_ratio: float | None = None,
    round_to: int = 1,
    minimum: int = 1,
    max_pruning_ratio: float = 1.0,
    ignore: Iterable[Ignored] = (),
    exact_only: bool = False,
    follow: str = "head_dims",
    seed: int = 0,
    unused: str = "freeze",
    depth: int | float | None = None,
    block_importance: BlockScore = "influence",
    calibration: Iterable[Any] | None = None,
) -> Plan:
    """Decide what goes; nothing is touched. One budget is given: `pruning_ratio`, the share of units to remove, or what
    the result may cost: at most 1 is the share to keep, above an absolute number. With `depth` there may be none.

    Args:
        model: the model, or a `Graph`, which needs no example.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments.
        macs: multiply-accumulates of one sample.
        params: elements of all parameters.
        memory: bytes of the parameters and, at their peak, of the activations of the example in evaluation mode.
        latency: milliseconds of one run of the example in evaluation mode, on the device and with the number of threads
            at hand. Times of ops are measured, kept in a cache folder (TORCH_PRUNING_CACHE), and set right by
            measuring pruned copies of the model.
        importance: "magnitude", "l1", "random", "reconstruction" (needs `calibration`), another criterion of
            `torch_pruning.importance`, or a function of a group that gives [units] scores.
        scope: who is compared with whom. "local": every group loses the same share. "global": all units are ranked
            together. "isomorphic": those of groups of the same structure are. "cost": the most importance that the
            budget buys.
        ratios: shares of units to remove of what modules, parameters or patterns ("layer1.*") produce, whatever the
            budget says of the rest. A tuple of them shares one ranking; of keys that name one group the last counts.
        head_ratio: the share of attention heads to remove, or one for each of some modules. Heads move by this alone.
        head_dim_ratio: the share of head dims to remove; None: as channels.
        round_to: kept counts are multiples of it, in groups that have as many units; heads are not rounded.
        minimum: units that stay in every group.
        max_pruning_ratio: no group loses a larger share of its units.
        ignore: modules, parameters, names or patterns whose produced axes stay.
        exact_only: leave groups alone whose removal is not the same as zeroing.
        follow: what gives way where the code ties a width to heads x head dim, "head_dims" or "heads".
        seed: of random scores.
        unused: parameters that never ran "freeze" what they could read; "ignore" is your word that they never will.
        depth: whole residual blocks that go before anything else: their number, or below 1 the share of those that can.
            Costs stay shares of the whole model; in `ratios` and `head_ratio` modules are given, since names move.
        block_importance: "influence" (on `calibration`, or the example), "magnitude", or a function of a block's
            module; the lowest scores go.
        calibration: batches as the example inputs are given, no labels, for criteria that look at data.

    Raises:
        ValueError: for no or several budgets, values out of range, or names that match nothing.
        BudgetError: for a budget that cannot be met; the message gives the closest reachable value.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> print(tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5))
    0: 8 -> 4
    parameters 58 -> 30
    MACs       48 -> 24
    """
    given: dict[str, Any] = {
        "pruning_ratio": pruning_ratio,
        "macs": macs,
        "params": params,
        "memory": memory,
        "latency": latency,
        "importance": importance,
        "scope": scope,
        "ratios": ratios,
        "head_ratio": head_ratio,
        "head_dim_ratio": head_dim_ratio,
        "round_to": round_to,
        "minimum": minimum,
        "max_pruning_ratio": max_pruning_ratio,
        "ignore": ignore,
        "exact_only": exact_only,
        "follow": follow,
        "seed": seed,
    }
    graph = graph_of(model, example_inputs, unused)
    if depth is None:
        options = options_of(
            **{**given, "importance": with_calibration(importance, graph, calibration, _listed(ignore))}
        )
        return plan_of(graph, options)
    batches = None if calibration is None else list(calibration)
    blocks = DepthOptions(depth, block_importance, batches, _listed(ignore))
    return plan_depth(graph, blocks, _width(graph, given, batches), unused)


def graph_of(model: nn.Module | Graph, example_inputs: Any, unused: str) -> Graph:
    """The graph of a model that is run on its example; a graph is its own.

    Raises:
        TypeError: for a model without an example.
    """
    if isinstance(model, Graph):
        return model
    if example_inputs is None:
        raise TypeError(
            f"{type(model).__name__} must be run once to see how its layers hang together, and example_inputs is None: "
            "pass a tensor, a tuple of positional or a dict of keyword arguments, () for a model that takes nothing"
        )
    return build_graph(model, [Example(example_inputs)], unused)


def plan_of(graph: Graph, options: Options, start: Start | None = None) -> Plan:
    """The plan that meets the options. Shares refer to `start`, or to the model as it is."""
    if options.budget.kind == "latency":
        return meet_latency(graph, options, start)
    return build_plan(graph, decide(graph, options, start))


def _width(graph: Graph, given: dict[str, Any], batches: list[Any] | None) -> Callable[[Graph], Plan] | None:
    """What plans the widths of the model that has lost its blocks; None without a budget.

    Names and patterns of the whole model become its parameters, which stay themselves; costs are shares of all of it.

    Raises:
        ValueError: for names in ratios.
    """
    if all(given[kind] is None for kind in KINDS):
        return None
    keys = [key for name in ("ratios", "head_ratio") if isinstance(given[name], Mapping) for key in given[name]]
    named = [part for key in keys for part in (key if isinstance(key, tuple) else (key,)) if isinstance(part, str)]
    if named:
        raise ValueError(
            f"with depth, ratios must be given by modules or parameters, found the name {named[0]!r}: names of layers "
            "move when blocks go"
        )
    tensors = dict(named_tensors(graph.model))
    matched = [tensors[name] for name in matched_names(graph, _listed(given["ignore"]))]
    ignored = [tensor for tensor in matched if isinstance(tensor, nn.Parameter)]
    options = options_of(**{**given, "ignore": ignored})
    costs = dict(Start.of(graph).costs)
    if given["latency"] is not None:
        costs["latency"] = model_milliseconds(graph.model, graph.example, device_of(graph.model))

    def width(shorter: Graph) -> Plan:
        left = {id(parameter) for parameter in shorter.model.parameters()}
        kept = tuple(parameter for parameter in ignored if id(parameter) in left)
        now = replace(Start.of(shorter), costs=costs)
        importance = with_calibration(options.importance, shorter, batches, kept)
        found = plan_of(shorter, replace(options, ignore=kept, importance=importance), now)
        if found.latency is not None:
            found.latency = replace(found.latency, before=costs["latency"])
        return found

    return width


def _listed(ignore: Iterable[Ignored] | None) -> tuple[Ignored, ...]:
    if ignore is None:
        return ()
    return (ignore,) if isinstance(ignore, (str, nn.Module, nn.Parameter)) else tuple(ignore)


def options_of(**given: Any) -> Options:
    """The options from keyword arguments: one budget, and what `Options` has.

    Raises:
        ValueError: for no or several budgets, or values out of range.
        TypeError: for a keyword that is no option.
    """
    budget = one_budget(**{kind: given.pop(kind, None) for kind in KINDS})
    return Options(budget, ignore=_listed(given.pop("ignore", ())), **given)


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    optimizer: Any = None,
    calibration: Iterable[Any] | None = None,
    recovery: str = "least_squares",
    **options: Any,
) -> PruneReport:
    """Plan and carry out, in place; the report prints a before/after table. Options are those of `plan`.

    With `calibration`, batches as the example inputs are given and no labels, what is lost is then made up for as well
    as the remaining weights can: `recovery` is "least_squares", "mean", "batch_norm" or "none" (see
    `torch_pruning.recovery`).

    Where the model's code turns out to depend on a size in a way that the trace could not see, that size is left alone
    and the rest is planned again.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> tp.prune(net, torch.randn(1, 4), params=0.6).after.parameters
    30
    """
    batches = None if calibration is None else read_once(calibration)
    unused = options.pop("unused", "freeze")
    graph = graph_of(model, example_inputs, unused)
    chosen, report = carried_out(
        graph,
        lambda: plan(graph, calibration=batches, **options),
        lambda decided: recovered(decided, batches, recovery, optimizer),
    )
    return PruneReport(chosen, report)


def recovered(plan: Plan, batches: Iterable[Any] | None, method: str, optimizer: Any) -> RecoveryReport | None:
    """Carry a plan out; with calibration inputs, recover and say what came of it.

    Raises:
        ValueError: for an unknown method, and a plan that takes blocks out, unless the method is "none".
    """
    RecoveryOptions(method)
    if plan.depth is not None and batches is not None and method != "none":
        raise ValueError(
            f"recovery follows widths, and this plan takes blocks out; found recovery={method!r}: pass "
            "recovery='none', and plan widths with recovery in a call of their own"
        )
    if batches is not None and plan.depth is None:
        return execute(plan, batches, method=method, optimizer=optimizer)
    plan.exec(optimizer)
    return None
