"""Tables in Markdown and figures in SVG from the rows of compare.py."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import heading, machine, table

if TYPE_CHECKING:
    from compare import Row

SHOWN = {
    "l2, local, none": "L2",
    "l2, local, batch_norm": "L2, batch norm",
    "taylor, local, batch_norm": "Taylor, batch norm",
    "l2, local, least_squares": "L2, least squares",
    "reconstruction, cost, least_squares": "reconstruction, least squares",
}


def report(rows: Sequence[Row], path: Path) -> None:
    """Write accuracy.md and a figure for each network beside the CSV."""
    parts = [heading("Accuracy against cost on Fashion-MNIST", machine("torch", "numpy"))]
    for network in dict.fromkeys(row.network for row in rows):
        for tuned in (False, True):
            some = [row for row in rows if row.network == network and bool(row.tuned) == tuned]
            if some:
                parts += [_title(network, some, tuned), _table(some, tuned), ""]
        if one_shot := [row for row in rows if row.network == network and not row.tuned]:
            _figure(one_shot, path.with_name(f"accuracy_{network}.svg"))
            parts += [f"![{network}](accuracy_{network}.svg)", ""]
    path.with_suffix(".md").write_text("\n".join(parts))


def _title(network: str, rows: Sequence[Row], tuned: bool) -> str:
    when = "after the same short fine-tune" if tuned else "before any training"
    seeds = len({row.seed for row in rows})
    of_seeds = "one seed" if seeds == 1 else f"mean and deviation of {seeds} seeds"
    return f"## {network}, dense {rows[0].dense:.2f} % after {rows[0].dense_steps} steps, {when} ({of_seeds})\n"


def _table(rows: Sequence[Row], tuned: bool) -> str:
    budgets = sorted({row.budget for row in rows}, reverse=True)
    cells: dict[tuple[str, float], list[float]] = defaultdict(list)
    for row in rows:
        cells[row.method, row.budget].append(float(row.tuned) if tuned else row.accuracy)
    methods = list(dict.fromkeys(row.method for row in rows))
    columns = ["criterion, scope, recovery", *(f"{budget:.0%} of the MACs" for budget in budgets)]
    return table(columns, [[method, *(_cell(cells[method, budget]) for budget in budgets)] for method in methods])


def _cell(values: Sequence[float]) -> str:
    """`mean ± deviation` of the seeds."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _figure(rows: Sequence[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "accuracy"
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4))
    for method, label in SHOWN.items():
        found: dict[float, list[float]] = defaultdict(list)
        for row in rows:
            if row.method == method:
                found[row.budget].append(row.accuracy)
        budgets = sorted(found)
        if budgets:
            means = [statistics.mean(found[budget]) for budget in budgets]
            axis.plot(budgets, means, marker="o", label=label)
    axis.axhline(rows[0].dense, color="gray", linestyle=":", label="dense")
    axis.set_xscale("log")
    axis.set_xticks(sorted({row.budget for row in rows}), [f"{b:.0%}" for b in sorted({row.budget for row in rows})])
    axis.set_xlabel("MACs kept")
    axis.set_ylabel("accuracy before any training, %")
    axis.set_ylim(0, 100)
    axis.legend(loc="lower right", fontsize="small")
    axis.set_title(rows[0].network)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
