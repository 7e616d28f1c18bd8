"""What the benchmarks on pre-trained networks share: methods, one loop over them, rows and tables.

A network is pruned without any training and without labels, from the same calibration inputs by every method. Rows go
to benchmarks/results/NAME.csv one by one, so a run that was interrupted goes on where it stopped; NAME.md is the table
of all that is there.
"""

from __future__ import annotations

import argparse
import copy
import csv
import importlib.util
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torch_pruning as tp

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import heading, machine, table

RESULTS = Path(__file__).parents[1] / "results"
OBSERVED = ("wanda", "fluctuation")  # criteria that must see the model run


@dataclass(frozen=True, slots=True)
class Method:
    """`importance` and `scope` as `tp.plan` takes them, `recovery` as `tp.prune` does, with options
    of `tp.recovery.execute`. With `depth`, whole blocks of the least influence go until the budget is met."""

    importance: str = "magnitude"
    scope: str = "local"
    recovery: str = "none"
    depth: bool = False
    solve: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A dense network and what is done with it: `budget` turns the share to keep into what `tp.plan` takes,
    `measure` gives the figures of a network; `ignore` stays in every plan; `loss` of a batch,
    without labels, is the sum of what criteria take the gradients of."""

    model: nn.Module
    example: Any
    calibration: Sequence[Any]
    measure: Callable[[nn.Module], dict[str, float]]
    budget: Callable[[float], dict[str, float]]
    ignore: Sequence[str] = ()
    loss: Callable[[nn.Module, Any], Tensor] | None = None


def folder(package: str, command: str, *others: str) -> Path:
    """Where a package is installed that only brings files.

    Raises:
        SystemExit: if it, or one of the others, is not there; the message is the command that installs them.
    """
    missing = [name for name in (package, *others) if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} missing: {command}")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


# ---------------------------------------------------------------- one method


def prune(task: Task, model: nn.Module, method: Method, keep: float, criteria: dict[str, Any]) -> tp.Plan:
    """Prune a copy of the task's network to the share and recover, in place; returns the plan that was carried out."""
    if method.depth:
        plan = shortest(model, task, keep)
        plan.exec()
        return plan
    if method.importance not in criteria:
        criteria[method.importance] = criterion(task, method.importance)
    importance = criteria[method.importance]
    options: dict[str, Any] = {"ignore": task.ignore, **task.budget(keep)}
    plan = tp.plan(model, task.example, importance=importance, scope=method.scope, **options)
    if isinstance(importance, Remembered):
        importance.criterion = None
    tp.recovery.execute(plan, task.calibration, method=method.recovery, **method.solve)
    return plan


def shortest(model: nn.Module, task: Task, keep: float) -> tp.Plan:
    """The plan that takes out as few blocks of the least influence as meet a budget of parameters; blocks are alike."""
    whole = sum(parameter.numel() for parameter in model.parameters())
    one = tp.plan(model, task.example, depth=1, block_importance="magnitude")
    count = math.ceil((whole - task.budget(keep)["params"] * whole) / (whole - one.after.parameters))
    # The influence of a block is a mean over tokens, for which a part of the calibration inputs is plenty.
    return tp.plan(model, task.example, depth=count, calibration=task.calibration[:2])


def criterion(task: Task, name: str) -> Any:
    """The criterion of this name, that has seen the calibration inputs if it needs to. Its scores are for any copy."""
    if name == "reconstruction":
        options = {"example_inputs": task.example, "ignore": task.ignore}
        return Remembered(tp.recovery.ReconstructionScore(task.model, task.calibration, **options))
    if name == "fisher" and task.loss is not None:
        with tp.importance.FisherImportance("joint", None, True, None, per_position=True).observe(task.model) as fisher:
            for batch in task.calibration:
                task.loss(task.model, batch).backward()
                task.model.zero_grad()
        return fisher
    if name not in OBSERVED:
        return name
    with tp.importance.criterion(name).observe(task.model) as found, torch.no_grad():
        for batch in task.calibration:
            task.model(**batch) if isinstance(batch, dict) else task.model(batch)
    return found


@dataclass(slots=True)
class Remembered:
    """A criterion that scores each group once, and is forgotten after the first plan for the memory it takes."""

    criterion: Any
    scores: dict[str, Any] = field(default_factory=dict)

    def __call__(self, group: Any, tensors: Any) -> Any:
        if group.name not in self.scores:
            self.scores[group.name] = self.criterion(group, tensors)
        return self.scores[group.name]


# ---------------------------------------------------------------- all methods


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`load` gives the task for the parsed options; `columns` are the figures shown, with their format."""

    name: str
    title: str
    methods: Mapping[str, Method]
    keeps: Sequence[float]
    share: str  # of what the shares are: "parameters"
    load: Callable[[argparse.Namespace], Task]
    columns: Mapping[str, str]
    packages: Sequence[str] = ()

    def main(self, add_options: Callable[[argparse.ArgumentParser], None], description: str | None) -> None:
        """The command line. With `--render` nothing is measured."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--methods", choices=list(self.methods), nargs="+", default=list(self.methods))
        parser.add_argument("--keeps", type=float, nargs="+", default=self.keeps, help=f"shares of the {self.share}")
        parser.add_argument("--out", type=Path, default=RESULTS / f"{self.name}.csv")
        parser.add_argument("--render", action="store_true", help="only the table of the rows that are there")
        add_options(parser)
        options = parser.parse_args()
        torch.set_num_threads(1)
        if not options.render:
            self.run(options)
        self.render(options.out)

    def run(self, options: argparse.Namespace) -> None:
        """Every method at every share that has no row yet; the dense network first.

        Raises:
            SystemExit: if there are rows that were measured otherwise.
        """
        own = ("methods", "keeps", "out", "render")
        settings = " ".join(f"{name}={value}" for name, value in vars(options).items() if name not in own)
        rows = read(options.out)
        if others := {row["settings"] for row in rows} - {settings}:
            raise SystemExit(
                f"all rows of a table must be measured alike; found {', '.join(others)} in {options.out}, and "
                f"asked for is {settings}: give another file as --out"
            )
        done = {(row["method"], float(row["keep"])) for row in rows}
        cases = [(name, keep) for keep in options.keeps for name in options.methods if (name, keep) not in done]
        if not cases:
            return
        task = self.load(options)
        if ("dense", 1.0) not in done:
            append(
                options.out,
                {"method": "dense", "keep": 1.0, "settings": settings, **self._figures(task, task.model, None, 0.0)},
            )
        criteria: dict[str, Any] = {}
        for name, keep in cases:
            model = copy.deepcopy(task.model)
            start = time.process_time()
            plan = prune(task, model, self.methods[name], keep, criteria)
            row = self._figures(task, model, plan, time.process_time() - start)
            append(options.out, {"method": name, "keep": keep, "settings": settings, **row})
            print(name, keep, row, file=sys.stderr, flush=True)

    def _figures(self, task: Task, model: nn.Module, plan: tp.Plan | None, seconds: float) -> dict[str, Any]:
        figures = {name: f"{value:.5g}" for name, value in task.measure(model).items()}
        parameters = sum(parameter.numel() for parameter in model.parameters())
        macs = f"{plan.after.macs / plan.before.macs:.4f}" if plan else "1"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        own = {"parameters": parameters, "macs": macs, "cpu_seconds": round(seconds), "gigabytes": f"{memory:.1f}"}
        return {**figures, **own}

    def render(self, path: Path) -> None:
        """The rows as a Markdown table beside them: a line for each method, a group of columns for each share."""
        rows = read(path)
        dense = next(row for row in rows if row["method"] == "dense")
        keeps = sorted({float(row["keep"]) for row in rows} - {1.0}, reverse=True)
        names = [name for name in self.methods if any(row["method"] == name for row in rows)]
        head = [f"{100 * keep:.0f} % of the {self.share}: {column}" for keep in keeps for column in self.columns]
        cells = {(row["method"], float(row["keep"])): row for row in rows}

        def line(name: str) -> list[str]:
            found = [(cells.get((name, keep)), column) for keep in keeps for column in self.columns]
            return [name, *("" if row is None else format(float(row[c]), self.columns[c]) for row, c in found)]

        whole = ["dense", *(format(float(dense[column]), form) for _ in keeps for column, form in self.columns.items())]
        parts = [heading(self.title, machine("torch", *self.packages)), table(["", *head], [whole, *map(line, names)])]
        path.with_suffix(".md").write_text("\n".join(parts) + "\n")


# ---------------------------------------------------------------- rows


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    if not path.is_file():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def append(path: Path, row: Mapping[str, Any]) -> None:
    """One more row; the first one makes the file."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
