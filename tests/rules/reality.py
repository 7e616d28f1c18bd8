"""Compare what the rules claim about a case with what the op does.

For every group of axes that the rules leave free, units are removed from the tensors that carry them, the real op runs
on the smaller tensors, and its outputs must be those of the masked run without the claimed positions. What the rules
forbid is tried by brute force (`rules.forbidden`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rules.case import Case, namespace
from rules.labels import cut, kept_mask
from rules.probe import PLAIN, Probe, Variant, run, stored
from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.positions import Choice, Kept, lane_combinations
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.exactness import Mark, find_marks, zero_sets
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.guards import attribute_value
from torch_pruning.graph.infer import axes_of
from torch_pruning.rules.laws import ZeroSet
from torch_pruning.trace.tracer import Example

TOLERANCE = 1e-9
Smaller = tuple[dict[str, Tensor], dict[str, int]]


@dataclass(frozen=True, slots=True)
class FalseClaim:
    """Something a rule says that is not so."""

    case: str
    variant: str
    text: str

    def __str__(self) -> str:
        return f"{self.case} ({self.variant}): {self.text}"


@dataclass(slots=True)
class Claims:
    """What the rules say about one variant of a case."""

    case: Case
    variant: Variant
    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    graph: Graph
    outputs: list[tuple[Axis, ...]]
    zeros: list[ZeroSet]
    marks: dict[Free, list[Mark]]
    dense: list[Tensor]

    def smaller(self, choice: Choice) -> Smaller:
        """Tensors and sizes with the chosen units only."""
        counts = {axis: kept.count for axis, kept in choice.items()}
        sizes = dict(self.sizes)
        for source, definition in self.graph.constraints.definitions.items():
            ((_, name),) = source.steps
            sizes[name] = attribute_value(definition, counts)
        return {name: cut(tensor, self.graph.axes[name], choice) for name, tensor in self.tensors.items()}, sizes

    def masked(self, choice: Choice, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """The tensors with what is removed set to zero (in all of them, or in some)."""
        result = {}
        for name, tensor in self.tensors.items():
            gone = ~kept_mask(self.graph.axes[name], choice)
            result[name] = tensor.masked_fill(gone, 0) if only is None or name in only else tensor
        return result

    def name_of(self, leaf: Free) -> str:
        """The first dimension of a tensor that the axis lies on: "x.1"."""
        return next(
            f"{name}.{dim}"
            for name, axes in self.graph.axes.items()
            for dim, axis in enumerate(axes)
            if leaf in set(leaves(axis))
        )


def claims_of(case: Case, variant: Variant = PLAIN) -> Claims:
    """Trace the case and apply the rules."""
    tensors, sizes = stored(case, variant)
    probe = Probe(case, tensors, sizes, variant, real=False)
    graph = build_graph(probe, [Example(())], modes=["train" if case.train else "eval"])
    inferred = graph.programs[0]
    zeros = zero_sets(inferred, graph.axes)
    values = inferred.program.carried
    return Claims(
        case,
        variant,
        tensors,
        sizes,
        graph,
        [axes_of(value, inferred, graph.axes) for value in values],
        [zeros.get(value.index, frozenset()) for value in values],
        find_marks(inferred, graph.axes),
        run(case, tensors, sizes, variant),
    )


def variants(case: Case) -> Iterator[Variant]:
    """Plain; each tensor without its zeros, and all; each pair of dimensions of a tensor out of one."""
    yield PLAIN
    tensors = {name: t for name, t in case.tensors().items() if t.is_floating_point() or t.is_complex()}
    axes = claims_of(case).graph.axes
    for name in tensors:
        yield Variant(lost=frozenset([name]))
    if len(tensors) > 1:
        yield Variant(lost=frozenset(tensors))
    for name, tensor in tensors.items():
        for outer in range(tensor.dim()):
            for inner in range(tensor.dim()):
                free = any(leaf.reason is None for leaf in leaves(axes[name][inner]))  # or no lanes are possible
                if outer != inner and free and tensor.shape[outer] > 1:
                    yield Variant(lanes=(name, outer, inner))


def false_claims(case: Case, variant: Variant = PLAIN) -> list[FalseClaim]:
    """Everything that the rules claim about this variant and that is not so."""
    claims = claims_of(case, variant)
    if claims.graph.programs[0].program.failure is not None and variant != PLAIN:
        return []  # the trace ended at the op, whose sizes depend on values, after all parameters had been read
    found = [text for text, _ in _trials(claims)]
    return [FalseClaim(case.name, str(variant), text) for text in found if text]


def _trials(claims: Claims) -> Iterator[tuple[str, Choice]]:
    """(what went wrong or "", the choice) for every trial."""
    if len(claims.outputs) != len(claims.dense):
        yield f"{len(claims.outputs)} outputs claimed, found {len(claims.dense)}", {}
        return
    for claimed, real in zip(claims.outputs, claims.dense, strict=True):
        sizes = tuple(axis.size for axis in claimed)
        if sizes != tuple(real.shape):
            yield f"output {list(real.shape)} was claimed to be {list(sizes)}", {}
            return
    for choice in choices(claims.graph):
        yield wrong(claims, choice), choice


def choices(graph: Graph) -> Iterator[Choice]:
    """Every unit of every group on its own; then some of each group that has lanes, other ones in each lane; then,
    twice, units of all groups at once.
    """
    movable = [cluster for cluster in graph.clusters if cluster.steps > 1]
    for cluster in movable:
        for first in range(max(axis.size for axis in cluster.axes)):
            yield _choice(graph, cluster, cluster.steps - 1, lambda axis, lane, first=first: first)
    for cluster in movable:
        if any(graph.group_of[axis].lanes for axis in cluster.axes if axis in graph.group_of):
            for shift in (1, 2):
                yield _choice(
                    graph, cluster, max(1, cluster.steps // 2), lambda axis, lane, by=shift: by * sum(lane.values())
                )
    for seed in range(2):
        draw = random.Random(seed)
        together: dict[Free, Kept] = {}
        for cluster in movable:
            steps = draw.randint(min(2, cluster.steps - 1), cluster.steps - 1)  # a single unit has no statistics
            together.update(_choice(graph, cluster, steps, lambda axis, lane, draw=draw: draw.randrange(axis.size)))
        if together:
            yield together


def _choice(graph: Graph, cluster: Cluster, steps: int, first: object) -> dict[Free, Kept]:
    """Remove a run of neighbouring units, from `first(axis, lane)` on, the end joined to the beginning."""
    chosen: dict[Free, Kept] = {}
    for axis, count in cluster.counts(steps).items():
        group = graph.group_of.get(axis)
        lanes = group.lanes if group is not None else ()
        count = max(count, group.minimum if group is not None else 1)
        rows = {}
        for given in lane_combinations(lanes, {}):
            start = first(axis, given)  # type: ignore[operator]
            gone = {(start + step) % axis.size for step in range(axis.size - count)}
            rows[tuple(given[lane] for lane in lanes)] = tuple(u for u in range(axis.size) if u not in gone)
        chosen[axis] = Kept(rows, lanes)
    return chosen


def wrong(claims: Claims, choice: Choice) -> str:
    """What of the claims is not so for this choice; "" if all is."""
    removed = ", ".join(f"{axis!r} keeps {list(kept.rows.values())}" for axis, kept in choice.items())
    masked = run(claims.case, claims.masked(choice), claims.sizes, claims.variant)
    tensors, sizes = claims.smaller(choice)
    try:
        pruned = run(claims.case, tensors, sizes, claims.variant)
    except Exception as error:
        return f"{removed}: the op refuses the smaller tensors: {type(error).__name__}: {str(error)[:200]}"
    if len(pruned) != len(masked):
        return f"{removed}: {len(masked)} outputs were claimed, found {len(pruned)}"
    expected = [cut(a, axes, choice) for a, axes in zip(masked, claims.outputs, strict=True)]
    for number, (a, b) in enumerate(zip(expected, pruned, strict=True)):
        if a.shape != b.shape:
            return f"{removed}: output {number} was claimed to shrink to {list(a.shape)}, found {list(b.shape)}"
    if not claims.case.random:
        text = _wrong_values(claims, choice, expected, pruned, (tensors, sizes))
        if text:
            return f"{removed}: {text}"
    text = _wrong_zeros(claims, choice, masked)
    return f"{removed}: {text}" if text else ""


def _wrong_values(
    claims: Claims, choice: Choice, expected: list[Tensor], pruned: list[Tensor], smaller: Smaller
) -> str:
    marks = [mark for axis in choice for mark in claims.marks.get(axis, ())]
    compared, what = pruned, "was claimed to be exact"
    if marks:
        if not all(mark.count_only for mark in marks):
            return ""
        if claims.case.counted is None:
            return "only the number of units matters, but the case does not say how: give it `counted`"
        compared = counted(claims, *smaller)
        what = "was claimed to depend on the number of units only"
    for number, (a, b) in enumerate(zip(expected, compared, strict=True)):
        if not equal(a, b):
            return f"output {number} {what}, but differs by up to {_difference(a, b):.1e}"
    return ""


def counted(claims: Claims, tensors: dict[str, Tensor], sizes: dict[str, int]) -> list[Tensor]:
    """The outputs of the case's own `counted`, arriving as the variant has it."""
    case = claims.case
    assert case.counted is not None
    full = namespace(case, claims.case.tensors())
    with_full = Case(case.name, lambda m: case.counted(m, full), case.makers, case.sizes, train=case.train)  # type: ignore[misc]
    return run(with_full, tensors, sizes, claims.variant)


def _wrong_zeros(claims: Claims, choice: Choice, masked: list[Tensor]) -> str:
    """A value is zero where *every* unit that is removed there lies on an axis it was claimed to be zero on."""
    for number, (out, axes) in enumerate(zip(masked, claims.outputs, strict=True)):
        for leaf in choice:
            if leaf not in claims.zeros[number]:
                continue
            gone = ~kept_mask(axes, {leaf: choice[leaf]}) if not choice[leaf].lanes else torch.zeros(out.shape).bool()
            if gone.any() and not _zero_somehow(claims, {leaf: choice[leaf]}, number, out[gone], gone):
                return f"output {number} was claimed to be zero where {leaf!r} is removed"
    return ""


def _zero_somehow(claims: Claims, choice: Choice, number: int, found: Tensor, gone: Tensor) -> bool:
    """Zero; or, where masking everything gives 0 / 0, zero when only some of the tensors are masked."""
    if torch.isfinite(found).all():
        return not found.any()
    for count in range(len(claims.tensors) - 1, 0, -1):
        for names in itertools.combinations(claims.tensors, count):
            out = run(claims.case, claims.masked(choice, names), claims.sizes, claims.variant)[number][gone]
            if torch.isfinite(out).all() and not out.any():
                return True
    return False


def equal(a: Tensor, b: Tensor) -> bool:
    """The same to 1e-9 of the largest value; not a number is equal to nothing."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    finite = torch.isfinite(a)
    if a.isnan().any() or b.isnan().any() or not torch.equal(a[~finite], b[~finite]):
        return False
    scale = float(a[finite].abs().max()) if finite.any() else 0.0
    return _difference(a[finite], b[finite]) <= TOLERANCE * max(scale, 1e-30)


def _difference(a: Tensor, b: Tensor) -> float:
    if a.dtype == torch.bool or a.shape != b.shape:
        return float("nan")
    return float((a - b).abs().max()) if a.numel() else 0.0
