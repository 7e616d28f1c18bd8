"""Every model of a zoo through the oracle. Rows are appended one by one; what has a row is not run again.

    python benchmarks/zoo/run.py ZOO [--models 'resnet*'] [--executed-only] [--limit SECONDS] [--export] [--out FILE]
    python benchmarks/zoo/run.py --render              # docs/coverage.md from the tables that are there

ZOO is torchvision, timm, transformers, diffusers, ultralytics, torchaudio or torch_geometric: the file ZOO_zoo.py
beside this one. Models run in a worker process with limits of time and memory; it starts anew after a crash, a timeout,
and every few models.

Per model, with random weights and without downloads: 40 % of the units of every exact group removed at random, values
and parameter gradients compared in float64, in evaluation and training mode; then 40 % of every group, inexact ones
too: the plan is checked on fake tensors and carried out, the forward pass gives outputs of unchanged shapes, one step
of training runs, and with --export `torch.export` takes it where it took the original.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import fnmatch
import importlib
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from case import Case, Zoo
from coverage import RESULTS, ZOOS, render
from measure import COLUMNS, Options, Row, measure

MODELS_PER_WORKER = 40
SOUND = ("exact", "no exact group", "traced", "skipped")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one model, and of its worker."""

    seconds: float
    gigabytes: float


def load(zoo: str) -> Zoo:
    """The zoo of this name."""
    return cast(Zoo, importlib.import_module(f"{zoo}_zoo"))


def work(zoo: str, options: Options, limits: Limits, names: Connection) -> None:
    """Answer every name with its row, until there are no more. Runs in a process of its own."""
    import torch

    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries talk
    _limit_memory(limits.gigabytes)
    torch.set_num_threads(1)
    cases = {case.name: case for case in load(zoo).cases()}
    names.send("ready")
    while (name := names.recv()) is not None:
        names.send(measure(cases[name], options))


def _limit_memory(gigabytes: float) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30), resource.RLIM_INFINITY))


class Worker:
    """A process that measures one model after another, and is replaced when it has to be."""

    def __init__(self, zoo: str, options: Options, limits: Limits) -> None:
        self.start = (zoo, options, limits)
        self.process: multiprocessing.process.BaseProcess | None = None
        self.connection: Connection | None = None
        self.done = 0

    def measure(self, case: Case) -> Row:
        if self.process is None or self.done >= MODELS_PER_WORKER:
            self.stop()
            self._begin()
        assert self.process is not None
        assert self.connection is not None
        self.done += 1
        row: Row = {"model": case.name, "family": case.family, "note": case.note}
        limit = self.start[2].seconds
        try:
            self.connection.send(case.name)
            if self.connection.poll(limit):
                found = cast(Row, self.connection.recv())
                if found["status"] not in SOUND:  # a lack of memory, say, must not be the next model's too
                    self.stop()
                return found
            self.stop()
            return row | {"status": "timeout", "cause": f"more than {limit:.0f} s"}
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            self.stop()
            return row | {"status": "died", "cause": f"the process ended with {code}; memory is limited"}

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(*self.start, other), daemon=True)
        self.process.start()
        other.close()
        assert self.connection.recv() == "ready"
        self.done = 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = self.connection = None


def selected(cases: Iterable[Case], options: argparse.Namespace) -> Iterator[Case]:
    """The cases asked for that have no row yet."""
    done = {row["model"] for row in rows_of(options.out)}
    for case in cases:
        wanted = any(fnmatch.fnmatch(case.name, pattern) for pattern in options.models)
        if wanted and case.name not in done and (case.executed or not options.executed_only):
            yield case


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, none if there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: Row) -> None:
    """Add a row, and the head before the first; a table of other columns is written anew, what it lacks left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or _head(path) != COLUMNS:
        write(path, rows_of(path))
    with path.open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)


def _head(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def write(path: Path, rows: Iterable[Row]) -> None:
    """A table of these rows; what a row lacks is empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _say_with_what(path: Path, zoo: Zoo) -> None:
    """Date and versions, beside the table."""
    about = {"date": datetime.date.today().isoformat(), **{name: version(name) for name in zoo.PACKAGES}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def sweep(options: argparse.Namespace) -> None:
    """Measure the cases that are selected, one row each."""
    zoo = load(options.zoo)
    _say_with_what(options.out, zoo)
    measured = Options(executed=not options.traced, export=options.export)
    worker = Worker(options.zoo, measured, Limits(options.limit, options.memory))
    try:
        for case in selected(zoo.cases(), options):
            started = time.perf_counter()
            row = worker.measure(case)
            append(options.out, row)
            shown: dict[str, Any] = {key: row.get(key) for key in ("model", "status", "error", "prunable_share")}
            print(*shown.values(), f"{time.perf_counter() - started:.1f} s", row.get("cause", ""), flush=True)
    finally:
        worker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", nargs="?", choices=ZOOS)
    parser.add_argument("--models", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--executed-only", action="store_true", help="leave out what is only traced")
    parser.add_argument("--traced", action="store_true", help="trace and plan only")
    parser.add_argument("--limit", type=float, default=600, help="seconds per model")
    parser.add_argument("--memory", type=float, default=8, help="GB per worker")
    parser.add_argument("--export", action="store_true", help="torch.export the pruned models too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--render", action="store_true", help="write docs/coverage.md and do nothing else")
    options = parser.parse_args()
    if options.zoo and not options.render:
        options.out = options.out or RESULTS / f"{options.zoo}.csv"
        sweep(options)
    elif not options.render:
        parser.error("name a zoo, or --render")
    if options.zoo is None or options.out.parent == RESULTS:
        render()


if __name__ == "__main__":
    main()
