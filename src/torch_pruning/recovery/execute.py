"""The one entry: carry out a plan and restore what can be restored from calibration inputs, or leave all as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import Graph
from torch_pruning.planning import execute as planning
from torch_pruning.planning.check import traced_anew
from torch_pruning.planning.plan import Plan
from torch_pruning.recovery.apply import undone_on_error, write
from torch_pruning.recovery.calibration import as_batches
from torch_pruning.recovery.heads import MatchedHeads, match_heads, turned_tensors
from torch_pruning.recovery.normalisation import reestimate_batch_norm
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.outputs import Turn
from torch_pruning.recovery.reconstruct import Reconstruction, Solved
from torch_pruning.recovery.scores import Source, find_scores
from torch_pruning.recovery.targets import dense_targets
from torch_pruning.recovery.weights import Refused, Solvable, losing_inputs, solvable_weights


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was done: weights solved for, in the order of the forward pass; queries and keys whose head dims were
    combined; weights left alone; batch norms taken anew."""

    method: str
    solved: tuple[Solved, ...] = ()
    heads: tuple[MatchedHeads, ...] = ()
    refused: tuple[Refused, ...] = ()
    batch_norms: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()  # layers that had none and got one

    def summary(self) -> str:
        """One line per weight: the share of its outputs' variance that was wrong before and after."""
        lines = [f"{row.query} x {row.key}: {row.before:.2%} -> {row.after:.2%} of the scores" for row in self.heads]
        lines += [f"{row.weight}: {row.before:.2%} -> {row.after:.2%} of the outputs' variance" for row in self.solved]
        lines += [f"{row.name}: left alone, {row.reason}" for row in self.refused]
        lines += [f"{path}: has a bias now" for path in self.biases]
        if self.batch_norms:
            lines.append(f"batch norm statistics of {len(self.batch_norms)} layers")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def execute(
    plan: Plan, calibration: Iterable[Any], *, method: str = "least_squares", optimizer: Any = None, **options: Any
) -> RecoveryReport:
    """Carry out the plan, then recover by "none", "batch_norm", "mean" or "least_squares"; see `Options`.

    `calibration`: batches as the example inputs are given; a few hundred samples, no labels. All or nothing: after any
    failure the model is as it was.

    Raises:
        StalePlanError: if the plan has no graph (one read from a file), or is not for the model as it is now.
        CalibrationError: for batches that are not like the example.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> plan = tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5)
    >>> [row.weight for row in execute(plan, [torch.randn(64, 4)]).solved]
    ['2.weight']
    """
    chosen = Options(method=method, **options)
    if plan.graph is None:
        raise StalePlanError("recovery needs the graph that the plan was made from; found a plan without: plan again")
    graph = plan.graph
    plan.fits(graph.model)
    batches = as_batches(calibration, graph.example.inputs)
    losing = losing_inputs(graph, plan)
    found, refused = solvable_weights(graph, losing)
    # Outputs that stay in one lane and go in another have no order that the dense outputs could be brought into.
    wanted = _wanted({n: w for n, w in found.items() if n in losing or n not in plan.blocks}, chosen)
    turns, heads, unmatched = _turns(graph, plan, batches, chosen)
    by_name = {source.weight: some for source, some in turns.items()}
    targets = dense_targets(graph, plan, batches, wanted, chosen, by_name) if wanted else None
    turned = turned_tensors(graph.model, plan, turns)
    report = RecoveryReport(method, heads=tuple(heads), refused=(*(refused if chosen.solves else ()), *unmatched))

    created: dict[str, int] = {}

    def recover(model: nn.Module) -> None:
        nonlocal report
        with undone_on_error(model) as writer:
            for name, tensor in turned.items():
                writer.put(name, tensor)
            if targets is not None:
                solved = Reconstruction(model, graph, targets, wanted, chosen).solve(batches)
                write(writer, solved, wanted, graph, optimizer)
                report = replace(report, solved=tuple(solved.values()), biases=tuple(writer.created))
                created.update(writer.created)
            if chosen.measures_batch_norm:
                names = reestimate_batch_norm(model, batches, example=graph.example)
                report = replace(report, batch_norms=tuple(names))

    planning.execute(plan, None, optimizer, check=True, then=recover)
    plan.biases.update(created)
    return report


def _turns(
    graph: Graph, plan: Plan, batches: Sequence[Any], options: Options
) -> tuple[dict[Source, list[Turn]], list[MatchedHeads], list[Refused]]:
    """How queries and keys that lose head dims are combined, what comes of it, and where they are left as they are."""
    if options.method != "least_squares" or not options.scores:
        return {}, [], []
    inferred = traced_anew(plan, graph, graph.model) if graph.executed else graph.programs[0]
    found, unmatched = find_scores(inferred, plan)
    turns, heads = match_heads(graph, plan, found, batches, options)
    return turns, heads, [Refused(row.where, f"its scores lose head dims, and {row.reason}") for row in unmatched]


def _wanted(found: Mapping[str, Solvable], options: Options) -> dict[str, Solvable]:
    """The weights to solve for: those whose inputs lose units, and for "all" every other one."""
    if not options.solves or not any(weight.changed for weight in found.values()):
        return {}
    chosen = {n: w for n, w in found.items() if w.changed or options.layers == "all"}
    if not options.streams:  # a term that is judged alone knows nothing of what becomes of the sum
        chosen = {n: replace(w, added=False, limits=None) if w.added else w for n, w in chosen.items()}
    if not options.clamps or options.method == "mean":
        chosen = {n: replace(w, limits=None) for n, w in chosen.items()}
    return chosen if options.may_add_biases else {n: replace(w, module=None) for n, w in chosen.items()}


def reconstruct(plan: Plan, calibration: Iterable[Any], *, optimizer: Any = None, **options: Any) -> RecoveryReport:
    """As `execute` by least squares: carry out the plan, then solve for the weights behind what is gone.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> report = reconstruct(tp.plan(net, torch.randn(1, 4), pruning_ratio=0.25), [torch.randn(64, 4)])
    >>> report.solved[0].after < 1e-4  # six of eight channels span what four inputs can give
    True
    """
    return execute(plan, calibration, method="least_squares", optimizer=optimizer, **options)


def compensate_mean(plan: Plan, calibration: Iterable[Any], *, optimizer: Any = None, **options: Any) -> RecoveryReport:
    """As `execute` by means: carry out the plan, then give the biases behind what is gone what it contributed on
    average.

    Exact for units that are constant. Layers without a bias, torch's own, get one.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2, bias=False))
    >>> plan = tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5)
    >>> [row.weight for row in compensate_mean(plan, [torch.randn(64, 4)]).solved], net[2].bias.shape
    (['2.weight'], torch.Size([2]))
    """
    return execute(plan, calibration, method="mean", optimizer=optimizer, **options)
