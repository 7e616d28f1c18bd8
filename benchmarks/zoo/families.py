"""What is frozen in each family, and why: results/zoo/frozen.csv, and in docs/coverage.md by kind of reason."""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Row = dict[str, str]

# The reasons of the engine say which tensor and where; a kind does not.
_NAMES = [
    (re.compile(r" at (?!.* at ).*:\d+ in \S+$"), ""),
    (re.compile(r"^.*(never ran in any trace)"), r"it, or a tensor beside it, \1"),
    (re.compile(r"dimension \d+ of"), "a dimension of"),
    (re.compile(r"the literal \d+"), "a literal"),
    (re.compile(r"^(\w+): (meets a dimension|picked|convol|depends)"), r"\2"),
    (re.compile(r"^the code needs .*"), "the code ties it to another size by a number"),
]


@dataclass(frozen=True, slots=True)
class Frozen:
    """The largest part of parameters on no group that one reason keeps there, over the models of a family."""

    zoo: str
    family: str
    models: int
    median_share: float
    least_share: float
    frozen: float
    reason: str
    model: str

    @property
    def kind(self) -> str:
        """The reason without names and numbers."""
        found = self.reason
        for pattern, plain in _NAMES:
            found = pattern.sub(plain, found)
        return found


def by_family(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each family."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["family"], []).append(row)
    return dict(sorted(found.items()))


def frozen(zoo: str, rows: Iterable[Row]) -> list[Frozen]:
    """One for each family, the largest first."""
    found = []
    for family, members in by_family(row for row in rows if row["prunable_share"]).items():
        worst = max(members, key=_frozen_share)
        shares = [float(row["prunable_share"]) for row in members]
        reason = worst["largest_frozen"].partition(": ")[2]
        median = statistics.median(shares)
        found.append(
            Frozen(zoo, family, len(members), median, min(shares), _frozen_share(worst), reason, worst["model"])
        )
    return sorted(found, key=lambda one: (-one.frozen, one.family))


def _frozen_share(row: Row) -> float:
    return float(row["largest_frozen"].partition("%")[0] or 0) / 100


def kinds(found: Iterable[Frozen]) -> list[list[str]]:
    """[kind, families, the largest share, its family] of those reasons that keep at least 1 % in some family."""
    grouped: dict[str, list[Frozen]] = {}
    for one in found:
        if one.frozen >= 0.01:
            grouped.setdefault(one.kind, []).append(one)
    ordered = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return [[kind, str(len(ones)), f"{ones[0].frozen:.1%}", ones[0].family] for kind, ones in ordered]


def write(path: Path, found: Iterable[Frozen]) -> None:
    """All families with their reasons as they stand."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Frozen.__dataclass_fields__)
        for one in found:
            cells = [getattr(one, name) for name in Frozen.__dataclass_fields__]
            writer.writerow([round(cell, 4) if isinstance(cell, float) else cell for cell in cells])
