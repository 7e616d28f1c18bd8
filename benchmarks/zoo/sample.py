"""tests/zoo/sample.csv: about 100 small models that were exact, drawn from all families of all zoos.

python benchmarks/zoo/sample.py [--seed 0] [--count 100]

Families take turns in an order that the seed decides, until there are enough models; of each family one at random.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

from coverage import ROOT, Row, Table, tables

SAMPLE = ROOT / "tests" / "zoo" / "sample.csv"
COLUMNS = ["zoo", "model", "prunable_share"]
# Of what runs in a few seconds.
MOST_PARAMETERS = 15_000_000
MOST_OPS = 600


def candidates(table: Table) -> dict[str, list[Row]]:
    """The small models that were exact, by family."""
    found: dict[str, list[Row]] = {}
    for row in table.of("exact"):
        if int(row["parameters"]) <= MOST_PARAMETERS and int(row["ops"]) <= MOST_OPS:
            found.setdefault(row["family"], []).append(row)
    return found


def draw(found: list[Table], count: int, seed: int) -> list[tuple[str, Row]]:
    """(zoo, row): family after family, zoos mixed, then the same again for a second of each."""
    generator = random.Random(seed)
    strata = [(table.zoo, rows) for table in found for _, rows in sorted(candidates(table).items())]
    generator.shuffle(strata)
    for _, rows in strata:
        generator.shuffle(rows)
    turns = max((len(rows) for _, rows in strata), default=0)
    drawn = [(zoo, rows[turn]) for turn in range(turns) for zoo, rows in strata if turn < len(rows)]
    return sorted(drawn[:count], key=lambda pair: (pair[0], pair[1]["model"]))


def write(path: Path, drawn: list[tuple[str, Row]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([zoo, row["model"], row["prunable_share"]] for zoo, row in drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    write(SAMPLE, draw(tables(), options.count, options.seed))


if __name__ == "__main__":
    main()
