"""Latency budgets: what the plan predicts, against what the pruned model takes; and what importance each scope keeps.

python benchmarks/latency.py                        # ResNet-50 and ViT-B/16; writes results/latency.{csv,md}
python benchmarks/latency.py --models resnet18 --shares 0.5

Every pruned model is measured again beside the whole one, in turns, after its plan is made: medians of several
readings. On one thread the time is that of the processor, which other processes on the machine do not prolong.
"""

from __future__ import annotations

import argparse
import copy
import csv
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import heading, machine, table
from torch import nn

import torch_pruning as tp
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.build import build_plan
from torch_pruning.progress import track
from torch_pruning.pruner.decide import candidates_of, scores_of
from torch_pruning.pruner.latency.clock import device_of, model_milliseconds
from torch_pruning.pruner.latency.model import LatencyModel
from torch_pruning.pruner.plan import options_of

HERE = Path(__file__).parent
COLUMNS = [
    "model",
    "latency",
    "scope",
    "before ms",
    "predicted ms",
    "measured ms",
    "measured / predicted",
    "measured / asked",
    "importance kept",
    "MACs kept",
]


def importance_kept(graph: Graph, plan: tp.Plan) -> float:
    """The sum of the scores of the units that stay, as a share of all."""
    options = options_of(pruning_ratio=0.0)
    clusters, _ = candidates_of(graph, options)
    scores = scores_of(graph, clusters, options)
    kept = sum(
        float(of_lane[list(row)].sum())
        for axis, chosen in (plan.choice or {}).items()
        if axis in scores
        for of_lane, row in zip(
            scores[axis].expand(len(chosen.rows), -1) if len(chosen.rows) > 1 else scores[axis],
            chosen.rows.values(),
            strict=True,
        )
    )
    moved = sum(float(scores[axis].sum()) for axis in (plan.choice or {}) if axis in scores)
    whole = sum(float(of_axis.sum()) for of_axis in scores.values())
    return (whole - moved + kept) / whole


def in_turns(models: list[nn.Module], example: tp.Example, turns: int) -> list[float]:
    """The median time of each model, measured in turns, so that all see the same machine."""
    readings: list[list[float]] = [[] for _ in models]
    for _ in track(range(turns), "Measuring in turns"):
        for model, found in zip(models, readings, strict=True):
            found.append(model_milliseconds(model, example, device_of(model), readings=1))
    return [statistics.median(found) for found in readings]


def rows(name: str, shares: list[float], scopes: list[str], turns: int, round_to: int) -> Iterator[dict[str, Any]]:
    """One row for every budget and scope of a model."""
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    example = tp.Example(torch.randn(1, 3, 224, 224))
    graph = tp.build_graph(model, [example])
    for share in shares:
        plans = []
        for scope in scopes:
            start = time.perf_counter()
            plans.append(tp.plan(graph, latency=share, scope=scope, round_to=round_to))
            print(f"{name} {share} {scope}: {time.perf_counter() - start:.0f} s", flush=True)
        pruned = []
        for plan in plans:
            assert plan.choice is not None
            pruned.append(copy.deepcopy(model))
            plan.exec(model=pruned[-1], check=False)
        dense, *measured = in_turns([model, *pruned], example, turns)
        for scope, plan, found in zip(scopes, plans, measured, strict=True):
            assert plan.latency is not None
            assert plan.before is not None
            assert plan.after is not None
            yield {
                "model": name,
                "latency": share,
                "scope": scope,
                "before ms": f"{dense:.1f}",
                "predicted ms": f"{plan.latency.predicted:.1f}",
                "measured ms": f"{found:.1f}",
                "measured / predicted": f"{found / plan.latency.predicted:.3f}",
                "measured / asked": f"{found / (share * dense):.3f}",
                "importance kept": f"{importance_kept(graph, plan):.4f}",
                "MACs kept": f"{plan.after.macs / plan.before.macs:.3f}",
            }


def first_prediction(name: str, ratio: float) -> tuple[float, float]:
    """What times of ops alone predict, before any pruned copy has been measured, and what one then takes."""
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    graph = tp.build_graph(model, [tp.Example(torch.randn(1, 3, 224, 224))])
    clusters, _ = candidates_of(graph, options_of(pruning_ratio=ratio))
    latency = LatencyModel(graph, clusters)
    plan = tp.plan(graph, pruning_ratio=ratio, round_to=8)
    assert plan.choice is not None
    counts = {axis: kept.count for axis, kept in plan.choice.items()}
    assert build_plan(graph, plan.choice) == plan
    return float(latency(latency.steps_of(counts)[None])), latency.measure(plan.choice)


def write(found: list[dict[str, Any]], first: list[tuple[str, float, float, float]], turns: int, out: Path) -> None:
    """The rows as CSV, and as a Markdown table with what they mean."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    text = [
        heading("Latency budgets", machine("torch", "torchvision")),
        "One image of 224 x 224, random weights, magnitude as importance. `predicted` is the plan's, made before its",
        f"model was measured; `before` and `measured` are medians of {turns} readings afterwards, whole and pruned",
        "models in turns, in processor time of the one thread. `importance kept`: the sum of the scores of what stays.",
        "",
        table(COLUMNS, [[str(row[column]) for column in COLUMNS] for row in found]),
        "",
        "What times of single ops predict before a pruned copy has been measured (share of units removed; round_to=8):",
        "",
        table(
            ["model", "ratio", "predicted ms", "measured ms", "measured / predicted"],
            [[name, str(ratio), f"{a:.1f}", f"{b:.1f}", f"{b / a:.3f}"] for name, ratio, a, b in first],
        ),
        "",
    ]
    out.with_suffix(".md").write_text("\n".join(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_b_16"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.7, 0.5])
    parser.add_argument("--scopes", nargs="+", default=["local", "global", "cost"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--round-to", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latency")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        row
        for name in options.models
        for row in rows(name, options.shares, options.scopes, options.turns, options.round_to)
    ]
    first = [(name, ratio, *first_prediction(name, ratio)) for name in options.models for ratio in (0.2, 0.4)]
    write(found, first, options.turns, options.out)
    print(options.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
