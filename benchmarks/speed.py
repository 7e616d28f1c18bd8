"""Seconds from a model to its pruned self: graph with all groups, plan, surgery with its check; beside Torch-Pruning.

    python benchmarks/speed.py
    pip install --target upstream --no-deps torch-pruning==1.6.1
    python benchmarks/speed.py --upstream upstream

One thread, half of the units of every group, one process per tool and model, the tools taking turns. The first run of
a process is reported apart from the median of the others: PyTorch imports and works out much on first use.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import heading, machine, table

HERE = Path(__file__).parent
MODELS = [
    "resnet50", "resnet152", "densenet121", "densenet201", "vit_b_16", "convnext_base", "efficientnet_b7", "swin_t",
]  # fmt: skip
COLUMNS = [
    "model", "tool", "status", "graph_s", "plan_s", "surgery_s", "total_s", "total_cpu_s", "first_total_s",
    "runs", "parameters", "note",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """What to measure: its name, where its package lies, its version."""

    name: str
    folder: Path
    version: str


def measure(tool: Tool, model: str, repetitions: int, limit: float) -> tuple[str, list[dict[str, Any]]]:
    """(status, one entry per run as measure_speed.py prints it). Runs that ended before the time was up count."""
    command = [sys.executable, "-W", "ignore", str(HERE / "measure_speed.py"), "--tool", tool.name, "--model", model]
    environment = {**os.environ, "PYTHONPATH": str(tool.folder.resolve()), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--repetitions", str(repetitions)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, errors = process.communicate(timeout=limit)
        status = "ok" if process.returncode == 0 else errors.strip().splitlines()[-1][:160]
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        status = "ok" if out.count("\n") else f"not done after {limit:.0f} s"
    runs = [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    for run in runs:
        if not Path(run["file"]).is_relative_to(tool.folder.resolve()):
            raise RuntimeError(f"{tool.name} was to be imported from {tool.folder}, found {run['file']}")
    return status, runs


def summary(tool: Tool, model: str, processes: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """One row: medians over all runs but the first of each process, or over these if none has a second."""
    status = next((status for status, _ in processes if status != "ok"), "ok")
    row: dict[str, Any] = {"model": model, "tool": tool.name, "status": status}
    if status != "ok":
        return row
    first = [runs[0]["stages"] for _, runs in processes]
    later = [run["stages"] for _, runs in processes for run in runs[1:]] or first
    for stage in later[0]:
        row[f"{stage}_s"] = round(statistics.median(stages[stage]["wall"] for stages in later), 3)
    for column, clock, chosen in (
        ("total_s", "wall", later),
        ("total_cpu_s", "cpu", later),
        ("first_total_s", "wall", first),
    ):
        totals = [sum(times[clock] for times in stages.values()) for stages in chosen]
        row[column] = round(statistics.median(totals), 3)
    _, (sample, *_) = processes[0]
    row["runs"] = sum(len(runs) for _, runs in processes)
    return {**row, "parameters": sample["parameters"], "note": sample["note"]}


def markdown(rows: list[dict[str, Any]], tools: list[Tool]) -> str:
    """One line per model, with the factor between the tools where both finished."""
    columns = ["model", "graph", "plan", "surgery", "**total**", "first run"]
    if len(tools) > 1:
        columns += [f"Torch-Pruning {tools[1].version}", "its first run", "factor", "note"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine, *others = [row for row in rows if row["model"] == model]
        if mine["status"] != "ok":
            line = [model, mine["status"], "", "", "", ""]
        else:
            line = [model, *(f"{mine[f'{stage}_s']:.2f}" for stage in ("graph", "plan", "surgery", "total"))]
            line.append(f"{mine['first_total_s']:.2f}")
        for other in others:
            if other["status"] == "ok":
                factor = f"{other['total_cpu_s'] / mine['total_cpu_s']:.1f}" if mine["status"] == "ok" else ""
                line += [f"{other['total_s']:.2f}", f"{other['first_total_s']:.2f}", factor, other["note"]]
            else:
                line += [other["status"], "", "", ""]
        lines.append(line)
    return table(columns, lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=Path, help="folder into which torch-pruning was installed with --target")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--repetitions", type=int, default=4, help="per process; the first is reported apart")
    parser.add_argument("--rounds", type=int, default=2, help="processes per tool and model")
    parser.add_argument("--limit", type=float, default=120, help="seconds per process")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed", help="without .csv and .md")
    options = parser.parse_args(arguments)
    tools = [Tool("ours", HERE.parent / "src", "")]
    if options.upstream is not None:
        (metadata,) = options.upstream.glob("torch_pruning-*.dist-info")
        tools.append(Tool("upstream", options.upstream, metadata.name.split("-")[1].removesuffix(".dist")))
    rows = []
    for model in options.models:
        done: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {tool.name: [] for tool in tools}
        for _ in range(options.rounds):
            for tool in tools:
                # What did not end once is not waited for again.
                if all(status == "ok" for status, _ in done[tool.name]):
                    done[tool.name].append(measure(tool, model, options.repetitions, options.limit))
        rows += [summary(tool, model, done[tool.name]) for tool in tools]
        print(*(f"{column}={row.get(column, '')}" for row in rows[-len(tools) :] for column in COLUMNS[:9]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    about = machine("torch", "torchvision")
    explained = (
        "Seconds, medians, both tools with their default options; `first run` is the first of a process, which pays "
        "for PyTorch's own imports. `factor` "
        "compares processor times, which other work on the machine disturbs less. The surgery of this package includes "
        f"running the pruned model on fake tensors. A process is stopped after {options.limit:.0f} s; what it finished "
        "until then counts (`runs` in the CSV).\n"
    )
    text = "\n".join([heading("Speed", about), explained, markdown(rows, tools), ""])
    options.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
