"""Lanes: over which axes an axis may keep different units.

D may keep different units for each h as long as every tensor that carries D also carries H, and no op relates
positions of H to each other while D rides along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch_pruning.axes.expression import Axis, Concat, Free, Product, leaves, resolve
from torch_pruning.graph.infer import Inferred


def find_lanes(inferred: Iterable[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> dict[Free, tuple[Free, ...]]:
    """For every Free axis that has lanes, the axes they run over."""
    programs = list(inferred)
    candidates = _candidates(programs, of_state)
    for axes in _all_axes(programs, of_state):
        for leaf, around in _occurrences(axes):
            if leaf in candidates:
                candidates[leaf] &= around
    for program in programs:
        for mixing in program.facts.mixings:
            mixed = set(leaves(mixing.axis))
            for leaf in {leaf for axis in mixing.carried for leaf in leaves(axis)} & candidates.keys():
                candidates[leaf] -= mixed
    _one_block_each(candidates, of_state)
    chosen: dict[Free, tuple[Free, ...]] = {}
    taken: set[Free] = set()
    for leaf in sorted(candidates, key=lambda leaf: leaf.serial):
        # Of two axes, only one can run over the other.
        over = [lane for lane in candidates[leaf] if leaf not in chosen.get(lane, ()) and lane is not leaf]
        over = [lane for lane in over if not chosen.get(lane)]
        # Where each could run over the other, as after a channel shuffle, the inner factor of the first split does.
        over = [lane for lane in over if lane.serial < leaf.serial or leaf not in candidates.get(lane, ())]
        if over and leaf not in taken:
            chosen[leaf] = tuple(sorted(over, key=lambda lane: lane.serial))
            taken.update(over)
    return chosen


def _candidates(programs: list[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> dict[Free, set[Free]]:
    found: dict[Free, set[Free]] = {}
    for axes in _all_axes(programs, of_state):
        for axis in axes:
            for leaf in leaves(axis):
                if leaf.reason is None and leaf.outers and leaf not in found:
                    found[leaf] = {lane for outer in leaf.outers for lane in _plain(resolve(outer))}
    return {leaf: lanes for leaf, lanes in found.items() if lanes}


def _one_block_each(candidates: dict[Free, set[Free]], of_state: Mapping[str, tuple[Axis, ...]]) -> None:
    """Of a tensor, surgery cuts another block for each lane in one dimension: the others get no lanes over a third.

    [H, D, E] keeps those of D, and a weight [H, D, D] for each head none at all.
    """
    for axes in of_state.values():
        dims = [set(leaves(axis)) for axis in axes]
        taken = False
        for dim, own in enumerate(dims):
            others = set().union(*(beside for other, beside in enumerate(dims) if other != dim)) - own
            blocked = [leaf for leaf in own & candidates.keys() if candidates[leaf] & others]
            if taken:
                for leaf in blocked:
                    candidates[leaf] -= others
            taken = taken or bool(blocked)


def _plain(outer: Axis) -> Iterable[Free]:
    """The factors of a split's outer side that are single variables."""
    if isinstance(outer, Free):
        return (outer,)
    if isinstance(outer, Product):
        return tuple(factor for factor in outer.factors if isinstance(factor, Free))
    return ()


def _occurrences(axes: tuple[Axis, ...]) -> Iterator[tuple[Free, set[Free]]]:
    """Every place of every Free axis in the dimensions of a tensor, with the axes that each of its positions lies on.

    Those are the factors of the products around it, or other dimensions of the tensor that are such factors.
    A lane axis that is a part of a concatenation does not cover all positions of what it carries.
    """
    dims = [resolve(axis) for axis in axes]
    for dim, axis in enumerate(dims):
        others = {lane for other, beside in enumerate(dims) if other != dim for lane in _plain(beside)}
        # Kept positions depend on one other dimension, or on this one itself, not on both.
        yield from _places(axis, others.difference(leaves(axis)))


def _places(axis: Axis, around: set[Free]) -> Iterator[tuple[Free, set[Free]]]:
    if isinstance(axis, Free):
        yield axis, around
    elif isinstance(axis, Product):
        direct = set(_plain(axis))
        for factor in axis.factors:
            yield from _places(factor, (around | direct) - {factor})
    elif isinstance(axis, Concat):
        for part in axis.parts:
            yield from _places(part, around)


def _all_axes(programs: list[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> Iterable[tuple[Axis, ...]]:
    """The axes of everything, each tuple once: many values share theirs."""
    everything: list[Mapping[Any, tuple[Axis, ...]]] = [of_state, *(program.axes for program in programs)]
    yield from {id(axes): axes for of_tensors in everything for axes in of_tensors.values()}.values()
