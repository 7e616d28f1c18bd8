"""What the rules forbid though it would be possible, found by brute force: freezing, coupling and marking too much."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rules.case import Case
from rules.labels import cut, kept_mask
from rules.probe import Variant, run
from rules.reality import Claims, choices, claims_of, equal
from torch_pruning.axes.expression import Free, leaves
from torch_pruning.axes.positions import unit_images


@dataclass(frozen=True, slots=True)
class Site:
    """One dimension of one tensor, and for every unit the positions that would go."""

    tensor: str
    dim: int
    images: tuple[tuple[int, ...], ...]


def needlessly_forbidden(case: Case) -> set[str]:
    """Findings such as "frozen x.1" (could have been left free), "coupled w.0" (could go without the others), "marked
    x.1" (is exact) and "nonzero x.1" (the output is zero there), in terms of the tensors of the case."""
    claims = claims_of(case)
    found: set[str] = set()
    if not case.unchecked and not case.random:
        found |= set(_frozen(claims)) | set(_coupled(claims))
    if not case.random:
        found |= set(_marked(claims)) | set(_nonzero(claims))
        for name, tensor in case.tensors().items():
            if tensor.is_floating_point():
                found |= set(_marked(claims_of(case, Variant(lost=frozenset([name])))))
    return found


def _frozen(claims: Claims) -> Iterator[str]:
    blocks: dict[Free, tuple[Site, ...]] = {}
    for leaf in _all_leaves(claims):
        if leaf.reason is not None:
            blocks[leaf] = _sites(claims, leaf)
    for leaf, sites in blocks.items():
        if not any(claims.tensors[site.tensor].is_floating_point() for site in sites):
            continue  # tables of indices keep their size
        others = [block for other, block in blocks.items() if other is not leaf and other.size == leaf.size][:4]
        for extra in _subsets(others):
            if _consistent(claims, [*sites, *(site for block in extra for site in block)], leaf.size):
                yield f"frozen {claims.name_of(leaf)}"
                break


def _coupled(claims: Claims) -> Iterator[str]:
    for group in claims.graph.groups:
        sites = _sites(claims, group.axis)
        parts = [Site(s.tensor, s.dim, images) for s in sites for images in _slices(s)]
        if len(parts) < 2:
            continue
        for count in range(1, len(parts)):
            if count > 2 and len(parts) > 5:
                break
            for chosen in itertools.combinations(parts, count):
                if _consistent(claims, chosen, group.size):
                    yield f"coupled {chosen[0].tensor}.{chosen[0].dim}"


def _marked(claims: Claims) -> Iterator[str]:
    """Marked as inexact, though every trial comes out exact."""
    for group in claims.graph.groups:
        if all(mark.count_only for mark in claims.marks.get(group.axis, ())):
            continue
        trials = [choice for choice in choices(claims.graph) if group.axis in choice and len(choice) == 1]
        if trials and all(_exact(claims, choice) for choice in trials):
            yield f"marked {claims.name_of(group.axis)}"


def _exact(claims: Claims, choice: object) -> bool:
    masked = run(claims.case, claims.masked(choice), claims.sizes, claims.variant)
    tensors, sizes = claims.smaller(choice)
    pruned = run(claims.case, tensors, sizes, claims.variant)
    return all(equal(cut(a, axes, choice), b) for a, b, axes in zip(masked, pruned, claims.outputs, strict=True))


def _nonzero(claims: Claims) -> Iterator[str]:
    """Not claimed to be zero, though it is wherever units are masked."""
    for number, axes in enumerate(claims.outputs):
        carried = {leaf for axis in axes for leaf in leaves(axis)}
        for group in claims.graph.groups:
            if group.axis not in carried or group.axis in claims.zeros[number]:
                continue
            trials = [c for c in choices(claims.graph) if group.axis in c and len(c) == 1 and not group.lanes]
            if trials and all(_zero(claims, choice, number) for choice in trials):
                yield f"nonzero {claims.name_of(group.axis)}" + (f" of output {number}" if number else "")


def _zero(claims: Claims, choice: object, number: int) -> bool:
    gone = ~kept_mask(claims.outputs[number], choice)
    masked = run(claims.case, claims.masked(choice), claims.sizes, claims.variant)[number]
    return bool(claims.dense[number][gone].any()) and not masked[gone].any()


def _all_leaves(claims: Claims) -> list[Free]:
    return list(dict.fromkeys(leaf for axes in claims.graph.axes.values() for axis in axes for leaf in leaves(axis)))


def _sites(claims: Claims, leaf: Free) -> tuple[Site, ...]:
    return tuple(
        Site(name, dim, tuple(map(tuple, unit_images(axis, leaf))))
        for name, axes in claims.graph.axes.items()
        for dim, axis in enumerate(axes)
        if leaf in set(leaves(axis))
    )


def _slices(site: Site) -> list[tuple[tuple[int, ...], ...]]:
    """The images position by position: the first positions of all units, the second ones, and so on."""
    return [tuple((position,) for position in column) for column in zip(*site.images, strict=True)]


def _subsets(blocks: Sequence[tuple[Site, ...]]) -> Iterator[tuple[tuple[Site, ...], ...]]:
    for count in range(len(blocks) + 1):
        yield from itertools.combinations(blocks, count)


def _consistent(claims: Claims, sites: Sequence[Site], size: int) -> bool:
    """Whether removing any one unit from these dimensions gives the masked outputs without some positions, other ones
    for each unit, with some way of adapting the sizes of the case."""
    return any(_consistent_with(claims, sites, size, sizes) for sizes in _adapted(claims, sites, size))


def _adapted(claims: Claims, sites: Sequence[Site], size: int) -> Iterator[dict[str, int]]:
    """Sizes as they are, and with every choice of those that equal the number of units or of positions one lower."""
    yield claims.sizes
    of_dims = {claims.tensors[site.tensor].shape[site.dim]: len(site.images[0]) for site in sites} | {size: 1}
    equal_ones = [name for name, value in claims.sizes.items() if value in of_dims]
    for count in range(1, len(equal_ones) + 1):
        for names in itertools.combinations(equal_ones, count):
            yield {**claims.sizes, **{name: claims.sizes[name] - of_dims[claims.sizes[name]] for name in names}}


def _consistent_with(claims: Claims, sites: Sequence[Site], size: int, sizes: dict[str, int]) -> bool:
    seen: list[tuple[tuple[int, ...], ...]] = []
    for unit in range(size):
        gone: dict[str, dict[int, set[int]]] = {}
        for site in sites:
            gone.setdefault(site.tensor, {}).setdefault(site.dim, set()).update(site.images[unit])
        masked, smaller = dict(claims.tensors), dict(claims.tensors)
        for name, dims in gone.items():
            for dim, positions in dims.items():
                stays = [p for p in range(claims.tensors[name].shape[dim]) if p not in positions]
                masked[name] = masked[name].index_fill(dim, torch.tensor(sorted(positions)), 0)
                smaller[name] = smaller[name].index_select(dim, torch.tensor(stays, dtype=torch.long))
        try:
            expected = run(claims.case, masked, claims.sizes)
            pruned = run(claims.case, smaller, sizes)
        except Exception:
            return False
        if len(pruned) != len(expected):
            return False
        removed = [_removed(a, b) for a, b in zip(expected, pruned, strict=True)]
        if any(positions is None for positions in removed):
            return False
        seen.append(tuple(positions for positions in removed if positions is not None))
    return all(_disjoint(column) for column in zip(*seen, strict=True))


def _removed(a: Tensor, b: Tensor) -> tuple[int, ...] | None:
    """The positions along one dimension without which a is b; () if they are equal, None if nothing fits."""
    if a.shape == b.shape:
        return () if equal(a, b) or a.numel() == 0 else None
    differing = [dim for dim, (x, y) in enumerate(zip(a.shape, b.shape, strict=False)) if x != y]
    if a.dim() != b.dim() or len(differing) != 1 or a.shape[differing[0]] < b.shape[differing[0]]:
        return None
    rows, wanted = a.unbind(differing[0]), list(b.unbind(differing[0]))
    removed: list[int] = []
    for position, row in enumerate(rows):
        if wanted and equal(row, wanted[0]):
            wanted.pop(0)
        else:
            removed.append(position)
    return None if wanted else tuple(removed)


def _disjoint(images: Sequence[tuple[int, ...]]) -> bool:
    positions = [position for image in images for position in image]
    return len(positions) == len(set(positions)) and len({len(image) for image in images}) == 1
