"""One row of a table: everything that is measured of one model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from case import Built, Case
from embeddings import embedding_parameters, share_without_embeddings
from export import exports
from frozen import largest_frozen
from memory import peak_gb, reset_peak
from train import trains
from uninitialised import uninitialised

import torch_pruning as tp
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.pruner.allot import prunable_parameters, random_choice
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import copied

COLUMNS = [
    "model", "family", "status", "depth", "ops", "groups", "exact", "inexact", "frozen_dims", "parameters",
    "prunable_share", "embedding_parameters", "share_without_embeddings", "removed_exact", "error",
    "gradient_error", "train_error", "sensitivity", "removed_all", "forward", "trains", "exports", "trace_s",
    "plan_s", "surgery_s", "peak_gb", "note", "cause", "largest_frozen",
]  # fmt: skip

RATIO = 0.4
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What to do beyond tracing and planning; `executed` does not go beyond what the case itself allows."""

    executed: bool = True
    export: bool = False


def measure(case: Case, options: Options) -> Row:
    """The row of one case. What fails is a status and a cause, never an exception."""
    executed = case.executed and options.executed
    row: Row = {"model": case.name, "family": case.family, "depth": "executed" if executed else "traced"}
    row["note"] = case.note
    if case.skip:
        return row | {"status": "skipped", "cause": case.skip}
    reset_peak()
    try:
        built = _built(case, executed)
    except Exception as error:
        return row | {"status": "does not run", "cause": _cause(error)}
    row["note"] = "; ".join(filter(None, (case.note, built.note)))
    try:
        row["status"] = _measure(case, built, row, replace(options, executed=executed))
    except Exception as error:
        # What does not run unpruned is no failure of pruning.
        row |= {"status": "failed" if _runs(_built(case, executed)) else "does not run", "cause": _cause(error)}
    row["peak_gb"] = peak_gb()
    return row


def _built(case: Case, executed: bool) -> Built:
    torch.manual_seed(0)
    if executed:
        return case.build()
    with uninitialised():
        return case.build()


def _measure(case: Case, built: Built, row: Row, options: Options) -> str:
    with _seconds(row, "trace_s"):
        graph = tp.build_graph(built.model, built.examples)
    row |= _counted(graph)
    with _seconds(row, "plan_s"):
        exact = build_plan(graph, random_choice(graph, RATIO, exact_only=True))
        every = build_plan(graph, random_choice(graph, RATIO))
    dense = max(1, graph.cost().parameters)
    row["removed_exact"] = round(exact.parameters_removed / dense, 4)
    row["removed_all"] = round(every.parameters_removed / dense, 4)
    if not options.executed:
        every.check()
        return "traced"
    status = _compared(built, exact, row)
    before = _shapes(built)
    with _seconds(row, "surgery_s"):
        every.exec()
    row["forward"] = _fits(before, _shapes(built), lengths_vary=math.isinf(row["sensitivity"]))
    row["trains"] = _as_before("trains", lambda found: trains(found.model, found.examples[0]), case, built)
    if options.export:
        row["exports"] = _as_before("exports", lambda found: exports(found.model, found.examples[0]), case, built)
    good = row["forward"] and not str(row["trains"]).startswith("NO") and not str(row.get("exports")).startswith("NO")
    return status if good or status not in ("exact", "no exact group") else "WRONG"


def _counted(graph: Graph) -> Row:
    parameters = graph.cost().parameters
    kinds = sorted({inferred.program.kind for inferred in graph.programs} - {"fake"})
    partial = ["partial trace"] if any(inferred.program.failure for inferred in graph.programs) else []
    exact = sum(group.exact for group in graph.groups)
    without_embeddings = share_without_embeddings(graph)
    found: Row = {
        "ops": len(graph.programs[0].program.calls),
        "groups": len(graph.groups),
        "exact": exact,
        "inexact": len(graph.groups) - exact,
        "frozen_dims": len({(frozen.tensor, frozen.dim) for frozen in graph.frozen()}),
        "parameters": parameters,
        "prunable_share": round(prunable_parameters(graph) / max(1, parameters), 4),
        "embedding_parameters": embedding_parameters(graph),
        "share_without_embeddings": "" if without_embeddings is None else round(without_embeddings, 4),
        "largest_frozen": largest_frozen(graph),
    }
    remarks = [*(f"traced with {kind} tensors" for kind in kinds), *partial]
    missing = graph.ops_without_rule()
    if missing:
        remarks.append(f"no rule for {', '.join(sorted(missing))}")
    if remarks:
        found["cause"] = "; ".join(remarks)
    return found


def _compared(built: Built, plan: Plan, row: Row) -> str:
    """Run the oracle on every example, in evaluation mode with gradients and, on the first, in training mode."""
    assert plan.graph is not None
    seen = tp.verify(built.model, plan, rescale=True)
    others = [
        tp.verify(built.model, replace(plan, graph=replace(plan.graph, example=example)), rescale=True, gradients=False)
        for example in built.examples[1:]
    ]
    row["error"] = max(found.error for found in (seen, *others))
    row |= {"gradient_error": seen.gradient_error, "sensitivity": round(seen.sensitivity, 6)}
    if not plan.kept and not plan.blocks:
        return "no exact group"
    found = [seen, *others]
    if any(inferred.program.mode == "train" for inferred in plan.graph.programs):
        trained = tp.verify(built.model, plan, rescale=True, mode="train", gradients=False)
        row["train_error"] = trained.error
        found.append(trained)
    if all(verification.exact for verification in found):
        return "exact"
    return "degenerate" if any(verification.degenerate for verification in found) else "WRONG"


def _as_before(what: str, attempt: Callable[[Built], str], case: Case, pruned: Built) -> str:
    """What the attempt says of the pruned model; where it fails, whether it does for the original too."""
    found = attempt(pruned)
    if not found.startswith("NO"):
        return found
    original = attempt(_built(case, True))
    return f"the original neither ({original[4:]})" if original.startswith("NO") else found


def _shapes(built: Built) -> list[tuple[int, ...]]:
    """Of what the model gives out; a cache among it holds what is pruned."""
    example = built.examples[0]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = example.call(built.model, _copied(example.inputs))
    if example.output_transform is not None:
        out = example.output_transform(out)
    return [tuple(tensor.shape) for tensor, opaque in tensors_in(out) if not opaque]


def _fits(before: list[tuple[int, ...]], after: list[tuple[int, ...]], lengths_vary: bool) -> bool:
    """Whether outputs have the shapes of before; where data decide how long they are (as many frames as a model
    predicts, which masking changes too), whether there are as many outputs of as many dimensions.
    """
    return before == after or (lengths_vary and list(map(len, before)) == list(map(len, after)))


def _copied(inputs: Any) -> Any:
    """The inputs with containers and tensors copied: caches are written to."""
    return copied(inputs, lambda _, tensor: tensor.detach().clone())


def _runs(built: Built) -> bool:
    try:
        _shapes(built)
    except Exception:
        return False
    return True


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{line[:300]} [{' '.join(frames[-3:])}]"


@contextmanager
def _seconds(row: Row, column: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    row[column] = round(time.perf_counter() - started, 3)
