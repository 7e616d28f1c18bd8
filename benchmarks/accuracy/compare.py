"""Accuracy against cost, on Fashion-MNIST: one command per table.

Results go to benchmarks/results/accuracy.csv, row by row, so a run that was interrupted goes on where it stopped.

python benchmarks/accuracy/compare.py one-shot --network resnet20       # before any training
python benchmarks/accuracy/compare.py tuned --network resnet20          # after a fixed short fine-tune
python benchmarks/accuracy/compare.py report                            # tables and figures of all that is there
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from methods import METHODS, TUNED, Method, prune
from networks import NETWORKS
from report import report
from training import accuracy, dense, fashion_mnist, train

RESULTS = Path(__file__).parents[1] / "results" / "accuracy.csv"
BUDGETS = (0.5, 0.25, 0.1)
TUNING_STEPS = 150
TUNING_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """Accuracies in percent on the 10,000 test images; `tuned` is empty before fine-tuning."""

    network: str
    dense_steps: int
    dense: float
    method: str
    budget: float
    seed: int
    accuracy: float
    tuned: str
    seconds: float

    @property
    def key(self) -> tuple[str, ...]:
        return self.network, str(self.dense_steps), self.method, str(self.budget), str(self.seed), str(bool(self.tuned))


def done(path: Path) -> set[tuple[str, ...]]:
    """The keys of the rows that are there."""
    return {row.key for row in read(path)}


def read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open() as file:
        return [
            Row(
                r["network"],
                int(r["dense_steps"]),
                float(r["dense"]),
                r["method"],
                float(r["budget"]),
                int(r["seed"]),
                float(r["accuracy"]),
                r["tuned"],
                float(r["seconds"]),
            )
            for r in csv.DictReader(file)
        ]


def append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def run(
    network: str, steps: int, cases: Iterable[tuple[Method, float, int]], path: Path, *, tune: bool = False
) -> None:
    """Prune the dense network once for each case that is not done yet, measure, fine-tune if asked, measure again."""
    data = fashion_mnist()
    model = dense(network, data, steps=steps)
    known = [row.dense for row in read(path) if (row.network, row.dense_steps) == (network, steps)]
    before = known[0] if known else accuracy(model, data)
    there = done(path)
    for method, budget, seed in cases:
        if (network, str(steps), method.name, str(budget), str(seed), str(tune)) in there:
            continue
        pruned = copy.deepcopy(model)
        start = time.perf_counter()
        prune(pruned, data, method, budget, seed)
        seconds = time.perf_counter() - start
        found = accuracy(pruned, data)
        tuned = ""
        if tune:
            train(pruned, data, steps=TUNING_STEPS, rate=TUNING_RATE, seed=seed)
            tuned = f"{accuracy(pruned, data):.2f}"
        row = Row(
            network, steps, round(before, 2), method.name, budget, seed, round(found, 2), tuned, round(seconds, 1)
        )
        append(path, row)
        print(f"{network} {budget} seed {seed} {method.name}: {found:.2f} {tuned}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("one-shot", "tuned", "report"))
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet20")
    parser.add_argument("--steps", type=int, default=1000, help="of 128 images, of training the dense network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--first", type=int, help="only so many of the methods")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "report":
        return report(read(options.out), options.out)
    methods = (METHODS if options.what == "one-shot" else TUNED)[: options.first]
    cases = [(m, budget, seed) for seed in range(options.seeds) for budget in options.budgets for m in methods]
    run(options.network, options.steps, cases, options.out, tune=options.what == "tuned")


if __name__ == "__main__":
    main()
