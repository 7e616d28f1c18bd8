"""docs/coverage.md: totals per zoo, and by name everything that is not as it should be."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zoo"
ZOOS = ["torchvision", "timm", "transformers", "diffusers", "ultralytics"]

Row = dict[str, str]

HEAD = """# Coverage: every model of five zoos

Random weights, on the CPU, one thread. For each model that is *executed*: 40 % of the units of every exact group are
removed at random, and values and parameter gradients are compared with the masked original in float64, in evaluation
and in training mode (`exact`: equal to 1e-9, by a probe that sees a difference from the dense model). Then 40 % of all
groups go, inexact ones too: the model runs with output shapes unchanged, takes a step of training and, where asked
for, is exported. Models that are *traced* are analysed, planned, pruned and run on tensors without data, where every
size and the sequence of ops must be as predicted. Written by `python benchmarks/zoo/run.py --render`.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one zoo, and when and with what they were measured."""

    zoo: str
    rows: list[Row]
    measured: dict[str, str]

    def of(self, *statuses: str) -> list[Row]:
        return [row for row in self.rows if row["status"] in statuses]

    @property
    def ran(self) -> list[Row]:
        """The models that run unpruned here."""
        return [row for row in self.rows if row["status"] not in ("skipped", "does not run")]

    @property
    def executed(self) -> list[Row]:
        return [row for row in self.ran if row["depth"] == "executed"]

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.ran if row["status"] not in ("exact", "no exact group", "traced")]

    @property
    def shares(self) -> list[tuple[float, Row]]:
        """(share of parameters in prunable groups, row), the least first."""
        found = [(float(row["prunable_share"]), row) for row in self.ran if row["prunable_share"]]
        return sorted(found, key=lambda pair: pair[0])


def tables() -> list[Table]:
    """Those zoos of which there are results."""
    found = []
    for zoo in ZOOS:
        path = RESULTS / f"{zoo}.csv"
        if path.exists():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            about = path.with_suffix(".json")
            found.append(Table(zoo, rows, json.loads(about.read_text()) if about.exists() else {}))
    return found


def render() -> None:
    """Write docs/coverage.md from the tables that are there."""
    found = tables()
    parts = [HEAD, _totals(found), *map(_section, found)]
    (ROOT / "docs" / "coverage.md").write_text("\n".join(parts))


COUNTS: list[tuple[str, Callable[[Table], str]]] = [
    ("models", lambda table: str(len(table.rows))),
    ("run unpruned here", lambda table: str(len(table.ran))),
    ("executed", lambda table: str(len(table.executed))),
    ("exact", lambda table: str(len(table.of("exact")))),
    ("no exact group", lambda table: str(len(table.of("no exact group")))),
    ("all groups: forward", lambda table: str(sum(row["forward"] == "True" for row in table.executed))),
    ("trains", lambda table: _of(table, "trains")),
    ("exports", lambda table: _of(table, "exports")),
    ("traced and planned", lambda table: str(len(table.of("traced")))),
    ("not as it should be", lambda table: str(len(table.failures))),
    ("prunable share, median", lambda table: _percent(statistics.median([s for s, _ in table.shares] or [0.0]))),
    ("least", lambda table: _percent(min([s for s, _ in table.shares] or [0.0]))),
]


def _of(table: Table, column: str) -> str:
    """Of the originals that can (train, be exported), how many can when pruned."""
    tried = [row[column] for row in table.executed if row[column].startswith(("yes", "NO"))]
    return f"{sum(found.startswith('yes') for found in tried)} of {len(tried)}" if tried else "not measured"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _totals(found: list[Table]) -> str:
    heads = ["", *(table.zoo for table in found)]
    rows = [[label, *(count(table) for table in found)] for label, count in COUNTS]
    return _markdown(heads, rows)


def _section(table: Table) -> str:
    about = ", ".join(f"{key} {value}" for key, value in table.measured.items())
    lines = [
        f"\n## {table.zoo}\n",
        f"{about}. All rows: [{table.zoo}.csv](../benchmarks/results/zoo/{table.zoo}.csv).\n",
    ]
    lines.append("### Not as it should be\n")
    heads = ["model", "status", "cause"]
    lines.append(_rows(heads, [[r["model"], r["status"], r["cause"] or _shortfall(r)] for r in table.failures]))
    lines.append("\n### The ten smallest shares of parameters in prunable groups\n")
    worst = [[row["model"], _percent(share), row["largest_frozen"]] for share, row in table.shares[:10]]
    lines.append(_rows(["model", "share", "largest part that is frozen"], worst))
    lines.append("\n### The ten slowest traces\n")
    timed = sorted((row for row in table.ran if row["trace_s"]), key=lambda row: -float(row["trace_s"]))[:10]
    slow = [[r["model"], r["ops"], r["trace_s"], f"{1e3 * float(r['trace_s']) / int(r['ops']):.2f}"] for r in timed]
    lines.append(_rows(["model", "ops", "seconds, both modes and the graph", "ms per op"], slow))
    lines.append("\n### Skipped, or not running unpruned\n")
    left = table.of("skipped", "does not run")
    lines.append(_rows(["model", "", "cause"], [[row["model"], row["status"], row["cause"]] for row in left]))
    return "\n".join(lines)


def _shortfall(row: Row) -> str:
    """What a row without a cause falls short in."""
    columns = ("error", "gradient_error", "train_error", "sensitivity", "forward", "trains", "exports")
    return ", ".join(f"{column} {row[column]}" for column in columns if row[column])


def _rows(heads: list[str], rows: list[list[str]]) -> str:
    return _markdown(heads, rows) if rows else "None."


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    table = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)
