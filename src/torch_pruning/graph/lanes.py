"""Lanes: over which axes an axis may keep different units.

D may keep different units for each h as long as every tensor that carries D also carries H, and no op relates
positions of H to each other while D rides along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch_pruning.axes.expression import Axis, Free, Product, leaves, resolve
from torch_pruning.graph.infer import Inferred


def find_lanes(inferred: Iterable[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> dict[Free, tuple[Free, ...]]:
    """For every Free axis that has lanes, the axes they run over."""
    programs = list(inferred)
    candidates = _candidates(programs, of_state)
    for axes in _all_axes(programs, of_state):
        carried = {leaf for axis in axes for leaf in leaves(axis)}
        for leaf in carried & candidates.keys():
            candidates[leaf] &= carried
        _require_plain_factors(axes, candidates)
    for program in programs:
        for mixing in program.facts.mixings:
            mixed = set(leaves(mixing.axis))
            for leaf in {leaf for axis in mixing.carried for leaf in leaves(axis)} & candidates.keys():
                candidates[leaf] -= mixed
    chosen: dict[Free, tuple[Free, ...]] = {}
    for leaf in sorted(candidates, key=lambda leaf: leaf.serial):
        # Of two axes, only one can run over the other.
        over = [lane for lane in candidates[leaf] if leaf not in chosen.get(lane, ()) and lane is not leaf]
        over = [lane for lane in over if not chosen.get(lane)]
        if over and not any(leaf in lanes for lanes in chosen.values()):
            chosen[leaf] = tuple(sorted(over, key=lambda lane: lane.serial))
    return chosen


def _candidates(programs: list[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> dict[Free, set[Free]]:
    found: dict[Free, set[Free]] = {}
    for axes in _all_axes(programs, of_state):
        for axis in axes:
            for leaf in leaves(axis):
                if leaf.reason is None and leaf.outers and leaf not in found:
                    found[leaf] = {lane for outer in leaf.outers for lane in _plain(resolve(outer))}
    return {leaf: lanes for leaf, lanes in found.items() if lanes}


def _plain(outer: Axis) -> Iterable[Free]:
    """The factors of a split's outer side that are single variables."""
    if isinstance(outer, Free):
        return (outer,)
    if isinstance(outer, Product):
        return tuple(factor for factor in outer.factors if isinstance(factor, Free))
    return ()


def _require_plain_factors(axes: tuple[Axis, ...], candidates: dict[Free, set[Free]]) -> None:
    """A lane axis inside a concatenation does not cover all positions of what it carries."""
    for axis in axes:
        inside = _in_concats(resolve(axis), False)
        for leaf in inside:
            for lanes in candidates.values():
                lanes.discard(leaf)


def _in_concats(axis: Axis, inside: bool) -> set[Free]:
    if isinstance(axis, Free):
        return {axis} if inside else set()
    children = getattr(axis, "factors", None) or getattr(axis, "parts", ())
    deeper = inside or hasattr(axis, "parts")
    return {leaf for child in children for leaf in _in_concats(resolve(child), deeper)}


def _all_axes(programs: list[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> Iterable[tuple[Axis, ...]]:
    yield from of_state.values()
    for program in programs:
        yield from program.axes.values()
