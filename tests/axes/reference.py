"""The axis algebra over again, in a few lines and with none of its code: a list of positions, each a set of owners.

An owner is a (variable, unit) pair; a position goes when one of its owners goes. So two expressions keep the same
positions, whatever is removed, exactly when their lists are equal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Axis, Concat, Fixed, Free, Product, concat, product

Owners = list[frozenset[tuple[object, int]]]


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression as it is written down: kind "variable" (`number` is its index), "fixed", "product", "concat"."""

    kind: str
    size: int
    number: int = 0
    children: tuple[Tree, ...] = ()

    def __str__(self) -> str:
        if self.kind == "variable":
            return f"v{self.number}:{self.size}"
        if self.kind == "fixed":
            return f"{self.size}!"
        return "(" + {"product": " * ", "concat": " + "}[self.kind].join(map(str, self.children)) + ")"


def variable(size: int, number: int) -> Tree:
    return Tree("variable", size, number)


def fixed(size: int) -> Tree:
    return Tree("fixed", size)


def product_of(*children: Tree) -> Tree:
    return Tree("product", math.prod(child.size for child in children), children=children)


def concat_of(*children: Tree) -> Tree:
    return Tree("concat", sum(child.size for child in children), children=children)


def build(tree: Tree, variables: Mapping[tuple[int, int], Free]) -> Axis:
    """The expression over real variables, which are looked up by (size, number)."""
    if tree.kind == "variable":
        return variables[tree.size, tree.number]
    if tree.kind == "fixed":
        return Fixed(tree.size)
    children = [build(child, variables) for child in tree.children]
    return product(children) if tree.kind == "product" else concat(children)


def variables_of(*trees: Tree) -> list[tuple[int, int]]:
    """(size, number) of every variable, each once, left to right."""
    found: dict[tuple[int, int], None] = {}
    for tree in trees:
        if tree.kind == "variable":
            found[tree.size, tree.number] = None
        found.update(dict.fromkeys(variables_of(*tree.children)))
    return list(found)


def owners_in_tree(tree: Tree) -> Owners:
    """Owners by the (size, number) of the variables of the tree."""
    if tree.kind == "variable":
        return [frozenset({((tree.size, tree.number), unit)}) for unit in range(tree.size)]
    if tree.kind == "fixed":
        return [frozenset()] * tree.size
    return _combined(tree.kind, [owners_in_tree(child) for child in tree.children])


def owners_of(axis: Axis) -> Owners:
    """Owners by the Free axes to which the expression leads now, frozen ones too."""
    while isinstance(axis, Free) and axis.bound is not None:
        axis = axis.bound
    if isinstance(axis, Free):
        return [frozenset({(axis, unit)}) for unit in range(axis.size)]
    if isinstance(axis, Fixed):
        return [frozenset()] * axis.size
    if isinstance(axis, Product):
        return _combined("product", [owners_of(factor) for factor in axis.factors])
    assert isinstance(axis, Concat)
    return _combined("concat", [owners_of(part) for part in axis.parts])


def _combined(kind: str, children: Sequence[Owners]) -> Owners:
    if kind == "concat":
        return [owners for child in children for owners in child]
    return [frozenset().union(*row) for row in itertools.product(*children)]


def prunable_owners_of(axis: Axis) -> Owners:
    """Owners that can be removed: of variables that are not frozen."""
    return [
        frozenset((leaf, unit) for leaf, unit in owners if isinstance(leaf, Free) and leaf.reason is None)
        for owners in owners_of(axis)
    ]


def kept_in(owners: Owners, removed: set[tuple[object, int]]) -> list[int]:
    """The positions none of whose owners is removed."""
    return [position for position, here in enumerate(owners) if not here & removed]


def is_normal(axis: Axis) -> bool:
    """No bound variable; no Product in a Product (or Concat in a Concat), factor 1, part 0 or two Fixed in a row."""
    if isinstance(axis, Free):
        return axis.bound is None
    if isinstance(axis, Fixed):
        return True
    assert isinstance(axis, (Product, Concat))
    children = axis.factors if isinstance(axis, Product) else axis.parts
    neutral = 1 if isinstance(axis, Product) else 0
    return (
        len(children) > 1
        and all(is_normal(child) and not isinstance(child, type(axis)) for child in children)
        and all(child.size != neutral for child in children)
        and not any(isinstance(a, Fixed) and isinstance(b, Fixed) for a, b in itertools.pairwise(children))
    )
