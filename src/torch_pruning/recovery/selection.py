"""The criterion "reconstruction": which units the others can stand in for.

Removing columns S of a weight W with inputs X, and solving anew for the columns that stay, raises |W X|^2 by

    tr(W_S (H^-1)_SS^-1 W_S^T),    W <- W - W_S (H^-1)_SS^-1 (H^-1)_S:,    H = X X^T + damping

(Hassibi & Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1992, equation 5, for one
column; whole structures as in Kurtic et al., "ZipLM", 2023, equation 2). Units go one after another, or a small share
at a time, each time those whose loss is smallest then; the score of a unit is what its removal cost. In it, damping
charges for |W_S|^2, which is no error and taken off again: strong damping would give magnitudes, and gives the energy
of what a unit contributes. Losses are relative to the variance of the outputs, or of the sum that these are added to,
and summed over the group's consumers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.errors import CalibrationError
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.graph.ignored import Ignored, ignored_axes
from torch_pruning.importance.base import Scores
from torch_pruning.importance.spread import group_entries
from torch_pruning.importance.units import lane_count
from torch_pruning.progress import progress
from torch_pruning.recovery.calibration import as_batches
from torch_pruning.recovery.moments import Moments, pooled, row_weights
from torch_pruning.recovery.observe import Product, at_rest
from torch_pruning.recovery.solve import least_squares
from torch_pruning.recovery.targets import places_of, sample
from torch_pruning.recovery.weights import Solvable, solvable_weights
from torch_pruning.rules.call import CONTRACTED
from torch_pruning.trace.tracer import Example

DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean of the diagonal
HELD_OUT = 0.25  # of the rows, on which they are compared
SHARE = 1 / 24  # of the units that are left, that go at once


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a weight reads: second moments [G, I, I] (about the means where an intercept is free), and how the weight is
    laid out beside them."""

    xx: Tensor
    matrix: Tensor  # [G, O, I]
    layout: Any  # weight-shaped tensor -> [G, O, I]
    variance: float  # of the outputs, or of the sum that they go into
    damping: float


class ReconstructionScore:
    """The criterion: called with a group, it gives [lanes, units] scores; highest for units that the others cannot
    stand in for. Groups that no weight reads directly (head dims of queries and keys) are scored by their share of
    the squared weights.

    Statistics are taken from the dense model once, when the object is made. `damping` is the ridge strength under which
    others stand in; None is for each weight the one that does best on rows held out, so that with few rows units are
    not taken for replaceable that only seem so. What reads only axes that `ignore` names is not
    looked at.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> score = ReconstructionScore(net, [x], example_inputs=x[:1])
    >>> scores = tp.plan(net, x[:1], pruning_ratio=0.5, importance=score).summary().splitlines()[0]
    >>> scores
    '0: 8 -> 4'
    """

    def __init__(
        self,
        model: nn.Module | Graph,
        calibration: Iterable[Any],
        *,
        example_inputs: Any = None,
        rows: int = 32_768,
        damping: float | None = None,
        ignore: Sequence[Ignored] = (),
    ) -> None:
        graph = model if isinstance(model, Graph) else build_graph(model, [Example(example_inputs)])
        weights, _ = solvable_weights(graph, ())
        ignored = ignored_axes(graph, ignore)
        groups = [group for group in graph.groups if group.axis not in ignored]
        consumers = {m.tensor for group in groups for m in group.members if m.role == CONTRACTED}
        wanted = {name: weight for name, weight in weights.items() if name in consumers}
        batches = as_batches(calibration, graph.example.inputs)
        found = _observed(graph, batches, wanted, max(64, rows // len(batches)))
        self.inputs = found if damping is None else {n: replace(i, damping=damping) for n, i in found.items()}

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        readers = _readers(group, self.inputs)
        if not readers:
            return self._by_weights(group, tensors)
        return eliminated(readers, lane_count(group), group.size)

    def _by_weights(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        entries = group_entries(group)
        own = {n: part.of(tensors[part.tensor].detach()).double().square() for n, part in enumerate(entries.parts)}
        squares = entries.sum(own)
        return squares / squares.sum().clamp_min(1e-300)


def with_calibration(
    importance: Any, graph: Graph, calibration: Iterable[Any] | None, ignore: Sequence[Ignored] = ()
) -> Any:
    """The importance; for the name "reconstruction" the criterion with its statistics.

    Raises:
        CalibrationError: for that name without calibration inputs.
    """
    if importance != "reconstruction":
        return importance
    if calibration is None:
        raise CalibrationError(
            "importance 'reconstruction' needs calibration inputs, found none: pass calibration=[batch, ...]"
        )
    return ReconstructionScore(graph, calibration, ignore=ignore)


@dataclass(slots=True)
class _Seen:
    """What a weight was seen to read and to give: moments of its inputs, and of what its outputs are judged by."""

    matrix: Tensor
    layout: Any
    taps: int  # columns that one input has, of a convolution
    fit: Moments = field(default_factory=Moments)
    held_out: Moments = field(default_factory=Moments)
    outputs: Moments = field(default_factory=Moments)

    @classmethod
    def by(cls, product: Product) -> _Seen:
        matrix, scale = product.call.matrix().detach().double(), product.scale
        if scale is not None:  # of the batch norm between the outputs and what is judged
            matrix = matrix * scale.double().view(len(matrix), -1, 1)
        return cls(matrix, product.call.layout(), product.call.weight[0, 0].numel())

    def add(self, x: Tensor, y: Tensor) -> None:
        weights = row_weights(y)
        border = len(y) - int(HELD_OUT * len(y))
        self.fit.add(x[:, :border], x[:, :border, :0], weights[:border])
        self.held_out.add(x[:, border:], x[:, border:, :0], weights[border:])
        self.outputs.add(y[None, :, :0], y[None], weights)

    def summed_up(self, shifts: bool) -> Inputs:
        whole = pooled([self.fit, self.held_out])
        xx = whole.centred()[0] if shifts else whole.xx
        damping = self._damping(shifts)
        return Inputs(xx / whole.count, self.matrix, self.layout, self.outputs.variance(), damping)

    def _damping(self, shifts: bool) -> float:
        """The ridge strength with which the other inputs stand in best for every fourth of them. Neighbours, which are
        often alike, are to be on both sides."""
        number = torch.arange(self.matrix.shape[-1], device=self.matrix.device) // self.taps
        stay, go = (number % 4 != 3).nonzero().flatten(), (number % 4 == 3).nonzero().flatten()
        gone = self.matrix[..., go]

        def without(whole: Moments) -> Moments:
            part = Moments()
            part.count = whole.count
            if whole.count:
                part.xx, part.x = whole.xx[:, stay][..., stay], whole.x[..., stay]
                part.ex, part.e = gone @ whole.xx[:, go][..., stay], gone @ whole.x[..., go].mT
                part.ee = (gone @ whole.xx[:, go][..., go] * gone).sum()
            return part

        found = least_squares(without(self.fit), without(self.held_out), shifts, DAMPINGS)
        return DAMPINGS[0] if found is None else min(found.strength, DAMPINGS[-1])


def _observed(graph: Graph, batches: Sequence[Any], wanted: Mapping[str, Solvable], most: int) -> dict[str, Inputs]:
    """Second moments of the inputs of the wanted weights in the dense model."""
    seen: dict[str, _Seen] = {}
    places = places_of(wanted)
    number = 0

    def visit(product: Product) -> Tensor | None:
        name, call = product.name, product.call
        out = product.judged()
        if name in wanted:
            index = sample(call.positions(out), most, (name, product.use), number).to(out.device)
            found = seen.get(name) or seen.setdefault(name, _Seen.by(product))
            found.add(call.rows(index), call.outputs(out, index))
        return out if product.branch is None else None

    with (
        at_rest(graph.model, graph.example, places) as runner,
        progress("Inputs of weights", total=len(batches)) as bar,
    ):
        for number, batch in enumerate(batches):  # noqa: B007  # visit reads it
            runner.run(batch, visit)
            bar.advance()
        return {name: found.summed_up(wanted[name].shifts) for name, found in seen.items()}


# ---------------------------------------------------------------- elimination


@dataclass(slots=True)
class Reader:
    """One weight, or one group of a grouped one, that reads a group's units: H^-1 [I, I], W [O, I], what damping alone
    would charge for each column of the first W [I], and which columns each of its elements (lane * units + unit) has:
    [elements here, columns of one], -1 where one has fewer."""

    inverse: Tensor
    weight: Tensor
    charged: Tensor
    elements: Tensor
    columns: Tensor
    scale: float

    def losses(self, total: int) -> Tensor:
        """What removing each element alone would cost now: [total]."""
        found = self.inverse.new_zeros(total)
        width = self.columns.shape[1]
        for some in torch.arange(len(self.elements)).split(max(1, 2**22 // (width * (width + len(self.weight))))):
            found[self.elements[some]] = self._losses(self.columns[some])
        return found

    def _losses(self, columns: Tensor) -> Tensor:
        own = columns >= 0
        at = columns.clamp_min(0)
        block = self.inverse[at[:, :, None], at[:, None, :]]  # (elements, columns, columns)
        block = torch.where(own[:, :, None] & own[:, None, :], block, torch.zeros_like(block))
        block = block + torch.diag_embed((~own).to(block))
        weight = (self.weight[:, at] * own).permute(1, 2, 0)  # (elements, columns, outputs)
        factor, _ = torch.linalg.cholesky_ex(block)
        losses = torch.linalg.solve_triangular(factor, weight, upper=False).square().sum((1, 2))
        return (losses - (self.charged[at] * own).sum(1)) * self.scale

    def remove(self, gone: Tensor) -> None:
        """Take these elements out, solve for the rest, and forget their columns."""
        mine = torch.isin(self.elements, gone)
        columns = self.columns[mine].flatten()
        columns = columns[columns >= 0].unique()
        if not len(columns):
            return
        factor = torch.linalg.cholesky(self.inverse[columns][:, columns])
        towards = torch.linalg.solve_triangular(factor, self.inverse[columns], upper=False)
        of_weight = torch.linalg.solve_triangular(factor, self.weight[:, columns].mT, upper=False)
        stays = torch.ones(len(self.inverse), dtype=torch.bool, device=columns.device)
        stays[columns] = False
        place = stays.cumsum(0) - 1
        self.weight = (self.weight - of_weight.mT @ towards)[:, stays]
        self.charged = self.charged[stays]
        self.inverse = (self.inverse - towards.mT @ towards)[stays][:, stays]
        self.elements, self.columns = self.elements[~mine], self.columns[~mine]
        self.columns = torch.where(self.columns >= 0, place[self.columns.clamp_min(0)], self.columns)


def _readers(group: Group, inputs: Mapping[str, Inputs]) -> list[Reader]:
    """The weights that contract the group's axis, one entry for each convolution group."""
    none = lane_count(group) * group.size
    found: list[Reader] = []
    slots_of: dict[str, Tensor] = {}
    for part in group_entries(group).parts:
        if part.role == CONTRACTED and part.tensor in inputs:
            shape = next(m for m in group.members if m.tensor == part.tensor).siblings
            whole = torch.full([axis.size for axis in shape], none)
            whole = slots_of.setdefault(part.tensor, whole)
            part.of(whole).copy_(part.slots.expand_as(part.of(whole)))
    for name, slots in slots_of.items():
        of_weight = inputs[name]
        layout = of_weight.layout(slots)[:, 0]  # (groups, columns): alike for all outputs of a group
        for g, row in enumerate(layout.to(of_weight.xx.device)):
            if (row < none).any():
                found.append(_reader(of_weight, g, row, none))
    return found


def _reader(of_weight: Inputs, g: int, row: Tensor, none: int) -> Reader:
    xx, weight = of_weight.xx[g], of_weight.matrix[g]
    strength = of_weight.damping * xx.diagonal().mean().clamp_min(1e-300)
    damped = xx + strength * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)
    owned = (row < none).nonzero().flatten()
    owned = owned[torch.argsort(row[owned], stable=True)]
    elements, counts = torch.unique_consecutive(row[owned], return_counts=True)
    columns = torch.full((len(elements), int(counts.max())), -1, device=row.device)
    starts = counts.cumsum(0) - counts
    at = torch.arange(len(owned), device=row.device) - starts.repeat_interleave(counts)
    columns[torch.arange(len(elements), device=row.device).repeat_interleave(counts), at] = owned
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    scale = 1 / max(of_weight.variance, 1e-300)
    return Reader(inverse, weight.clone(), strength * weight.square().sum(0), elements, columns, scale)


def eliminated(readers: list[Reader], lanes: int, units: int) -> Scores:
    """What each unit's removal cost when its turn came, never less than those before it: [lanes, units].

    Every lane loses equally many units at a time.
    """
    device = readers[0].inverse.device
    scores = torch.zeros(lanes, units, dtype=torch.float64, device=device)
    alive = torch.ones(lanes, units, dtype=torch.bool, device=device)
    highest = torch.zeros(lanes, 1, dtype=torch.float64, device=device)
    offsets = torch.arange(lanes, device=device)[:, None] * units
    left = units
    while left:
        losses = torch.stack([reader.losses(lanes * units) for reader in readers]).sum(0).view(lanes, units)
        losses = torch.where(alive, losses.double(), torch.full_like(scores, torch.inf))
        cheapest = torch.topk(losses, max(1, int(left * SHARE)), dim=1, largest=False, sorted=True)
        # Strictly rising, so that the order of removal is the order of the scores.
        rising = torch.cummax(torch.cat([highest * (1 + 1e-9) + 1e-30, cheapest.values], 1), 1).values[:, 1:]
        rising = rising * (1 + 1e-9 * torch.arange(1, rising.shape[1] + 1, device=device))
        scores.scatter_(1, cheapest.indices, rising)
        alive.scatter_(1, cheapest.indices, False)
        highest = rising[:, -1:]
        left -= cheapest.indices.shape[1]
        if left:
            for reader in readers:
                reader.remove((cheapest.indices + offsets).flatten())
    return scores
