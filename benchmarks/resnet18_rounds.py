"""Parameters and accuracy of ResNet-18, pruned in rounds, as a table: what examples/prune_resnet18_cifar10.py printed.

    run="python examples/prune_resnet18_cifar10.py --data fashion-mnist --bfloat16 --batch_size 128 --limit 20000"
    { $run --mode train --total_epochs 3 --step_size 2 --lr 0.03
      for round in 1 2 3 4 5; do $run --mode prune --round $round --total_epochs 2 --step_size 1 --lr 0.02; done
    } | tee rounds.log
    python benchmarks/resnet18_rounds.py rounds.log

Beside it stand the figures of the original example on CIFAR-10, which trained for 200 epochs and 30 after each round.
"""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from machine import heading, machine, table

OUT = Path(__file__).parent / "results" / "resnet18_rounds"
# Millions of parameters and accuracy on CIFAR-10 in percent, where they were given.
ORIGINAL = ((11.1, 92.5), (4.5, None), (1.9, None), (0.8, None), (0.4, 91.0), (0.2, 90.1))
COLUMNS = ["round", "parameters", "accuracy", "CIFAR-10: parameters", "CIFAR-10: accuracy"]


@dataclass(frozen=True, slots=True)
class Round:
    """A model after its training; accuracy in percent after the last epoch, not the best."""

    parameters: int
    accuracy: float


def rounds(log: str) -> list[Round]:
    """One for each line with parameters that is followed by an epoch."""
    found: list[Round] = []
    for line in log.splitlines():
        if line.endswith("parameters"):
            found.append(Round(int(re.findall(r"[\d,]+", line)[-1].replace(",", "")), float("nan")))
        elif epoch := re.fullmatch(r"epoch \d+/\d+: accuracy ([\d.]+)", line):
            found[-1] = Round(found[-1].parameters, 100 * float(epoch[1]))
    return [item for item in found if item.accuracy == item.accuracy]


def main() -> None:
    found = rounds(Path(sys.argv[1]).read_text())
    lines = []
    for number, item in enumerate(found):
        millions, accuracy = ORIGINAL[number] if number < len(ORIGINAL) else (None, None)
        theirs = ["" if millions is None else f"{millions} M", "" if accuracy is None else f"{accuracy} %"]
        lines.append([str(number), f"{item.parameters:,}", f"{item.accuracy:.1f} %", *theirs])
    with OUT.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "parameters", "accuracy"])
        writer.writerows([number, item.parameters, round(item.accuracy, 2)] for number, item in enumerate(found))
    head = heading("ResNet-18 in rounds, on Fashion-MNIST", machine("torch"))
    OUT.with_suffix(".md").write_text(f"{head}\n{__doc__}\n{table(COLUMNS, lines)}\n")


if __name__ == "__main__":
    main()
