"""Unification of axis expressions. Freezing is always sound; everything is monotone: constraints only accumulate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch_pruning.axes.expression import (
    Axis,
    Concat,
    Fixed,
    Free,
    Product,
    Reason,
    alike,
    concat,
    freeze,
    leaves,
    product,
    resolve,
)

# No axis is cut into more parts than this; it is frozen instead. A shifted concatenation `[A + B] ~ [B + A]` would
# grind its parts to dust (Euclid's algorithm on their sizes).
MAX_PARTS = 64


def unify(a: Axis, b: Axis, reason: Reason) -> None:
    """Make two axes of equal size the same axis; `reason` is given to what has to be frozen on the way."""
    work = [(a, b)]
    while work:
        a, b = work.pop()
        a, b = resolve(a), resolve(b)
        if alike(a, b):
            continue
        if a.size != b.size:
            raise AssertionError(f"cannot unify axes of sizes {a.size} and {b.size}: {a!r}, {b!r}")
        if isinstance(a, Fixed):
            _fix(b, reason)
        elif isinstance(b, Fixed):
            _fix(a, reason)
        elif isinstance(a, Free) or isinstance(b, Free):
            _bind(a, b, reason)
        elif isinstance(a, Concat) or isinstance(b, Concat):
            work.extend(_match_parts(a, b, reason))
        else:
            assert isinstance(a, Product) and isinstance(b, Product)
            work.extend(_match_factors(list(a.factors), list(b.factors), reason))


def _fix(axis: Axis, reason: Reason) -> None:
    """Freeze what tensors own; inference variables become Fixed."""
    for leaf in leaves(axis):
        if leaf.temporary and leaf.reason is None:
            leaf.bound = Fixed(leaf.size)
        elif leaf.reason is None or leaf.reason.yields:
            leaf.reason = reason


def _bind(a: Axis, b: Axis, reason: Reason) -> None:
    """Bind a Free to the other side. Of two, the inference variable (or else the younger) gives way."""
    if isinstance(a, Free) and isinstance(b, Free):
        free, other = (a, b) if (a.temporary, a.serial) > (b.temporary, b.serial) else (b, a)
        _merge(free, other)
        return
    whole: Axis
    if isinstance(a, Free):
        free, whole = a, b
    else:
        assert isinstance(b, Free)
        free, whole = b, a
    inside = leaves(whole)
    if free in inside:  # only beside factors of a single unit: no axis is longer than itself
        freeze(whole, reason)
        return
    if free.reason is not None:
        freeze(whole, free.reason)
    for leaf in inside:
        leaf.temporary = leaf.temporary and free.temporary
        leaf.depth = max(leaf.depth, free.depth)
    if isinstance(whole, Product):
        _note_outers(free, whole)
    free.bound = whole


def _merge(free: Free, other: Free) -> None:
    """Bind a variable to another, which takes over what is known about it. `other` is temporary only if both are."""
    other.reason = other.reason or free.reason
    other.depth = max(other.depth, free.depth)
    other.name = other.name or free.name
    other.outers = tuple(dict.fromkeys(other.outers + free.outers))
    free.reason = free.reason or other.reason
    free.bound = other


def _note_outers(free: Free, whole: Product) -> None:
    """A variable that is bound to a product of younger ones has been split by it, as a view splits a width.

    Bound to a product of older ones, it is what they were joined into, which says nothing about lanes.
    """
    before = free.outers
    for factor in whole.factors:
        if isinstance(factor, Free) and factor.serial > free.serial:
            factor.outers = tuple(dict.fromkeys(factor.outers + before))
            before = (*before, factor)


def _match_parts(a: Axis, b: Axis, reason: Reason) -> list[tuple[Axis, Axis]]:
    """Pairs that must be the same axis, for a concatenation and another expression, rightmost pair first."""
    pairs: list[tuple[Axis, Axis]] = []
    for left, right in _aligned(_parts(a), _parts(b)):
        if len(left) == len(right) == 1 or any(len(side) == 1 and isinstance(side[0], Free) for side in (left, right)):
            pairs.append((concat(left), concat(right)))  # nothing to cut
        elif _would_grind(left, right):
            freeze(concat((*left, *right)), reason)
        else:
            pairs += _cut_alike(left, right, reason)
    return pairs[::-1]


def _parts(axis: Axis) -> tuple[Axis, ...]:
    return axis.parts if isinstance(axis, Concat) else (axis,)


def _aligned(left: Sequence[Axis], right: Sequence[Axis]) -> Iterator[tuple[list[Axis], list[Axis]]]:
    """Both sides divided wherever a boundary lies on both: [2, 3, 5], [5, 1, 4] -> ([2, 3], [5]), ([5], [1, 4])."""
    others = iter(right)
    here: list[Axis] = []
    there: list[Axis] = []
    ahead = 0  # by how many positions `here` is longer than `there`
    for part in left:
        here.append(part)
        ahead += part.size
        while ahead > 0:
            there.append(next(others))
            ahead -= there[-1].size
        if ahead == 0:
            yield here, there
            here, there = [], []


def _would_grind(left: Sequence[Axis], right: Sequence[Axis]) -> bool:
    """Whether both sides cut the same variable at different positions, into too many parts as far as sizes tell."""
    if not {leaf for part in left for leaf in _cuttable(part)} & {leaf for part in right for leaf in _cuttable(part)}:
        return False
    sizes = [part.size for part in (*left, *right)]
    return sum(sizes) // 2 // math.gcd(*sizes) > MAX_PARTS


def _cuttable(axis: Axis) -> tuple[Free, ...]:
    """The variables that a cut of this axis may divide: of a Product, those of the first factor."""
    return leaves(axis.factors[0]) if isinstance(axis, Product) else leaves(axis)


def _cut_alike(left: Sequence[Axis], right: Sequence[Axis], reason: Reason) -> list[tuple[Axis, Axis]]:
    """Walk both concatenations; the longer part is cut where one of the others ends, or what meets there is frozen."""
    pairs: list[tuple[Axis, Axis]] = []
    here, there = list(left[::-1]), list(right[::-1])
    while here:
        if here[-1].size < there[-1].size:
            here, there = there, here
        longer = here.pop()
        row = longer.size // longer.factors[0].size if isinstance(longer, Product) else longer.size
        met = [_take(there, row)]
        length = met[0].size
        cut = split_concat(longer, length, reason)
        while cut is None and length < longer.size:  # a Product is cut after whole rows
            met.append(_take(there, row - length % row))
            length += met[-1].size
            cut = split_concat(longer, length, reason) if length < longer.size else None
        if cut is None:
            freeze(concat((longer, *met)), reason)
            if length > longer.size:
                there.append(Fixed(length - longer.size))  # freezes what it meets
            continue
        pairs.append((cut[0], concat(met)))
        if length < longer.size:
            here.append(cut[1])
    return pairs


def _take(parts: list[Axis], most: int) -> Axis:
    """The next part; of a Fixed, which may be several in a row, no more than `most`."""
    part = parts.pop()
    if isinstance(part, Fixed) and part.size > most:
        parts.append(Fixed(part.size - most))
        return Fixed(most)
    return part


def _match_factors(left: list[Axis], right: list[Axis], reason: Reason) -> list[tuple[Axis, Axis]]:
    """Walk both products from the left; the larger factor is split by the smaller."""
    pairs: list[tuple[Axis, Axis]] = []
    while left and right:
        x, y = left[0], right[0]
        if x.size == y.size:
            pairs.append((left.pop(0), right.pop(0)))
            continue
        larger, smaller = (left, right) if x.size > y.size else (right, left)
        halves = split_product(larger[0], smaller[0].size, reason)
        if halves is None:
            freeze(product(left), reason)
            freeze(product(right), reason)
            return pairs
        larger[:1] = [halves[1]]
        pairs.append((halves[0], smaller.pop(0)))
    freeze(product((*left, *right)), reason)  # single units
    return pairs


def split_product(axis: Axis, outer: int, reason: Reason) -> tuple[Axis, Axis] | None:
    """Rewrite an axis as Product(outer, inner); None where that is impossible (nothing is frozen then).

    Free:5 cannot be split by 2; Free:6 by 2 -> (x:2, y:3); [A:4 + B:6] with inner 2 -> ([A':2 + B':3], i:2).
    """
    axis = resolve(axis)
    if axis.size % outer:
        return None
    inner = axis.size // outer
    if outer == 1:
        return Fixed(1), axis
    if inner == 1:
        return axis, Fixed(1)
    if isinstance(axis, Fixed):
        return Fixed(outer), Fixed(inner)
    if isinstance(axis, Free):
        first, second = _child(axis, outer, reason), _child(axis, inner, reason)
        assert isinstance(second, Free)
        second.outers = (*axis.outers, first)
        axis.bound = Product((first, second))
        return first, second
    if isinstance(axis, Product):
        return _split_factors(axis, outer, reason)
    assert isinstance(axis, Concat)
    if any(part.size % inner for part in axis.parts):
        return None
    halves = [split_product(part, part.size // inner, reason) for part in axis.parts]
    if any(half is None for half in halves):
        return None
    for half in halves[1:]:
        unify(halves[0][1], half[1], reason)  # type: ignore[index]
    return concat(half[0] for half in halves), resolve(halves[0][1])  # type: ignore[index]


def _split_factors(axis: Product, outer: int, reason: Reason) -> tuple[Axis, Axis] | None:
    taken: list[Axis] = []
    rest = list(axis.factors)
    while outer > 1:
        size = rest[0].size
        if outer % size == 0:
            taken.append(rest.pop(0))
            outer //= size
            continue
        if size % outer:
            return None
        halves = split_product(rest[0], outer, reason)
        if halves is None:
            return None
        taken.append(halves[0])
        rest[0] = halves[1]
        outer = 1
    return product(taken), product(rest)


def split_concat(axis: Axis, position: int, reason: Reason) -> tuple[Axis, Axis] | None:
    """Cut an axis in two at `position`; None where the cut falls inside a row of a Product.

    Free:5 at 2 -> (x:2, y:3); (A:4 * B:3) at 6 -> ((A':2 * B), (A'':2 * B)).
    """
    axis = resolve(axis)
    if position in (0, axis.size):
        return (Fixed(0), axis) if position == 0 else (axis, Fixed(0))
    if isinstance(axis, Fixed):
        return Fixed(position), Fixed(axis.size - position)
    if isinstance(axis, Free):
        if axis.depth >= MAX_PARTS - 1:
            return None
        axis.depth += 1
        first, second = _child(axis, position, reason), _child(axis, axis.size - position, reason)
        axis.bound = concat((first, second))
        return first, second
    if isinstance(axis, Product):
        row = axis.size // axis.factors[0].size
        if position % row:
            return None
        cut = split_concat(axis.factors[0], position // row, reason)
        if cut is None:
            return None
        return product((cut[0], *axis.factors[1:])), product((cut[1], *axis.factors[1:]))
    assert isinstance(axis, Concat)
    before: list[Axis] = []
    after = list(axis.parts)
    while position >= after[0].size:
        position -= after[0].size
        before.append(after.pop(0))
    if position:
        cut = split_concat(after[0], position, reason)
        if cut is None:
            return None
        before.append(cut[0])
        after[0] = cut[1]
    return concat(before), concat(after)


def _child(parent: Free, size: int, reason: Reason) -> Axis:
    """A variable made by dividing another one: it inherits everything but the size. A single unit cannot be removed."""
    if size == 1 and parent.temporary and parent.reason is None:
        return Fixed(1)
    child = Free(size, name=parent.name, temporary=parent.temporary)
    child.depth = parent.depth
    child.outers = parent.outers
    child.reason = parent.reason or (Reason("a single unit, cut off", reason.where) if size == 1 else None)
    return child
