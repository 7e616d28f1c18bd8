"""What the pruned model's products should give: rows of the dense model's outputs, as the pruned model has them."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torch_pruning.errors import CalibrationError
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Plan
from torch_pruning.progress import progress
from torch_pruning.recovery.moments import Moments, row_weights
from torch_pruning.recovery.observe import Product, Runner, at_rest
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.outputs import Outputs, Turn, output_factors
from torch_pruning.recovery.weights import Solvable

Key: TypeAlias = tuple[str, int]  # weight, number of its use in a forward pass


@dataclass(slots=True)
class Targets:
    """Rows of the dense model's outputs by batch, and the keys in an order in which all batches meet them."""

    order: list[Key] = field(default_factory=list)
    keeps_state: bool = False  # whether runs that go on side by side could disturb each other
    rows: dict[tuple[int, Key], Tensor] = field(default_factory=dict)
    positions: dict[tuple[int, Key], int] = field(default_factory=dict)

    def insert(self, key: Key, after: Key | None) -> None:
        """Put a key that is not there yet right behind the one that came before it in the same run."""
        if key not in self.order:
            self.order.insert(0 if after is None else self.order.index(after) + 1, key)

    def begin_at(self, names: Collection[str]) -> None:
        """Forget what comes before the first of these weights: there the pruned model is still the dense one."""
        first = next((n for n, (name, _) in enumerate(self.order) if name in names), len(self.order))
        earlier = set(self.order[:first])
        self.order = self.order[first:]
        self.rows = {at: rows for at, rows in self.rows.items() if at[1] not in earlier}

    def last_use(self) -> dict[str, int]:
        """The number of the last use of each weight."""
        last: dict[str, int] = {}
        for name, use in self.order:
            last[name] = max(last.get(name, 0), use)
        return last

    def variance(self, name: str, inverse_scale: Tensor | None) -> float:
        """Mean over rows of |y - mean y|^2: what there is to explain."""
        rows = [rows for (_, (weight, _)), rows in self.rows.items() if weight == name]
        found = Moments()
        for y in rows:
            scaled = y if inverse_scale is None else y * inverse_scale
            found.add(y[None, :, :0], scaled[None], row_weights(y))
        return found.variance()


def sample(positions: int, most: int, key: Key, batch: int) -> Tensor:
    """Which rows of a batch are looked at: at most so many, ascending, the same for the dense and the pruned run."""
    if positions <= most:
        return torch.arange(positions)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{key}/{batch}".encode()))
    return torch.randperm(positions, generator=generator)[:most].sort().values


# ---------------------------------------------------------------- the dense run


def dense_targets(
    graph: Graph,
    plan: Plan,
    batches: Sequence[Any],
    wanted: Mapping[str, Solvable],
    options: Options,
    turns: Mapping[str, Sequence[Turn]],
) -> Targets:
    """The dense model's outputs at the wanted weights, the rows of them that the pruned model has; those of some
    weights are combined by `turns`.

    Raises:
        CalibrationError: for values that are not finite.
    """
    recording = _Recording(plan, wanted, output_factors(graph, plan), turns)
    with at_rest(graph.model, graph.example, places_of(wanted)) as runner:
        recording.most = _rows_of_batch(runner, plan, batches, wanted, options)
        with progress("Dense outputs", total=len(batches)) as bar:
            for number, batch in enumerate(batches):
                recording.run(runner, number, batch)
                bar.advance()
    recording.targets.keeps_state = runner.keeps_state
    recording.targets.begin_at({name for name, weight in wanted.items() if weight.changed})
    return recording.targets


@dataclass(slots=True)
class _Recording:
    """Fills in the targets, at most `most` rows of each product of a batch."""

    plan: Plan
    wanted: Mapping[str, Solvable]
    factors: Mapping[str, Tensor]
    turns: Mapping[str, Sequence[Turn]]
    most: int = 0
    targets: Targets = field(default_factory=Targets)

    def run(self, runner: Runner, number: int, batch: Any) -> None:
        before: Key | None = None

        def visit(product: Product) -> Tensor | None:
            nonlocal before
            out = product.judged()
            if product.name in self.wanted:
                key = product.name, product.use
                self.targets.insert(key, before)
                before = key
                self._take(number, product, out, self._outputs(product, runner.names))
            return out if product.branch is None else None

        runner.run(batch, visit)

    def _outputs(self, product: Product, names: Mapping[int, str]) -> Outputs:
        kept = self.plan.kept.get(product.name, {}).get(product.call.reading.out)
        scaled = product.name if product.norm is None else names.get(id(product.norm[1]), "")
        turns = self.turns.get(product.name, ())
        return Outputs(None if kept is None else torch.tensor(kept), self.factors.get(scaled), turns)

    def _take(self, number: int, product: Product, out: Tensor, outputs: Outputs) -> None:
        call, key = product.call, (product.name, product.use)
        positions = call.positions(out)
        index = sample(positions, self.most, key, number).to(out.device)
        rows = outputs.of(call.outputs(out, index))
        if not torch.isfinite(rows).all():
            raise CalibrationError(
                f"outputs on calibration inputs must be finite; found some of {product.name} in batch {number} that "
                "are not: check the inputs and the dense model"
            )
        self.targets.rows[number, key] = rows.clone()
        self.targets.positions[number, key] = positions


def places_of(wanted: Mapping[str, Solvable]) -> dict[str, str]:
    """Where the outputs of weights are judged, if not where they come out."""
    return {name: weight.place for name, weight in wanted.items() if weight.place is not None}


def _rows_of_batch(
    runner: Runner, plan: Plan, batches: Sequence[Any], wanted: Mapping[str, Solvable], options: Options
) -> int:
    """Rows that each batch may give, so that the targets of all of them fit into memory."""
    bytes_of_row = 0

    def visit(product: Product) -> None:
        nonlocal bytes_of_row
        weight = product.call.weight
        if product.name in wanted:
            kept = plan.kept.get(product.name, {}).get(product.call.reading.out)
            outputs = weight.shape[product.call.reading.out] if kept is None else len(kept)
            bytes_of_row += outputs * weight.element_size()

    runner.run(batches[0], visit)
    fitting = int(options.memory * 2**30 / max(1, bytes_of_row) / len(batches))
    return max(64, min(options.rows // len(batches), fitting))
