"""Hypothesis strategies: forests of expressions over shared variables, and what can be done to them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

from axes.reference import Tree, concat_of, fixed, product_of, variable, variables_of
from torch_pruning.axes.expression import Free, Reason


def factorisations(size: int) -> list[tuple[int, ...]]:
    """All ways to write a size as an ordered product of factors above 1: 6 -> (6,), (2, 3), (3, 2)."""
    return [(size,)] + [
        (first, *rest) for first in range(2, size) if size % first == 0 for rest in factorisations(size // first)
    ]


def compositions(size: int) -> list[tuple[int, ...]]:
    """All ways to write a size as an ordered sum: 3 -> (3,), (1, 2), (1, 1, 1), (2, 1)."""
    return [(size,)] + [(first, *rest) for first in range(1, size) for rest in compositions(size - first)]


@st.composite
def trees(draw: st.DrawFn, size: int, depth: int = 3) -> Tree:
    """An expression of this size; equal sizes share variables, two of each size."""
    kinds = ["variable", "variable", "fixed"] if size > 1 else ["fixed"]
    if depth and size > 1:
        kinds += ["concat", "concat"]
        kinds += ["product", "product"] if len(factorisations(size)) > 1 else []
    kind = draw(st.sampled_from(kinds))
    if kind == "variable":
        return variable(size, draw(st.integers(0, 1)))
    if kind == "fixed":
        return fixed(size)
    if kind == "product":
        factors = draw(st.sampled_from(factorisations(size)[1:]))
        return product_of(*(draw(trees(factor, depth - 1)) for factor in factors))
    cuts = draw(st.lists(st.integers(1, size - 1), min_size=1, max_size=3, unique=True))
    bounds = [0, *sorted(cuts), size]
    return concat_of(*(draw(trees(b - a, depth - 1)) for a, b in itertools.pairwise(bounds)))


@dataclass(frozen=True, slots=True)
class Step:
    """kind "unify" (of trees `first` and `second`), "split" (by `number`, outer) or "cut" (at `number`) of `first`."""

    kind: str
    first: int
    second: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A forest in which expressions of equal size can meet, which variables start frozen or temporary, and steps."""

    forest: tuple[Tree, ...]
    frozen: frozenset[tuple[int, int]]
    temporary: frozenset[tuple[int, int]]
    steps: tuple[Step, ...]

    def variables(self) -> dict[tuple[int, int], Free]:
        """Fresh variables for the forest."""
        made = {}
        for key in variables_of(*self.forest):
            made[key] = Free(key[0], name=f"v{key[0]}.{key[1]}", temporary=key in self.temporary)
            if key in self.frozen:
                made[key].reason = Reason(f"frozen {key}")
        return made


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    sizes = draw(st.lists(st.sampled_from([4, 6, 8, 12, 16, 18, 24]), min_size=1, max_size=2))
    forest = tuple(draw(trees(size)) for size in sizes for _ in range(draw(st.integers(2, 3))))
    keys = variables_of(*forest)
    frozen = draw(st.frozensets(st.sampled_from(keys), max_size=1)) if keys else frozenset()
    temporary = draw(st.frozensets(st.sampled_from(keys))) if keys else frozenset()
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        first = draw(st.integers(0, len(forest) - 1))
        kind = draw(st.sampled_from(["unify", "unify", "split", "cut"]))
        equal = [index for index, tree in enumerate(forest) if tree.size == forest[first].size]
        second = draw(st.sampled_from(equal))
        number = draw(st.integers(0 if kind == "cut" else 1, forest[first].size))
        steps.append(Step(kind, first, second, number))
    return Scenario(forest, frozen, temporary, tuple(steps))
