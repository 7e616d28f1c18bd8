"""Parameters and multiply-accumulates as polynomials in the counts of the free axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Axis, Free, product, resolve
from torch_pruning.axes.sizes import Polynomial, size_polynomial
from torch_pruning.graph.counts import Counts, counted
from torch_pruning.rules.facts import Cost


@dataclass(frozen=True, slots=True)
class CostValue:
    """`parameters`: elements of all parameters; `macs`: multiply-accumulates of one sample."""

    parameters: int
    macs: int


@dataclass(slots=True)
class CostModel:
    """Evaluates in microseconds what any choice of counts costs.

    Terms of the same axes are added up beforehand: `terms` maps the axes' polynomial to a factor.
    """

    parameter_terms: list[tuple[float, list[Polynomial]]]
    mac_terms: list[tuple[float, list[Polynomial]]]

    def __call__(self, counts: Counts | None = None) -> CostValue:
        count = counted(counts or {})
        cache: dict[int, int] = {}

        def total(terms: list[tuple[float, list[Polynomial]]]) -> float:
            result = 0.0
            for factor, polynomials in terms:
                value = factor
                for polynomial in polynomials:
                    size = cache.get(id(polynomial))
                    if size is None:
                        size = cache[id(polynomial)] = polynomial.evaluate(count)
                    value *= size
                result += value
            return result

        return CostValue(round(total(self.parameter_terms)), round(total(self.mac_terms)))


def cost_model(parameters: Iterable[Sequence[Axis]], costs: Iterable[Cost], batch: int) -> CostModel:
    """`parameters`: the axes of each; `costs`: MACs of one run with `batch` samples."""
    shared: dict[str, Polynomial] = {}

    def term(axes: Sequence[Axis]) -> list[Polynomial]:
        polynomials = []
        for axis in axes:
            axis = resolve(product((axis,)))
            key = _key(axis)
            if key not in shared:
                shared[key] = size_polynomial(axis)
            polynomials.append(shared[key])
        return polynomials

    def collected(rows: Iterable[tuple[float, list[Polynomial]]]) -> list[tuple[float, list[Polynomial]]]:
        merged: dict[tuple[int, ...], tuple[float, list[Polynomial]]] = {}
        for factor, polynomials in rows:
            varying = []
            for polynomial in polynomials:
                if polynomial.value is not None:
                    factor *= polynomial.value
                else:
                    varying.append(polynomial)
            key = tuple(sorted(map(id, varying)))
            merged[key] = (merged.get(key, (0.0, varying))[0] + factor, varying)
        return list(merged.values())

    return CostModel(
        collected((1.0, term(axes)) for axes in parameters),
        collected((cost.factor / batch, term(cost.axes)) for cost in costs),
    )


def _key(axis: Axis) -> str:
    children = getattr(axis, "factors", None) or getattr(axis, "parts", None)
    if children is None:
        return f"f{axis.serial}" if isinstance(axis, Free) else f"{axis.size}"
    return f"{type(axis).__name__}({','.join(map(_key, children))})"
