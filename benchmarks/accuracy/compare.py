"""Accuracy against cost, on Fashion-MNIST: before any training, and after the same short fine-tune for every method.

python benchmarks/accuracy/compare.py run                       # all networks and seeds
python benchmarks/accuracy/compare.py run --networks resnet20   # one table
python benchmarks/accuracy/compare.py run --networks resnet20 --upstream upstream     # see upstream.py
python benchmarks/accuracy/compare.py report                    # tables and figures of all that is there

Results go to benchmarks/results/accuracy.csv, row by row, so a run that was interrupted goes on where it stopped. One
seed is finished for all networks before the next begins, the usual methods before the others.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import torch
from methods import BASELINE, Case, Method, fine_tune, methods_of, pruned
from networks import NETWORKS
from report import report
from torch import nn
from training import DENSE_STEPS, Data, accuracy, dense, fashion_mnist
from upstream import name, pruned_upstream

import torch_pruning as tp

RESULTS = Path(__file__).parents[1] / "results" / "accuracy.csv"
BUDGETS = (0.1, 0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Row:
    """Accuracies in percent on the 10,000 test images, shares of the dense network's, processor seconds of pruning.

    `before` fine-tuning is what no labels were needed for, unless the method trains before or between pruning.
    """

    network: str
    dense_steps: int
    dense: float
    method: str
    budget: float
    seed: int
    before: float
    after: float
    macs: float
    parameters: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, float, int]:
        return self.network, self.method, self.budget, self.seed


def read(path: Path) -> list[Row]:
    """All rows that are there; of two of the same case, which processes side by side may leave, the first."""
    if not path.is_file():
        return []
    kinds = {"str": str, "int": int, "float": float}
    with path.open() as file:
        lines = list(csv.DictReader(file))
    found = [Row(**{f.name: kinds[str(f.type)](line[f.name]) for f in fields(Row)}) for line in reversed(lines)]
    return list(reversed({row.key: row for row in found}.values()))


def append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def cases(networks: Sequence[str], seeds: Sequence[int], upstream: Path | None) -> Iterator[tuple[str, Case]]:
    """Network and case: the first part of the methods, a whole seed after another, then the second, then upstream's."""
    for part, seed, network in product((0, 1), seeds, networks):
        for method, budget in product(methods_of(network)[part], BUDGETS):
            yield network, Case(method, budget, seed)
    if upstream is not None:
        method = Method("l2 of groups", name(upstream), BASELINE)
        for seed, network, budget in product(seeds, networks, BUDGETS):
            yield network, Case(method, budget, seed)


class Bench:
    """The data and the dense networks, each loaded when it is first asked for; Torch-Pruning lies in `upstream`."""

    def __init__(self, upstream: Path | None) -> None:
        self.upstream = upstream
        self.data: Data = fashion_mnist()
        self._dense: dict[str, tuple[nn.Module, float]] = {}

    def dense(self, network: str) -> tuple[nn.Module, float]:
        """The trained network and its accuracy."""
        if network not in self._dense:
            model = dense(network, self.data)
            self._dense[network] = model, accuracy(model, self.data)
        return self._dense[network]

    def measure(self, network: str, case: Case) -> Row:
        """Prune, measure, fine-tune, measure."""
        model, accuracy_of_dense = self.dense(network)
        start = time.process_time()
        small = self._pruned(network, model, case)
        seconds = time.process_time() - start
        x = self.data.test[:1]
        (macs, parameters), (macs_left, parameters_left) = (tp.utils.count_ops_and_params(m, x) for m in (model, small))
        before = accuracy(small, self.data)
        fine_tune(small, self.data, case)
        return Row(
            network,
            DENSE_STEPS[network],
            round(accuracy_of_dense, 2),
            case.method.name,
            case.budget,
            case.seed,
            round(before, 2),
            round(accuracy(small, self.data), 2),
            round(macs_left / macs, 4),
            round(parameters_left / parameters, 4),
            round(seconds, 1),
        )

    def _pruned(self, network: str, model: nn.Module, case: Case) -> nn.Module:
        if self.upstream is None or case.method.scope != name(self.upstream):
            return pruned(model, self.data, case)
        calibration = self.data.calibration(case.seed)
        small = copy.deepcopy(pruned_upstream(network, model, calibration[0][:1], case.budget, self.upstream))
        tp.recovery.reestimate_batch_norm(small, calibration)
        return small


def run(networks: Sequence[str], seeds: Sequence[int], path: Path, upstream: Path | None) -> None:
    """Every case that is not there yet: looked up each time, so that several processes may share the work."""
    bench = Bench(upstream)
    for network, case in cases(networks, seeds, upstream):
        if (network, case.method.name, case.budget, case.seed) not in {row.key for row in read(path)}:
            row = bench.measure(network, case)
            append(path, row)
            print(*asdict(row).values(), sep="  ", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--upstream", type=Path, help="folder into which torch-pruning was installed with --target")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "report":
        return report(read(options.out), options.out)
    run(options.networks, options.seeds, options.out, options.upstream)


if __name__ == "__main__":
    main()
