"""Unification of axis expressions. Freezing is always sound, and everything is monotone: constraints only accumulate."""

from __future__ import annotations

from torch_pruning.axes.expression import (
    Axis,
    Concat,
    Fixed,
    Free,
    Product,
    Reason,
    concat,
    freeze,
    leaves,
    product,
    resolve,
)

# A shifted concatenation `[A + B] ~ [B + A]` would grind its parts to dust (Euclid's algorithm on their sizes).
MAX_CUTS = 64


def unify(a: Axis, b: Axis, reason: Reason) -> None:
    """Make two axes of equal size the same axis; `reason` is given to what has to be frozen on the way."""
    work = [(a, b)]
    while work:
        a, b = work.pop()
        a, b = resolve(a), resolve(b)
        if a is b:
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
    for leaf in list(leaves(axis)):
        if leaf.temporary and leaf.reason is None:
            leaf.bound = Fixed(leaf.size)
        elif leaf.reason is None:
            leaf.reason = reason


def _bind(a: Axis, b: Axis, reason: Reason) -> None:
    """Bind a Free to the other side. Of two, the inference variable (or else the younger) gives way."""
    if isinstance(a, Free) and isinstance(b, Free):
        free, other = (a, b) if (a.temporary, a.serial) > (b.temporary, b.serial) else (b, a)
        assert isinstance(other, Free)
        other.outers += free.outers
        other.name = other.name or free.name
    else:
        free, other = (a, b) if isinstance(a, Free) else (b, a)
        assert isinstance(free, Free)
        if any(leaf is free for leaf in leaves(other)):
            freeze(other, reason)
            return
    if free.reason is not None:
        freeze(other, free.reason)
    if isinstance(other, Free) and other.reason is not None and free.reason is None:
        free.reason = other.reason
    if not free.temporary:
        for leaf in leaves(other):
            leaf.temporary = False
    free.bound = other


def _match_parts(a: Axis, b: Axis, reason: Reason) -> list[tuple[Axis, Axis]]:
    if not isinstance(a, Concat):
        a, b = b, a
    assert isinstance(a, Concat)
    cut = split_concat(b, a.parts[0].size, reason)
    if cut is None:
        freeze(a, reason)
        freeze(b, reason)
        return []
    return [(concat(a.parts[1:]), cut[1]), (a.parts[0], cut[0])]


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
    # What is left on one side has size 1: a Free that surgery has shrunk to a single unit.
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
        first, second = _child(axis, outer), _child(axis, inner)
        first.outers, second.outers = axis.outers, (*axis.outers, first)
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
        if axis.depth >= MAX_CUTS:
            return None
        first, second = _child(axis, position), _child(axis, axis.size - position)
        for part in (first, second):
            part.depth, part.outers = axis.depth + 1, axis.outers
        axis.bound = concat((first, second))
        return resolve(first), resolve(second)
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


def _child(parent: Free, size: int) -> Free:
    """A variable made by dividing another one: it inherits everything but the size."""
    child = Free(size, name=parent.name, temporary=parent.temporary)
    child.reason = parent.reason
    return child
