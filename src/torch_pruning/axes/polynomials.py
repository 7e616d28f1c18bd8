"""Polynomials in sizes: what counts of units and integers of the code are compared by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping

Symbol = Hashable
Monomial = tuple[Symbol, ...]


class Polynomial:
    """A polynomial with integer coefficients: `{(): 3, (a, b): 2}` is 3 + 2ab.

    The symbols of a monomial stand in an order that equal symbols share, so that equal polynomials compare equal.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        return cls({(): value})

    @classmethod
    def symbol(cls, symbol: Symbol) -> Polynomial:
        return cls({(symbol,): 1})

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return Polynomial({monomial: -factor for monomial, factor in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for a, x in self.terms.items():
            for b, y in other.terms.items():
                monomial = tuple(sorted(a + b, key=_order)) if a and b else a + b
                terms[monomial] = terms.get(monomial, 0) + x * y
        return Polynomial(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    @property
    def symbols(self) -> list[Symbol]:
        """The symbols that occur, each once, in order of first appearance."""
        return list(dict.fromkeys(symbol for monomial in self.terms for symbol in monomial))

    @property
    def value(self) -> int | None:
        """The number, if the polynomial is constant; None otherwise."""
        return None if any(self.terms) else self.terms.get((), 0)

    def evaluate(self, counts: Callable[[Symbol], int]) -> int:
        total = 0
        for monomial, factor in self.terms.items():
            for symbol in monomial:
                factor *= counts(symbol)
            total += factor
        return total

    def substitute(self, symbol: Symbol, replacement: Polynomial) -> Polynomial:
        result = Polynomial({})
        for monomial, factor in self.terms.items():
            term = Polynomial({tuple(s for s in monomial if s != symbol): factor})
            for _ in range(monomial.count(symbol)):
                term = term * replacement
            result = result + term
        return result

    def is_multiple_of(self, other: Polynomial) -> bool:
        """Whether this is `other` times a polynomial, told for an `other` of one term, or for this very one."""
        if self == other or not self.terms:
            return True
        if len(other.terms) != 1:
            return False
        ((divisor, number),) = other.terms.items()
        needed = Counter(divisor)
        return all(not factor % number and needed <= Counter(monomial) for monomial, factor in self.terms.items())

    def solutions(self) -> list[tuple[Symbol, Polynomial]]:
        """(symbol, what it equals where this is zero) for symbols that stand alone in one term: c - h*d -> c = h*d."""
        found = []
        for monomial, factor in self.terms.items():
            if len(monomial) == 1 and abs(factor) == 1 and sum(monomial[0] in m for m in self.terms) == 1:
                rest = Polynomial({m: -f * factor for m, f in self.terms.items() if m != monomial})
                found.append((monomial[0], rest))
        return found

    def __repr__(self) -> str:
        def show(monomial: Monomial, factor: int) -> str:
            names = "*".join(getattr(s, "name", "") or str(s) for s in monomial)
            return names if factor == 1 and names else f"{factor}*{names}" if names else str(factor)

        return " + ".join(show(*item) for item in self.terms.items()) or "0"


def _order(symbol: Symbol) -> tuple[int, str]:
    """Variables by age, all else by name: the same for equal symbols, and the same in every run."""
    serial: int | None = getattr(symbol, "serial", None)
    return (-1, repr(symbol)) if serial is None else (serial, "")
