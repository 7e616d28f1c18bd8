"""Seconds to build the graph, against the number of ops: ResNets and Llama decoders of growing depth; memory too.

    python benchmarks/scaling.py

Every model in a process of its own, on one thread, decoders on the meta device. Nothing may grow faster than the number
of ops: seconds per op stay the same from the shallowest to the deepest.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import heading, machine, table

HERE = Path(__file__).parent
CASES = ["resnet18", "resnet50", "resnet152", "llama-12", "llama-24", "llama-80", "llama-80-full"]
COLUMNS = [
    "case", "parameters", "ops", "groups", "first_s", "median_s", "median_cpu_s", "cpu_ms_per_op", "peak_gb",
    "peak_before_gb",
]  # fmt: skip


def measure(case: str, repetitions: int) -> dict[str, Any]:
    """What measure_scaling.py prints."""
    environment = {**os.environ, "PYTHONPATH": str((HERE.parent / "src").resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(HERE / "measure_scaling.py"), "--case", case]
    done = subprocess.run(
        [*command, "--repetitions", str(repetitions)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(found: dict[str, Any]) -> dict[str, Any]:
    """One line of the CSV. The median leaves out the first build, which works out what ops do on first use."""
    later = found["times"][1:] or found["times"]
    cpu = statistics.median(times["cpu"] for times in later)
    return {
        "case": found["case"],
        "parameters": found["parameters"],
        "ops": found["ops"],
        "groups": sum(count for *_, count in found["groups"]),
        "first_s": round(found["times"][0]["wall"], 3),
        "median_s": round(statistics.median(times["wall"] for times in later), 3),
        "median_cpu_s": round(cpu, 3),
        "cpu_ms_per_op": round(cpu / found["ops"] * 1e3, 3),
        "peak_gb": round(found["peak"] / 1e9, 2),
        "peak_before_gb": round(found["peak_before"] / 1e9, 2),
    }


def kinds(found: dict[str, Any]) -> str:
    """The groups of a model in words: how many of which size."""
    columns = ["units", "lanes over", "exact", "groups"]
    lines = [[str(size), str(lanes), "yes" if exact else "no", str(n)] for size, lanes, exact, n in found["groups"]]
    frozen = "".join(f"* {reason}\n" for reason in found["frozen"])
    return f"Groups of {found['case']}:\n\n{table(columns, lines)}\n\nFrozen, and why:\n\n{frozen}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--repetitions", type=int, default=4, help="builds per model; the first is reported apart")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling", help="without .csv and .md")
    options = parser.parse_args(arguments)
    results = []
    for case in options.cases:
        results.append(measure(case, options.repetitions))
        print(*(f"{column}={value}" for column, value in row(results[-1]).items()), flush=True)
    rows = [row(found) for found in results]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    packages = ["torch", "torchvision"]
    if any(case.startswith("llama") for case in options.cases):
        packages.append("transformers")
    explained = (
        "Building the graph, in evaluation and training mode. `ops` are those recorded in both; `first` is the first "
        "build of a process; `peak_gb` is resident memory after it, of which imports and the model took "
        "`peak_before_gb`.\n"
    )
    lines = [[f"{value:,}" if isinstance(value, int) else str(value) for value in line.values()] for line in rows]
    parts = [heading("Scaling", machine(*packages)), explained, table(COLUMNS, lines), "", kinds(results[-1])]
    options.out.with_suffix(".md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
