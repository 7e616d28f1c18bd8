"""Tables in Markdown and figures in SVG from the rows of compare.py."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import heading, machine, table
from methods import TUNING_STEPS

if TYPE_CHECKING:
    from compare import Row

OURS = "reconstruction, "
# Method, up to the recovery that stands for its baseline -> label and colour in the figures.
SHOWN = {
    "random, local": ("random", "tab:gray"),
    "l2, local": ("L2", "tab:orange"),
    "taylor, local": ("Taylor", "tab:green"),
    "l2, local, group lasso training": ("group lasso training", "tab:brown"),
    "l2, local, least_squares": ("L2, least squares", "tab:red"),
    "reconstruction, local, least_squares": ("reconstruction, least squares", "tab:blue"),
    "reconstruction, cost, least_squares, in three rounds": ("the same by cost, in three rounds", "tab:purple"),
}
BASELINES = (", batch_norm", ", none")
TRAINED = ("training", "steps")  # ends of the names of methods that train before or between pruning
LEGEND = """Accuracy in percent on the 10,000 test images: mean ± standard deviation, or without ± a single seed. A seed
draws the 768 training images for calibration (each also mirrored), the units that go at random, and the order of
fine-tuning; the dense network is always the same. `before` any training; `after` the same {steps} steps of fine-tuning.
Names are criterion, scope, recovery; *in three rounds* prunes, and recovers, in three steps without training. *Group
lasso training* trains as many steps with the penalty first, *in three steps* fine-tunes a third after each of three
steps of pruning, so both have seen labels `before`: theirs stands in brackets.
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the seeds gave for one method at one budget."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float:
        """Of the seeds, the sample's; 0 for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.deviation:.1f}" if len(self.values) > 1 else f"{self.mean:.1f}"


def before(row: Row) -> float:
    return row.before


def after(row: Row) -> float:
    return row.after


def figures(rows: Sequence[Row], of: Callable[[Row], float]) -> dict[tuple[str, float], Figures]:
    """{(method, budget): figures}"""
    keys = dict.fromkeys((row.method, row.budget) for row in rows)
    return {key: Figures(tuple(of(row) for row in rows if (row.method, row.budget) == key)) for key in keys}


def report(rows: Sequence[Row], path: Path) -> None:
    """Write accuracy.md and a figure for each network beside the CSV."""
    parts = [
        heading("Accuracy against cost on Fashion-MNIST", machine("torch", "numpy")),
        LEGEND.format(steps=TUNING_STEPS),
    ]
    networks = list(dict.fromkeys(row.network for row in rows))
    parts += ["## Ours beside the best other\n", _margins(rows, networks), ""]
    for network in networks:
        some = [row for row in rows if row.network == network]
        seeds = len({row.seed for row in some})
        parts.append(
            f"## {network}: dense {some[0].dense:.2f} % after {some[0].dense_steps} steps of 128 images, "
            f"{'one seed' if seeds == 1 else f'up to {seeds} seeds'}\n"
        )
        parts += [_table(some), ""]
        _figure(some, path.with_name(f"accuracy_{network}.svg"))
        parts += [f"![{network}](accuracy_{network}.svg)", ""]
    path.with_suffix(".md").write_text("\n".join(parts))


def _table(rows: Sequence[Row]) -> str:
    budgets = sorted({row.budget for row in rows}, reverse=True)
    columns = ["criterion, scope, recovery", *(f"{b:.0%} {when}" for when in ("before", "after") for b in budgets)]
    found = [figures(rows, before), figures(rows, after)]
    lines = []
    for method in sorted({row.method for row in rows}, key=lambda name: (not name.startswith(OURS), name)):
        cells = [[str(of.get((method, budget), "")) for budget in budgets] for of in found]
        if method.endswith(TRAINED):
            cells[0] = [f"({cell})" for cell in cells[0]]
        lines.append([method, *cells[0], *cells[1]])
    return table(columns, lines)


def _margins(rows: Sequence[Row], networks: Sequence[str]) -> str:
    """The best of ours and the best of the others, for each network and budget, before and after."""
    lines = []
    for network in networks:
        for budget in sorted({row.budget for row in rows if row.network == network}, reverse=True):
            some = [row for row in rows if (row.network, row.budget) == (network, budget)]
            untrained = [row for row in some if not row.method.endswith(TRAINED)]
            lines.append([f"{network}, {budget:.0%}", *_beside(untrained, before), *_beside(some, after)])
    columns = ["", "ours before", "best other before", "which", "ours after", "best other after", "which"]
    return table(columns, lines)


def _beside(rows: Sequence[Row], of: Callable[[Row], float]) -> list[str]:
    """Our best, the best other that neither chooses nor recovers as we do, and its name."""
    found = {method: values for (method, _), values in figures(rows, of).items()}
    ours = [values for method, values in found.items() if method.startswith(OURS)]
    others = {method: values for method, values in found.items() if "least_squares" not in method}
    if not ours or not others:
        return ["", "", ""]
    best = max(others, key=lambda method: others[method].mean)
    return [str(max(ours, key=lambda values: values.mean)), str(others[best]), best]


def _figure(rows: Sequence[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "accuracy"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    budgets = sorted({row.budget for row in rows})
    for axis, of, when in zip(axes, (before, after), ("before any training", "after fine-tuning"), strict=True):
        found = figures(rows, of)
        for method, (label, colour) in SHOWN.items():
            points = {b: f for (name, b), f in found.items() if _plain(name) == method}
            if points and not (of is before and method.endswith(TRAINED)):
                at = sorted(points)
                means, spread = [points[b].mean for b in at], [points[b].deviation for b in at]
                axis.errorbar(at, means, spread, marker="o", capsize=3, label=label, color=colour)
        axis.axhline(rows[0].dense, color="black", linestyle=":", label="dense")
        axis.set_xscale("log")
        axis.set_xticks(budgets, [f"{b:.0%}" for b in budgets])
        axis.minorticks_off()
        axis.set_xlabel("MACs kept")
        axis.set_ylabel("accuracy, %")
        axis.set_title(f"{rows[0].network}, {when}")
    axes[0].set_ylim(0, 100)
    axes[1].legend(loc="lower right", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _plain(method: str) -> str:
    """The name without a baseline's recovery, which differs between networks with and without batch norm."""
    for recovery in BASELINES:
        method = method.replace(recovery, "")
    return method
