"""docs/coverage.md: totals per zoo, and by name everything that is not as it should be."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from families import Frozen, by_family, frozen, kinds, write

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zoo"
ZOOS = ["torchvision", "timm", "transformers", "diffusers", "ultralytics", "torchaudio", "torch_geometric"]

Row = dict[str, str]

HEAD = """# Coverage: every model of five zoos, and some of two more

Random weights, on the CPU, one thread. For each model that is *executed*: 40 % of the units of every exact group are
removed at random, and values and parameter gradients are compared with the masked original in float64, in evaluation
and in training mode (`exact`: equal to 1e-9, by a probe that sees a difference from the dense model). Then 40 % of all
groups go, inexact ones too: the model runs with output shapes unchanged, takes a step of training and, where asked
for, is exported. Models that are *traced* are analysed, planned, pruned and run on tensors without data, where every
size and the sequence of ops must be as predicted.

What does not run unpruned here (a package that is missing, a configuration that its library refuses) is no model of
these tables, and is listed by name. `no exact group`: every group passes a layer norm, a softmax or the like over its
units, so that nothing can be compared; the model is pruned all the same. A family is *good* if nothing in it falls
short and, where any of it is executed, some of it is exact.

A name without a row has not been measured yet. On 28 November 2026 the zoos had 121 (torchvision), 1,371 (timm),
1,110 (transformers, a base model and a head of each family), 44 (diffusers) and 246 names (ultralytics). Of torchaudio
there is one model of most kinds that it has, of torch_geometric most of its models and two layers of most convolutions.

The tables are made by `make zoo-torchvision`, `zoo-timm`, `zoo-transformers`, `zoo-diffusers`, `zoo-ultralytics`,
`zoo-torchaudio`, `zoo-torch_geometric` and `python benchmarks/zoo/slowest.py`; this page is written from them by
`make zoo-coverage`.
"""

# Of zoos that have goals: the least share of names, of families, and of parameters in prunable groups (the median).
GOALS: dict[str, tuple[float, float, float]] = {
    "torchvision": (1.0, 1.0, 0.9),
    "timm": (0.99, 1.0, 0.9),
    "transformers": (0.0, 0.97, 0.8),
    "diffusers": (1.0, 1.0, 0.0),
    "ultralytics": (1.0, 1.0, 0.0),
}


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
    def families(self) -> dict[str, list[Row]]:
        """The rows of what runs unpruned, by family."""
        return by_family(self.ran)

    @property
    def good_families(self) -> list[str]:
        """Those of which nothing falls short, and of which something was exact where anything was executed."""
        bad = {row["family"] for row in self.failures}
        shown = {row["family"] for row in self.of("exact")} | {row["family"] for row in self.of("traced")}
        return [family for family in self.families if family in shown and family not in bad]

    @property
    def without_embeddings(self) -> list[float]:
        """Shares of parameters in prunable groups, tables of embeddings left out."""
        return [float(row["share_without_embeddings"]) for row in self.ran if row.get("share_without_embeddings")]

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
    slow = _slowest()
    reasons = {table.zoo: frozen(table.zoo, table.ran) for table in found}
    write(RESULTS / "frozen.csv", [one for ones in reasons.values() for one in ones])
    sections = [_section(table, reasons[table.zoo], slow.get(table.zoo, [])) for table in found]
    parts = [HEAD, _totals(found), "\n## Against the goals\n", _goals(found), *sections]
    (ROOT / "docs" / "coverage.md").write_text("\n".join(parts) + "\n")


def _slowest() -> dict[str, list[Row]]:
    """The rows of slowest.csv by zoo, the slowest first."""
    path = RESULTS / "slowest.csv"
    found: dict[str, list[Row]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in sorted(csv.DictReader(file), key=lambda row: -float(row["again_s"])):
                found.setdefault(row["zoo"], []).append(row)
    return found


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
    ("families", lambda table: str(len(table.families))),
    ("good families", lambda table: str(len(table.good_families))),
    ("prunable share, median", lambda table: _median([share for share, _ in table.shares])),
    ("the same without embeddings", lambda table: _median(table.without_embeddings)),
    ("prunable share, least", lambda table: _percent(min([share for share, _ in table.shares] or [0.0]))),
]


def _median(shares: list[float]) -> str:
    return _percent(statistics.median(shares)) if shares else "not measured"


def _goals(found: list[Table]) -> str:
    """What was found, and what is wanted."""
    rows = []
    for table in found:
        names, families, share = GOALS.get(table.zoo, (0.0, 0.0, 0.0))
        good = len(table.ran) - len(table.failures)
        rows.append(
            [
                table.zoo,
                _share_of(good, len(table.ran), names),
                _share_of(len(table.good_families), len(table.families), families),
                _share_wanted(table, share),
            ]
        )
    return _markdown(["", "names as they should be", "good families", "prunable share, median"], rows)


def _share_of(part: int, whole: int, goal: float) -> str:
    wanted = f", goal {goal:.0%}" if goal else ""
    return f"{part} of {whole}: {part / max(1, whole):.1%}{wanted}"


def _share_wanted(table: Table, goal: float) -> str:
    without = table.without_embeddings if table.zoo == "transformers" else []
    found = f"{_median(without)} without embeddings" if without else _median([share for share, _ in table.shares])
    return f"{found}, goal {goal:.0%}" if goal else found


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


def _section(table: Table, reasons: list[Frozen], slow: list[Row]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in table.measured.items())
    left = table.of("skipped", "does not run")
    lines = [
        f"\n## {table.zoo}\n",
        f"{about}. All rows: [{table.zoo}.csv](../benchmarks/results/zoo/{table.zoo}.csv).\n",
        "### Not as it should be\n",
        _rows(["model", "status", "cause"], [[r["model"], r["status"], _shortfall(r)] for r in table.failures]),
        "\n### No exact group\n",
        ", ".join(row["model"] for row in table.of("no exact group")) + "." if table.of("no exact group") else "None.",
        "\n### The ten smallest shares of parameters in prunable groups\n",
        _rows(["model", "share", "largest part that is frozen"], _worst(table)),
        "\n### What freezes the largest part, over families\n",
        "Reasons that keep 1 % of the parameters of a family, or more, from all groups; by family, with module and "
        "line: [frozen.csv](../benchmarks/results/zoo/frozen.csv).\n",
        _rows(["reason", "families", "at most", "in"], kinds(reasons)),
        "\n### The ten slowest traces\n",
        _rows(SLOW_HEADS, [_slow(row) for row in slow[:10]]) if slow else "Not measured.",
        "\n### Skipped, or not running unpruned\n",
        _rows(["model", "", "cause"], [[row["model"], row["status"], row["cause"]] for row in left]),
    ]
    return "\n".join(lines)


def _worst(table: Table) -> list[list[str]]:
    return [[row["model"], _percent(share), row["largest_frozen"]] for share, row in table.shares[:10]]


SLOW_HEADS = ["model", "ops, all runs", "runs", "CPU seconds", "ms per op", "the first time, with imports"]


def _slow(row: Row) -> list[str]:
    again = float(row["again_s"])
    return [
        row["model"],
        row["ops"],
        row["runs"],
        row["again_s"],
        f"{1e3 * again / int(row['ops']):.2f}",
        row["first_s"],
    ]


def _shortfall(row: Row) -> str:
    """The cause, or what a row without one falls short in."""
    if row["cause"] and row["status"] != "WRONG":
        return row["cause"]
    columns = ("error", "gradient_error", "train_error", "sensitivity", "forward", "trains", "exports")
    return ", ".join(f"{column} {row[column]}" for column in columns if row[column])


def _rows(heads: list[str], rows: list[list[str]]) -> str:
    return _markdown(heads, rows) if rows else "None."


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    table = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)
