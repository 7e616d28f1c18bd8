"""Least squares in the order of the forward pass: each weight solved on what the pruned model really feeds it.

First the dense model runs over the calibration inputs, and rows of each product's outputs are kept as targets. Then
the pruned model runs, all batches side by side. At a weight that is to be solved every batch waits; when all have
arrived, the weight is solved for, and they go on with the new one. So each batch passes through the model once,
whatever the number of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph
from torch_pruning.progress import progress
from torch_pruning.recovery.clamps import Rows, within_limits
from torch_pruning.recovery.coroutine import Coroutine
from torch_pruning.recovery.evidence import Evidence
from torch_pruning.recovery.moments import row_weights
from torch_pruning.recovery.observe import Product, Runner, at_rest
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.readings import Call
from torch_pruning.recovery.targets import Key, Targets, places_of, sample
from torch_pruning.recovery.weights import Solvable


@dataclass(frozen=True, slots=True)
class Solved:
    """One weight with what it becomes. Losses are squared errors against the dense outputs, per row, relative to their
    mean square about the mean."""

    weight: str
    matrix: Tensor | None  # the new weight, in its own shape; None where it stays
    shift: Tensor | None  # [outputs]
    strength: float
    rows: int
    before: float
    after: float
    held_out_before: float
    held_out_after: float


# ---------------------------------------------------------------- the pruned run


@dataclass(slots=True)
class _Arrived:
    """A batch that has come to a weight: what goes in there, and what its outputs lack.

    Where the outputs are scaled before they are judged, `inverse_scale` undoes it: [O], 0 for outputs that nobody sees.
    """

    key: Key
    x: Tensor  # [G, N, I]
    e: Tensor  # [G, N, O]
    weights: Tensor  # [N], how much each row counts
    call: Call
    target: Tensor  # [N, G * O]
    scale: Tensor | None
    inverse_scale: Tensor | None

    def rows(self, limits: tuple[float, float]) -> Rows:
        """The same in view of a clamp behind."""
        groups = self.x.shape[0]
        one = torch.ones((), dtype=self.e.dtype, device=self.e.device)
        scale, inverse = (
            one if s is None else s.view(groups, 1, -1).to(self.e) for s in (self.scale, self.inverse_scale)
        )
        return Rows(self.x, self.e, self.weights, _grouped(self.target, groups).to(self.e), scale, inverse, limits)


def _grouped(rows: Tensor, groups: int) -> Tensor:
    """[N, G * O] -> [G, N, O]"""
    return rows.view(len(rows), groups, -1).transpose(0, 1)


class Reconstruction:
    """Solves for the wanted weights of the pruned model; touches nothing."""

    def __init__(
        self, model: nn.Module, graph: Graph, targets: Targets, wanted: Mapping[str, Solvable], options: Options
    ) -> None:
        self.model = model
        self.graph = graph
        self.targets = targets
        self.wanted = wanted
        self.options = options
        self.solved: dict[str, Solved] = {}
        self.taken: set[Key] = set()
        self.evidence: dict[str, Evidence] = {}
        self.last_use = targets.last_use()
        self.order = {key: number for number, key in enumerate(targets.order)}

    def solve(self, batches: Sequence[Any]) -> dict[str, Solved]:
        """{weight: what it becomes}, in the order of the forward pass."""
        with at_rest(self.model, self.graph.example, places_of(self.wanted)) as runner:
            start = [partial(Coroutine[_Arrived], self._forward(runner, n, batch)) for n, batch in enumerate(batches)]
            keys = self._anew(start) if self.targets.keeps_state else self._together(start)
            with torch.inference_mode(), progress("Solving", total=len(self.targets.order)) as bar:
                for _ in keys:
                    bar.advance()
        return self.solved

    def _forward(self, runner: Runner, number: int, batch: Any) -> Any:
        def run(pause: Any) -> None:
            def visit(product: Product) -> Tensor | None:
                key = product.name, product.use
                if (number, key) in self.targets.rows and key not in self.taken:
                    pause(self._arrived(number, key, product))
                return self._result(product)

            runner.run(batch, visit)

        return run

    def _arrived(self, number: int, key: Key, product: Product) -> _Arrived:
        call, target = product.call, self.targets.rows[number, key]
        index = sample(self.targets.positions[number, key], len(target), key, number).to(call.x.device)
        x = call.rows(index)
        groups = len(x)
        if product.branch is None:
            matrix = call.matrix()
            e = _grouped(target, groups).to(x) - x @ matrix.mT
            if call.bias is not None:
                e = e - call.bias.view(groups, 1, -1)
            return _Arrived(key, x, e, row_weights(target), call, target, None, None)
        e, inverse = target - call.outputs(product.judged(), index), None
        scale = product.scale
        if scale is not None:
            seen = scale.abs() > 1e-3 * scale.abs().max()
            inverse = torch.where(seen, 1 / scale, torch.zeros_like(scale))
            e = e * inverse
        return _Arrived(key, x, _grouped(e, groups), row_weights(target), call, target, scale, inverse)

    def _result(self, product: Product) -> Tensor | None:
        solved = self.solved.get(product.name)
        if solved is None:
            return None
        bias = product.call.bias
        if solved.shift is not None:
            bias = solved.shift if bias is None else bias + solved.shift
        out = product.call.run(solved.matrix, bias)
        return product.behind(out)

    def _together(self, start: Sequence[Callable[[], Coroutine[_Arrived]]]) -> Iterator[Key]:
        """Resume those that wait at the earliest weight, until none waits; yields each weight when it is done with."""
        runs = [begin() for begin in start]
        try:
            waiting = {number: item for number, run in enumerate(runs) if (item := run.resume()) is not None}
            while waiting:
                key, here = self._take_earliest(waiting)
                yield key
                if len(self.solved) == len(self.last_use):
                    return
                for number in here:
                    item = runs[number].resume()
                    if item is None:
                        del waiting[number]
                    else:
                        waiting[number] = item
        finally:
            for run in runs:
                run.close()

    def _anew(self, start: Sequence[Callable[[], Coroutine[_Arrived]]]) -> Iterator[Key]:
        """As `_together`, one run at a time and from the start for each weight: for models that remember."""
        while len(self.solved) < len(self.last_use):
            waiting: dict[int, _Arrived] = {}
            for number, begin in enumerate(start):
                run = begin()
                item = run.resume()
                run.close()
                if item is not None:
                    waiting[number] = item
            if not waiting:
                return
            yield self._take_earliest(waiting)[0]

    def _take_earliest(self, waiting: Mapping[int, _Arrived]) -> tuple[Key, list[int]]:
        """The earliest weight that any batch waits at, which is taken care of, and the batches that wait there."""
        key = min((item.key for item in waiting.values()), key=self.order.__getitem__)
        here = [number for number, item in waiting.items() if item.key == key]
        self._take(key, [waiting[number] for number in here])
        return key, here

    def _take(self, key: Key, arrived: Sequence[_Arrived]) -> None:
        name, use = key
        self.taken.add(key)
        evidence = self.evidence.get(name)
        if evidence is None:
            evidence = self.evidence[name] = Evidence.of(arrived[0].x, self.options)
        evidence.add([(item.x, item.e, item.weights) for item in arrived])
        if use == self.last_use[name]:
            self.solved[name] = self._solve(name, arrived)
            del self.evidence[name]

    def _solve(self, name: str, arrived: Sequence[_Arrived]) -> Solved:
        """The weight on its moments; `arrived` are the batches of its last use."""
        call, limits = arrived[0].call, self.wanted[name].limits
        evidence, shifts = self.evidence[name], self.wanted[name].shifts
        found = evidence.solution(shifts)
        whole = evidence.whole
        if found is not None and limits is not None and whole is not None and self.options.method != "mean":
            found = within_limits(found, whole, [item.rows(limits) for item in arrived], shifts)
        if found is None:
            return Solved(name, None, None, 0.0, round(evidence.count), 1.0, 1.0, 1.0, 1.0)
        matrix = (call.matrix().to(found.change.dtype) + found.change).to(call.weight.dtype)
        variance = self.targets.variance(name, arrived[0].inverse_scale) or 1.0
        losses = [loss / variance for loss in (found.before, found.after, found.held_out_before, found.held_out_after)]
        return Solved(
            name,
            call.tensor(matrix).contiguous() if self.options.method != "mean" else None,
            found.shift.flatten().to(call.weight.dtype) if shifts else None,
            found.strength,
            round(evidence.count),
            *losses,
        )
