"""Sparse training moves the norms of chosen groups apart: the same network trained with each penalty, and without.

python benchmarks/sparse_training.py                        # scikit-learn's digits, a few minutes
python benchmarks/sparse_training.py --data fashion-mnist   # Debian's dataset-fashion-mnist, or downloaded

Chosen are the inner widths of the residual blocks; the residual widths are left to themselves, as a control. Written
are NAME.csv, NAME.md and NAME.png: how far apart the norms of units lie, and what half of the chosen units cost in
accuracy when they are removed without any training afterwards.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import heading, machine, table
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.graph.graph import Graph
from torch_pruning.pruner.sparsify_penalties import Penalty

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))

from digits import CLASSES, DigitsNet, Split, accuracy, digits  # noqa: E402  (the folder of examples is no package)

PENALTIES: dict[str, Penalty | None] = {
    "none": None,
    "equal decay": tp.GroupNormPenalty(reg=8e-3, alpha=0),
    "group norm": tp.GroupNormPenalty(reg=2e-3, alpha=4),
    "group lasso": tp.GroupLassoPenalty(reg=2e-2),
    "slimming": tp.BatchNormScalePenalty(reg=1e-2),
    "slimming, grouped": tp.BatchNormScalePenalty(reg=1e-2, group_lasso=True),
    "growing": tp.GrowingPenalty(reg=2e-3, delta_reg=4e-3),
}
UPDATES = 10  # how often growing strengths grow
COLUMNS = ["penalty", "accuracy", "half removed", "spread, chosen", "tiny, chosen", "spread, others", "tiny, others"]
LEGEND = """from the same start and in the same order of batches. Chosen are the inner widths of the residual blocks;
the others are a control. `half removed`: accuracy after removing half of the chosen units by magnitude, without more
training. `spread`: 90 % quantile over 10 % quantile of the norms of units, geometric mean over groups. `tiny`: the
share of units with a norm below a tenth of the largest of their group. Norms are over all parameters of a unit;
slimming moves the scales of batch norms alone, a small part of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """`spread`: geometric mean over groups of (90 % quantile / 10 % quantile of norms); `tiny`: the share of units with
    a norm below a tenth of the largest of their group."""

    penalty: str
    accuracy: float
    half_removed: float
    spread: float
    tiny: float
    spread_others: float
    tiny_others: float

    def cells(self) -> list[str]:
        numbers = [
            f"{self.accuracy:.1%}", f"{self.half_removed:.1%}", f"{self.spread:.2f}", f"{self.tiny:.1%}",
            f"{self.spread_others:.2f}", f"{self.tiny_others:.1%}",
        ]  # fmt: skip
        return [self.penalty, *numbers]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "data")
    parser.add_argument("--images", type=int, default=6000, help="training images of fashion-mnist")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    training, test = digits() if options.data == "digits" else _fashion(options.folder, options.images)
    torch.manual_seed(0)
    start = DigitsNet(options.width)
    rows, norms = [], {}
    for name, penalty in PENALTIES.items():
        row, norms[name] = _trained(copy.deepcopy(start), name, penalty, training, test, options.epochs)
        print(table(COLUMNS, [row.cells()]).splitlines()[-1], flush=True)
        rows.append(row)
    out = options.out or HERE / "results" / f"sparse_training_{options.data}"
    _write(out, rows, norms, options)


def _fashion(folder: Path, count: int) -> tuple[Split, Split]:
    """Reduced to 14 x 14 pixels, which the small network reads in a quarter of the time."""
    from image_data import load_images

    images = load_images("fashion-mnist", folder)
    half = torch.nn.functional.avg_pool2d
    return (
        Split(half(images.training[:count], 2), images.training_labels[:count]),
        Split(half(images.test, 2), images.test_labels),
    )


def _chosen(graph: Graph, model: nn.Module) -> tuple[list[str], list[str]]:
    """(inner widths of the blocks, residual widths): a residual width is produced by several convolutions."""
    inner = {group.name for group in graph.groups if sum(m.role == "produced" for m in group.members) == 1}
    return sorted(inner), [group.name for group in graph.groups if group.name not in inner]


def _trained(
    model: nn.Module, name: str, penalty: Penalty | None, training: Split, test: Split, epochs: int
) -> tuple[Row, dict[str, Tensor]]:
    graph = tp.build_graph(model, [tp.Example(training.images[:2])])
    chosen, others = _chosen(graph, model)
    regularizer = None if penalty is None else tp.Regularizer(graph, penalty, groups=chosen)
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        _epoch(model, optimizer, training, regularizer)
        schedule.step()
        if regularizer is not None and epoch % max(1, epochs // UPDATES) == 0:
            regularizer.update()
    measured = tp.Regularizer(graph, tp.GroupNormPenalty()).norms()
    score = accuracy(model, test)
    pruned = _half_removed(model, chosen, test)
    parts = [_apart([measured[group] for group in names]) for names in (chosen, others)]
    return Row(name, score, pruned, *parts[0], *parts[1]), {group: measured[group].flatten() for group in chosen}


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data: Split, regularizer: tp.Regularizer | None) -> None:
    model.train()
    for batch in torch.randperm(len(data.labels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
        if regularizer is not None:
            regularizer.regularize(model)
        optimizer.step()


def _half_removed(model: nn.Module, chosen: list[str], test: Split) -> float:
    """Accuracy of a copy from which the less important half of every chosen group is removed; no training follows."""
    smaller = copy.deepcopy(model)
    kept = [name for name, _ in smaller.named_modules() if name and name not in chosen]
    leaves = [smaller.get_submodule(name) for name in kept if not list(smaller.get_submodule(name).children())]
    convolutions = [module for module in leaves if isinstance(module, (nn.Conv2d, nn.Linear))]
    tp.prune(smaller, test.images[:2], pruning_ratio=0.5, ignore=convolutions)
    return accuracy(smaller, test)


def _apart(norms: list[Tensor]) -> tuple[float, float]:
    """(spread, share of tiny units); see `Row`."""
    ratios = torch.stack([n.quantile(0.9) / n.quantile(0.1).clamp(min=1e-8) for n in norms])
    tiny = torch.cat([(n < 0.1 * n.max()).flatten() for n in norms])
    return ratios.log().mean().exp().item(), tiny.float().mean().item()


def _write(out: Path, rows: list[Row], norms: dict[str, dict[str, Tensor]], options: argparse.Namespace) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["penalty", "group", "unit", "norm"])
        for penalty, groups in norms.items():
            for group, values in groups.items():
                ordered = values.sort(descending=True).values.tolist()
                writer.writerows([penalty, group, unit, f"{norm:.6g}"] for unit, norm in enumerate(ordered))
    head = heading(f"Sparse training: {options.data}", machine("torch"))
    trained = f"{DigitsNet.__name__} of width {options.width}, {CLASSES} classes, {options.epochs} epochs"
    rows_as_text = table(COLUMNS, [row.cells() for row in rows])
    text = f"{trained}, {LEGEND}\n\n{rows_as_text}\n\n![norms]({out.stem}.png)\n"
    out.with_suffix(".md").write_text(f"{head}\n{text}")
    _draw(out.with_suffix(".png"), norms)


def _draw(path: Path, norms: dict[str, dict[str, Tensor]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, len(norms), figsize=(2.4 * len(norms), 2.8), sharey=True, layout="constrained")
    for place, (penalty, groups) in zip(places, norms.items(), strict=True):
        for group, values in groups.items():
            ordered = values.sort(descending=True).values
            place.plot(torch.linspace(0, 1, len(ordered)), (ordered / ordered[0]).clamp(min=1e-6), label=group)
        place.set_title(penalty)
        place.set_yscale("log")
        place.set_ylim(1e-4, 1.2)
        place.set_xlabel("share of units")
    places[0].set_ylabel("norm / largest of the group")
    places[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
