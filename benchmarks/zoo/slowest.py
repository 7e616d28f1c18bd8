"""results/zoo/slowest.csv: the models with long traces in the sweep or many ops, traced again, each in a fresh process.

    python benchmarks/zoo/slowest.py [ZOO ...]

CPU seconds, one thread. The first trace pays for what torch and the model's library import and set up on first use; the
second is the cost of the trace itself: a run in evaluation mode, one in training mode, and the graph.
"""

from __future__ import annotations

import csv
import multiprocessing
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

from coverage import RESULTS, Row, Table, tables

COLUMNS = ["zoo", "model", "ops", "runs", "first_s", "again_s"]
CANDIDATES = 8  # by either measure; ten are shown


def candidates(table: Table) -> list[Row]:
    """The rows with the longest traces, as the sweep saw them beside other work, and those with the most ops."""
    rows = [row for row in table.ran if row["trace_s"]]
    slow = sorted(rows, key=lambda row: -float(row["trace_s"]))[:CANDIDATES]
    large = sorted(rows, key=lambda row: -int(row["ops"]))[:CANDIDATES]
    return [*slow, *(row for row in large if row not in slow)]


def timed(zoo: str, model: str) -> Row:
    """One row. Runs in a process of its own."""
    import torch
    from run import load
    from uninitialised import uninitialised

    import torch_pruning as tp

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    case = next(case for case in load(zoo).cases() if case.name == model)
    with uninitialised():
        built = case.build()
    seconds = []
    for _ in range(2):
        started = time.process_time()
        graph = tp.build_graph(built.model, built.examples)
        seconds.append(f"{time.process_time() - started:.2f}")
    programs = [inferred.program for inferred in graph.programs]
    ops, runs = sum(len(program.calls) for program in programs), len(programs)
    return dict(zip(COLUMNS, [zoo, model, str(ops), str(runs), *seconds], strict=True))


def main() -> None:
    path = RESULTS / "slowest.csv"
    asked = sys.argv[1:]
    chosen = [
        (table.zoo, row["model"]) for table in tables() if not asked or table.zoo in asked for row in candidates(table)
    ]
    kept: list[Row] = []
    if asked and path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["zoo"] not in asked]
    for zoo, model in chosen:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                kept.append(pool.submit(timed, zoo, model).result())
            except (MemoryError, RuntimeError) as error:  # too large for this machine, next to others
                print(f"{model}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)


if __name__ == "__main__":
    main()
