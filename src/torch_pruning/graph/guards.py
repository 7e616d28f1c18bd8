"""Comparisons of sizes in the model's code: they must come out alike for the counts that are chosen.

An equality that held is an equation like any other and ties counts. What remains (`<`, an equality that did not hold,
`%`) can only be looked at count by count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.sizes import (
    AttributeSource,
    DimensionSource,
    Expression,
    Operation,
    Polynomial,
    evaluate,
    holds,
    size_polynomial,
    sources,
    to_ratio,
)
from torch_pruning.graph.counts import counted, size_under
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.trace.program import Guard, Program, Value


@dataclass(frozen=True, slots=True)
class Definition:
    """`attribute == polynomial / divisor`: what an attribute must become once counts are chosen."""

    polynomial: Polynomial
    divisor: int
    where: Any


@dataclass(frozen=True, slots=True)
class GuardCheck:
    """A comparison of the run that looks at the counts of `axes`."""

    guard: Guard
    axes: tuple[Free, ...]
    inferred: Inferred


Definitions = Mapping[AttributeSource, Definition]
StateAxes = Mapping[str, tuple[Axis, ...]]
Equation = tuple[Polynomial, Any, list[Axis]]


def attribute_value(definition: Definition, counts: Mapping[Free, int]) -> int:
    """The new value of an attribute under these counts."""
    total = definition.polynomial.evaluate(counted(counts))
    assert total % definition.divisor == 0, "counts that violate the equation of an attribute"
    return total // definition.divisor


def varying_axes(
    expression: Expression, inferred: Inferred, of_state: StateAxes, definitions: Definitions
) -> list[Free]:
    """The axes on whose counts an expression depends."""
    found: list[Free] = []
    for source in sources(expression):
        if isinstance(source, DimensionSource):
            found += leaves(axes_of(inferred.program.values[source.value], inferred, of_state)[source.dim])
        elif source in definitions:
            found += [s for s in definitions[source].polynomial.symbols if isinstance(s, Free)]
    return [leaf for leaf in dict.fromkeys(found) if leaf.reason is None]


def equalities(programs: Iterable[Inferred], of_state: StateAxes, definitions: Definitions) -> list[Equation]:
    """The comparisons that found two sizes equal, as equations `left - right == 0`."""
    found: list[Equation] = []
    for inferred, guard in _distinct(programs):
        axes = _axes(guard, inferred, of_state, definitions)
        if not axes or not _is_equality(guard):
            continue

        def polynomial(source: AttributeSource | DimensionSource, inferred: Inferred = inferred) -> Polynomial:
            if isinstance(source, AttributeSource):
                return Polynomial.symbol(source)
            return size_polynomial(axes_of(inferred.program.values[source.value], inferred, of_state)[source.dim])

        left, right = to_ratio(guard.left, polynomial), to_ratio(guard.right, polynomial)
        if left is not None and right is not None:
            found.append((left[0] * right[1] - right[0] * left[1], guard.where, list(axes)))
    return found


def find_guards(programs: Iterable[Inferred], of_state: StateAxes, definitions: Definitions) -> list[GuardCheck]:
    """The comparisons that can come out differently for other counts."""
    checks = (
        GuardCheck(guard, tuple(_axes(guard, inferred, of_state, definitions)), inferred)
        for inferred, guard in _distinct(programs)
    )
    return [check for check in checks if check.axes]


def broken_guards(
    checks: Sequence[GuardCheck],
    of_state: StateAxes,
    definitions: Definitions,
    attribute_values: Mapping[AttributeSource, int],
    counts: Mapping[Free, int],
) -> list[GuardCheck]:
    """The guards that would come out differently under these counts."""
    touched = [check for check in checks if any(axis in counts for axis in check.axes)]
    return [
        c for c in touched if not _as_before(c, _lookup(c.inferred, of_state, definitions, attribute_values, counts))
    ]


def _as_before(check: GuardCheck, lookup: Callable[[AttributeSource | DimensionSource], int]) -> bool:
    guard = check.guard
    try:
        return holds(guard.symbol, evaluate(guard.left, lookup), evaluate(guard.right, lookup)) == guard.outcome
    except ZeroDivisionError:
        return False


def _lookup(
    inferred: Inferred,
    of_state: StateAxes,
    definitions: Definitions,
    attribute_values: Mapping[AttributeSource, int],
    counts: Mapping[Free, int],
) -> Callable[[AttributeSource | DimensionSource], int]:
    def lookup(source: AttributeSource | DimensionSource) -> int:
        if isinstance(source, AttributeSource):
            definition = definitions.get(source)
            return attribute_value(definition, counts) if definition else attribute_values[source]
        axis = axes_of(inferred.program.values[source.value], inferred, of_state)[source.dim]
        return size_under(axis, counts)

    return lookup


def _distinct(programs: Iterable[Inferred]) -> Iterator[tuple[Inferred, Guard]]:
    for inferred in programs:
        seen: set[Any] = set()
        for guard in (*inferred.program.guards, *_of_kernels(inferred)):
            key = (guard.symbol, guard.left, guard.right)
            if key not in seen:
                seen.add(key)
                yield inferred, guard


def _of_kernels(inferred: Inferred) -> Iterator[Guard]:
    """What kernels demand of sizes, as if the code had asked: `size % divisor == 0`."""
    for fact in inferred.facts.divisible:
        rest = Operation("%", DimensionSource(fact.value, fact.dim), fact.divisor)
        yield Guard("==", rest, 0, True, fact.where)
    rows = _even_rows(inferred.program) if inferred.facts.even_strides else {}
    for even in inferred.facts.even_strides:
        # Of every tensor whose memory this one looks into: its strides are multiples of their lengths.
        for whole in rows.get(inferred.program.values[even.value].storage, ()):
            if whole.index <= even.value:
                rest = Operation("%", DimensionSource(whole.index, len(whole.shape) - 1), 2)
                yield Guard("==", rest, 0, True, even.where)


def _even_rows(program: Program) -> dict[int, list[Value]]:
    """{memory: tensors in it whose rows lie side by side and have an even length}"""
    found: dict[int, list[Value]] = {}
    for value in program.values:
        if value.strides[-1:] == (1,) and value.shape[-1] % 2 == 0:
            found.setdefault(value.storage, []).append(value)
    return found


def _axes(guard: Guard, inferred: Inferred, of_state: StateAxes, definitions: Definitions) -> list[Free]:
    sides = (varying_axes(side, inferred, of_state, definitions) for side in (guard.left, guard.right))
    return list(dict.fromkeys(axis for side in sides for axis in side))


def _is_equality(guard: Guard) -> bool:
    return (guard.symbol, guard.outcome) in (("==", True), ("!=", False))
