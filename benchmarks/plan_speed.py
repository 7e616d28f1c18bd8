"""How long deciding takes beyond the trace: scores, allotment, and the plan itself.

python benchmarks/plan_speed.py                 # four large models; writes results/plan_speed.{csv,md}
python benchmarks/plan_speed.py --models resnet18 --repetitions 1

Processor time of one thread, the least of several repetitions: other processes on the machine do not prolong it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from machine import heading, machine, table

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.progress import track
from torch_pruning.pruner.allot import best_units
from torch_pruning.pruner.decide import allot, candidates_of, scores_of
from torch_pruning.pruner.options import Options
from torch_pruning.pruner.plan import options_of

HERE = Path(__file__).parent
REQUESTS: dict[str, dict[str, Any]] = {
    "ratio, global": {"pruning_ratio": 0.5, "scope": "global"},
    "macs, global": {"macs": 0.5, "scope": "global"},
    "macs, cost": {"macs": 0.5, "scope": "cost"},
}
COLUMNS = [
    "model",
    "M parameters",
    "groups",
    "units",
    "trace ms",
    "request",
    "scores ms",
    "allot ms",
    "plan ms",
    "sum ms",
]
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What the work gives, and its milliseconds."""
    start = time.process_time()
    result = work()
    return result, 1e3 * (time.process_time() - start)


def stages(graph: tp.Graph, options: Options) -> tuple[float, float, float]:
    """Milliseconds for scores, allotment and the plan itself."""
    (clusters, parts), selecting = timed(lambda: candidates_of(graph, options))
    scores, scoring = timed(lambda: scores_of(graph, clusters, options))
    counts, allotting = timed(lambda: allot(graph, clusters, scores, parts, options))
    _, planning = timed(lambda: build_plan(graph, best_units(graph, counts, scores)))
    return scoring, selecting + allotting, planning


def rows(name: str, repetitions: int) -> list[dict[str, Any]]:
    """One row for every request of a model."""
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    example = tp.Example(torch.randn(1, 3, 224, 224))
    traces = [timed(lambda: tp.build_graph(model, [example])) for _ in range(repetitions)]
    graph = traces[-1][0]
    found = []
    for request, given in REQUESTS.items():
        options = options_of(**given)
        readings = [stages(graph, options) for _ in range(repetitions)]
        best = [min(column) for column in zip(*readings, strict=True)]
        found.append(
            {
                "model": name,
                "M parameters": f"{graph.cost().parameters / 1e6:.0f}",
                "groups": str(len(graph.groups)),
                "units": f"{sum(group.size for group in graph.groups):,}",
                "trace ms": f"{min(ms for _, ms in traces):.0f}",
                "request": request,
                "scores ms": f"{best[0]:.0f}",
                "allot ms": f"{best[1]:.0f}",
                "plan ms": f"{best[2]:.0f}",
                "sum ms": f"{sum(best):.0f}",
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "densenet201", "vit_l_16", "convnext_large"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "plan_speed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in track(options.models, "Models") for row in rows(name, options.repetitions)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    text = [
        heading("Deciding, beyond the trace", machine("torch", "torchvision")),
        f"Milliseconds of processor time on one thread, the least of {options.repetitions} repetitions. `scores`:",
        "magnitude of every unit, which reads every weight once for each of its dimensions. `allot`: from scores to",
        "counts. `plan`: choice of units, kept positions, attributes.",
        "",
        table(COLUMNS, [[row[column] for column in COLUMNS] for row in found]),
        "",
    ]
    options.out.with_suffix(".md").write_text("\n".join(text))
    print(options.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
