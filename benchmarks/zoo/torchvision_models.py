"""Every torchvision classification and segmentation model through the oracle, one subprocess each.

    python benchmarks/zoo/torchvision_models.py [--out FILE.csv] [--models 'resnet*'] [--limit SECONDS]

Per model, with random weights: 40 % of the units of every exact group removed at random, values and parameter gradients
compared in float64 (evaluation and training mode); then 40 % of every group, inexact ones too: the plan is checked on
fake tensors, carried out, and the forward pass must give outputs of unchanged shapes. Rows are appended; models that
have a row already are skipped.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import resource
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

COLUMNS = [
    "model", "status", "ops", "groups", "exact", "inexact", "frozen_dims", "parameters", "prunable_share",
    "removed_exact", "error", "gradient_error", "train_error", "sensitivity", "removed_all", "all_groups_forward",
    "graph_s", "plan_s", "surgery_s", "peak_gb", "note", "cause",
]  # fmt: skip


def names() -> list[str]:
    from torchvision import models

    return [*models.list_models(module=models), *models.list_models(module=models.segmentation)]


def build(name: str) -> tuple[Any, Any, str]:
    """(model in evaluation mode, example input, note). Sizes are the smallest sensible ones."""
    import torch
    from torchvision import models

    torch.manual_seed(0)
    segmentation = name in models.list_models(module=models.segmentation)
    options: dict[str, Any] = {"weights_backbone": None} if segmentation else {}
    note = ""
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    if name in ("vit_h_14", "regnet_y_128gf"):
        note = "traced in full on fake tensors, verified at reduced depth"
    model = models.get_model(name, weights=None, **options).eval()
    fixed = {"inception_v3": 299, "maxvit_t": 224}
    size = fixed.get(name, 64 if segmentation else 224 if name.startswith(("vit", "swin", "alex", "vgg")) else 128)
    return model, torch.randn(1, 3, size, size), note


def reduced(name: str) -> Any:
    """The largest two at reduced depth."""
    import torch
    from torchvision import models

    torch.manual_seed(0)
    if name == "vit_h_14":
        return models.VisionTransformer(224, 14, num_layers=4, num_heads=16, hidden_dim=1280, mlp_dim=5120).eval()
    from torchvision.models.regnet import BlockParams, RegNet

    params = BlockParams.from_init_params(depth=8, w_0=456, w_a=160.83, w_m=2.52, group_width=264, se_ratio=0.25)
    return RegNet(params).eval()


def row(name: str) -> dict[str, Any]:
    """Run one model; every figure of its row."""
    import torch

    import torch_pruning as tp
    from torch_pruning.planning.build import build_plan
    from torch_pruning.pruner.allot import prunable_parameters, random_choice
    from torch_pruning.trace.tracer import Example

    torch.set_num_threads(1)
    model, x, note = build(name)
    result: dict[str, Any] = {"model": name, "note": note}
    started = time.perf_counter()
    graph = tp.build_graph(model, [Example(x)])
    result["graph_s"] = round(time.perf_counter() - started, 3)
    result["ops"] = len(graph.programs[0].program.calls)
    result["groups"], result["exact"] = len(graph.groups), sum(group.exact for group in graph.groups)
    result["inexact"] = result["groups"] - result["exact"]
    result["frozen_dims"] = len({(frozen.tensor, frozen.dim) for frozen in graph.frozen()})
    result["parameters"] = graph.cost().parameters
    result["prunable_share"] = round(prunable_parameters(graph) / graph.cost().parameters, 4)
    if note:
        del model, graph
        model = reduced(name)
        graph = tp.build_graph(model, [Example(x)])
    started = time.perf_counter()
    exact = build_plan(graph, random_choice(graph, 0.4, exact_only=True))
    result["plan_s"] = round(time.perf_counter() - started, 3)
    dense = graph.cost().parameters
    result["removed_exact"] = round(exact.parameters_removed / dense, 4)
    seen = tp.verify(model, exact, rescale=True)
    trained = tp.verify(model, exact, rescale=True, mode="train", gradients=False)
    result |= {"error": seen.error, "gradient_error": seen.gradient_error, "train_error": trained.error}
    result["sensitivity"] = round(seen.sensitivity, 6)
    every = build_plan(graph, random_choice(graph, 0.4))
    result["removed_all"] = round(every.parameters_removed / dense, 4)
    with torch.no_grad():
        before = shapes(model(x))
        started = time.perf_counter()
        every.exec()
        result["surgery_s"] = round(time.perf_counter() - started, 3)
        result["all_groups_forward"] = shapes(model(x)) == before
    result["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    good = seen.exact and trained.exact and result["all_groups_forward"]
    result["status"] = "exact" if good else "degenerate" if seen.degenerate else "WRONG"
    return result


def shapes(out: Any) -> list[tuple[int, ...]]:
    from torch_pruning.trace.program import tensors_in

    return [tuple(tensor.shape) for tensor, _ in tensors_in(out)]


def render(path: Path) -> None:
    """The CSV as a markdown table beside it, with totals, the date and the versions."""
    import torch
    import torchvision

    rows = list(csv.DictReader(path.open()))
    exact = [found for found in rows if found["status"] == "exact"]
    shares = [float(found["prunable_share"]) for found in exact] or [0.0]
    worst = max((float(found["error"]) for found in exact), default=0.0)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    heads = (
        "model|status|ops|groups|exact|prunable share|removed, exact groups|error|removed, all groups|runs|graph s|note"
    )
    lines = [
        "# torchvision: classification and segmentation",
        "",
        f"{time.strftime('%Y-%m-%d')}, {versions}, random weights, CPU, one thread. Made by `make zoo-torchvision`.",
        "",
        f"{len(exact)} of {len(rows)} exact in values, gradients and training mode; largest relative error of the",
        f"outputs {worst:.1e}. With 40 % of every group removed, all of these run, output shapes unchanged. Share of",
        f"parameters in prunable groups: least {min(shares):.1%}, median {statistics.median(shares):.1%}.",
        "",
        f"| {' | '.join(heads.split('|'))} |",
        "|---" * len(heads.split("|")) + "|",
    ]
    columns = ("model", "status", "ops", "groups", "exact", "prunable_share", "removed_exact", "error", "removed_all")
    for found in rows:
        cells = [found[column] for column in (*columns, "all_groups_forward", "graph_s")]
        lines.append("| " + " | ".join([*cells, found["cause"] or found["note"]]) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/torchvision.csv"))
    parser.add_argument("--models", default="*")
    parser.add_argument("--limit", type=float, default=900, help="seconds per model")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        try:
            print(json.dumps(row(options.one)))
        except Exception as error:
            traceback.print_exc()
            cause = f"{type(error).__name__}: {error}"[:300]
            print(json.dumps({"model": options.one, "status": "failed", "cause": cause}))
        return
    done = {r["model"] for r in csv.DictReader(options.out.open())} if options.out.exists() else set()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not options.out.exists():
        options.out.write_text(",".join(COLUMNS) + "\n")
    for name in fnmatch.filter(names(), options.models):
        if name in done:
            continue
        command = [sys.executable, __file__, "--one", name]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
            lines = run.stdout.strip().splitlines()
            found = json.loads(lines[-1]) if lines else {"model": name, "status": "died", "cause": run.stderr[-300:]}
        except subprocess.TimeoutExpired:
            found = {"model": name, "status": "timeout", "cause": f"more than {options.limit:.0f} s"}
        with options.out.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(found)
        shown = ("model", "status", "error", "gradient_error", "prunable_share", "cause")
        print({key: found.get(key) for key in shown}, flush=True)
    render(options.out)


if __name__ == "__main__":
    main()
