"""Size equations, sorted: identities, attribute definitions, count constraints, and literals that freeze."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch_pruning.axes.expression import Axis, Free, Reason, freeze, leaves
from torch_pruning.axes.sizes import (
    AttributeSource,
    DimensionSource,
    Expression,
    Polynomial,
    Ratio,
    divides,
    size_polynomial,
    sources,
    to_ratio,
)
from torch_pruning.graph.guards import Definition, GuardCheck, equalities, find_guards, varying_axes
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.rules.facts import ScaleRepair

_ZERO = Polynomial({})


@dataclass(frozen=True, slots=True)
class CountConstraint:
    """`polynomial == 0` over counts of free axes; `text` shows it as the code asks for it."""

    polynomial: Polynomial
    where: Any

    def __str__(self) -> str:
        positive = Polynomial({m: f for m, f in self.polynomial.terms.items() if f > 0})
        negative = Polynomial({m: -f for m, f in self.polynomial.terms.items() if f < 0})
        return f"{positive} == {negative}"


@dataclass(frozen=True, slots=True)
class NumberUse:
    """A size that was used as a number and will change with `axes`: event `event` of a program."""

    axes: tuple[Free, ...]
    size: Ratio | None
    event: int
    where: Any
    program: int
    repair: ScaleRepair | None = None


@dataclass(slots=True)
class Constraints:
    """What sizes ask of counts and attributes."""

    definitions: dict[AttributeSource, Definition] = field(default_factory=dict)
    attribute_values: dict[AttributeSource, int] = field(default_factory=dict)
    counts: list[CountConstraint] = field(default_factory=list)
    guards: list[GuardCheck] = field(default_factory=list)
    number_uses: list[NumberUse] = field(default_factory=list)
    at_least_two: set[Free] = field(default_factory=set)
    _known: set[Polynomial] = field(default_factory=set, repr=False)  # those of `counts`


def collect(programs: Sequence[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> Constraints:
    """Sort the size equations of all programs. Freezes the axes of literals and of what does not fit any form."""
    result = Constraints()
    equations: list[tuple[Polynomial, Any, list[Axis]]] = []
    for inferred in programs:
        result.attribute_values.update(inferred.program.attributes)
        for a, b, where in inferred.facts.equal_counts:
            equations.append((size_polynomial(a) - size_polynomial(b), where, [a, b]))
        for axis in inferred.facts.at_least_two:
            result.at_least_two.update(leaves(axis))
        equations += _equations(inferred, of_state)
    equations = [equation for equation in equations if _held_in_the_run(*equation, result)]
    _solve(equations, result)
    # After the sizes: what a comparison defines is only what no size does.
    _solve(equalities(programs, of_state, result.definitions), result)
    for inferred in programs:
        _number_uses(inferred, of_state, result)
    result.guards = find_guards(programs, of_state, result.definitions)
    return result


def _equations(
    inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]
) -> list[tuple[Polynomial, Any, list[Axis]]]:
    found = []
    for equation in inferred.facts.equations:
        if isinstance(equation.expression, int):
            freeze(equation.axis, Reason(f"its size is the literal {equation.expression}", equation.where))
            continue
        axes = [equation.axis, *_axes_in(equation.expression, inferred, of_state)]
        ratio = to_ratio(equation.expression, lambda source: _polynomial(source, inferred, of_state))
        if ratio is None:
            _freeze_all(axes, "its size is computed in a way that is not a rational function", equation.where)
            continue
        found.append((ratio[0] - ratio[1] * size_polynomial(equation.axis), equation.where, axes))
    return found


def _polynomial(
    source: AttributeSource | DimensionSource, inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]
) -> Polynomial:
    if isinstance(source, AttributeSource):
        return Polynomial.symbol(source)
    return size_polynomial(axes_of(inferred.program.values[source.value], inferred, of_state)[source.dim])


def _axes_in(expression: Expression, inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> list[Axis]:
    return [
        axes_of(inferred.program.values[source.value], inferred, of_state)[source.dim]
        for source in sources(expression)
        if isinstance(source, DimensionSource)
    ]


def _freeze_all(axes: Iterable[Axis], text: str, where: Any) -> None:
    for axis in axes:
        freeze(axis, Reason(text, where))


def _held_in_the_run(polynomial: Polynomial, where: Any, axes: list[Axis], result: Constraints) -> bool:
    """An equation that does not hold for the sizes of the run (its expression was clamped) says nothing: freeze."""
    value = polynomial.evaluate(lambda s: s.size if isinstance(s, Free) else result.attribute_values[s])  # type: ignore[index]
    if value != 0:
        _freeze_all(axes, "its size is not what its expression gives", where)
    return value == 0


def _constants(polynomial: Polynomial) -> Polynomial:
    """Frozen axes keep their counts."""
    for symbol in polynomial.symbols:
        if isinstance(symbol, Free) and symbol.reason is not None:
            polynomial = polynomial.substitute(symbol, Polynomial.constant(symbol.size))
    return polynomial


def _solve(equations: list[tuple[Polynomial, Any, list[Axis]]], result: Constraints) -> None:
    """Definitions first, for as long as new ones appear; attributes that remain keep their values."""
    open_equations = [(_constants(p), where, axes) for p, where, axes in equations]
    progress = True
    while progress:
        progress = False
        remaining = []
        for polynomial, where, axes in open_equations:
            polynomial = _substituted(polynomial, result.definitions)
            defined = _definition(polynomial)
            if polynomial == _ZERO:
                continue
            if defined is None:
                remaining.append((polynomial, where, axes))
                continue
            attribute, rest, divisor = defined
            result.definitions[attribute] = Definition(rest, divisor, where)
            progress = True
        open_equations = remaining
    for polynomial, where, axes in open_equations:
        for symbol in polynomial.symbols:
            if isinstance(symbol, AttributeSource):
                polynomial = polynomial.substitute(symbol, Polynomial.constant(result.attribute_values[symbol]))
        _constrain(_constants(polynomial), where, axes, result)


def _substituted(polynomial: Polynomial, definitions: Mapping[AttributeSource, Definition]) -> Polynomial:
    """The polynomial without defined attributes, scaled so that it stays one."""
    for symbol in polynomial.symbols:
        definition = definitions.get(symbol) if isinstance(symbol, AttributeSource) else None
        if definition is None:
            continue
        degree = max((monomial.count(symbol) for monomial in polynomial.terms), default=0)  # 0: they cancelled
        total = _ZERO
        for monomial, factor in polynomial.terms.items():
            power = monomial.count(symbol)
            term = Polynomial(
                {tuple(s for s in monomial if s != symbol): factor * definition.divisor ** (degree - power)}
            )
            for _ in range(power):
                term = term * definition.polynomial
            total = total + term
        polynomial = total
    return _constants(polynomial)


def _definition(polynomial: Polynomial) -> tuple[AttributeSource, Polynomial, int] | None:
    """(attribute, polynomial, divisor) if exactly one attribute occurs, alone and linearly."""
    attributes = [symbol for symbol in polynomial.symbols if isinstance(symbol, AttributeSource)]
    if len(attributes) != 1:
        return None
    (attribute,) = attributes
    factor = polynomial.terms.get((attribute,), 0)
    if not factor or any(attribute in monomial for monomial in polynomial.terms if monomial != (attribute,)):
        return None
    rest = Polynomial({m: -f if factor > 0 else f for m, f in polynomial.terms.items() if m != (attribute,)})
    return attribute, rest, abs(factor)


def _constrain(polynomial: Polynomial, where: Any, axes: list[Axis], result: Constraints) -> None:
    if polynomial == _ZERO:
        return
    polynomial = _cancelled(polynomial)
    if polynomial in result._known or -polynomial in result._known:
        return
    # Only homogeneous equations can be met by scaling counts; a constant term ties them to a number of the code.
    if () in polynomial.terms or len(polynomial.terms) < 2:
        text = f"the code needs {CountConstraint(polynomial, where)}"
        for symbol in polynomial.symbols:
            if isinstance(symbol, Free) and symbol.reason is None:
                symbol.reason = Reason(text, where)
        return
    result.counts.append(CountConstraint(polynomial, where))
    result._known.add(polynomial)


def _cancelled(polynomial: Polynomial) -> Polynomial:
    """Without the factors that all terms share; counts are positive. 2hd - 2he -> d - e."""
    number = math.gcd(*polynomial.terms.values())
    shared = functools.reduce(operator.and_, (Counter(monomial) for monomial in polynomial.terms))
    terms = {}
    for monomial, factor in polynomial.terms.items():
        rest = Counter(monomial) - shared
        terms[tuple(sorted(rest.elements(), key=id))] = factor // number
    return Polynomial(terms)


def refreeze(result: Constraints) -> None:
    """Constraints in which an axis has been frozen since hold for the others with its count as a number."""
    changed = True
    while changed:
        changed = False
        constraints, result.counts = result.counts, []
        result._known.clear()
        for constraint in constraints:
            polynomial = _constants(constraint.polynomial)
            before = {symbol for symbol in polynomial.symbols if isinstance(symbol, Free)}
            _constrain(polynomial, constraint.where, [], result)
            changed |= any(symbol.reason is not None for symbol in before)


def _number_uses(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]], result: Constraints) -> None:
    """Sizes used as numbers: count-only marks, unless the attribute they come from keeps its value."""
    uses = [
        (event, use.expression, use.where, use.uneven, None) for event, use in enumerate(inferred.program.value_uses)
    ]
    scalars = [(-1, expression, where, False, repair) for expression, where, repair in inferred.facts.scalar_uses]
    for event, expression, where, uneven, repair in (*uses, *scalars):
        axes = varying_axes(expression, inferred, of_state, result.definitions)
        if uneven:
            for axis in axes:
                axis.reason = Reason("a size is divided with a remainder, or rounded", where)
        elif axes:
            of_source = functools.partial(_defined, inferred=inferred, of_state=of_state, result=result)
            whole = divides(expression, of_source, [constraint.polynomial for constraint in result.counts])
            size = to_ratio(expression, of_source) if whole else None  # n // 2 is n / 2 for some counts only
            result.number_uses.append(NumberUse(tuple(axes), size, event, where, id(inferred), repair))


def _defined(
    source: AttributeSource | DimensionSource,
    inferred: Inferred,
    of_state: Mapping[str, tuple[Axis, ...]],
    result: Constraints,
) -> Polynomial | Ratio:
    """A source in terms of counts: attributes by their definition, or the value they keep."""
    if isinstance(source, DimensionSource):
        return _polynomial(source, inferred, of_state)
    definition = result.definitions.get(source)
    if definition is None:
        return Polynomial.constant(result.attribute_values[source])
    return definition.polynomial, Polynomial.constant(definition.divisor)
