"""Repairs downstream: a value that pruning makes too large or small by a factor, and what undoes that behind it.

The mean of squares in a normalisation written out, `weight * x * rsqrt(mean(x ** 2) + eps)`, cannot be set right before
the mean, where x goes on to other readers, but it can behind it: in `eps` and in `weight`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torch_pruning.graph.regions import MOVING
from torch_pruning.trace.program import Call, Value

_SAME = frozenset(["relu", "neg", "abs", "dropout", "leaky_relu", "expand", "expand_as", "broadcast_to", *MOVING])
_RESHAPING = frozenset(["view", "reshape", "flatten", "unsqueeze", "squeeze", "permute", "transpose"])
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0}


@dataclass(slots=True)
class Downstream:
    """`errors` maps a value to e: it is (new size / old size) ** e times what it should be.

    `weights` are parameters that have to be scaled by the power given; `attribute` (module, name) is a float that has
    to grow by `attribute_power`. A weight that is read in several places, as by a module that is called several times,
    has to take up the same error in all of them: `taken` are the identities of the calls where it does.
    """

    modules: Mapping[str, nn.Module]
    producer: Mapping[int, tuple[Call, int]]
    errors: dict[int, float] = field(default_factory=dict)
    weights: dict[str, tuple[Value, float]] = field(default_factory=dict)
    attribute: tuple[str, str] | None = None
    attribute_power: float = 0.0
    taken: dict[str, set[int]] = field(default_factory=dict)

    def follow(self, consumers: Mapping[int, list[Call]], positions: Mapping[int, int], outputs: set[int]) -> bool:
        """Carry the errors through the calls that read them, in order; false where one cannot be undone.

        `positions` maps the identity of a call to its place in the program.
        """
        ahead = [(positions[id(call)], call) for index in self.errors for call in consumers.get(index, [])]
        heapq.heapify(ahead)
        done = -1
        while ahead:
            position, call = heapq.heappop(ahead)
            if position == done:
                continue
            done = position
            if not self._through(call, consumers):
                return False
            for result in call.results():
                if result.index in self.errors:
                    for reader in consumers.get(result.index, []):
                        heapq.heappush(ahead, (positions[id(reader)], reader))
        everywhere = all(
            self.taken[name] == set(map(id, _readers(value, consumers))) for name, (value, _) in self.weights.items()
        )
        return everywhere and not any(index in outputs for index in self.errors)

    def _through(self, call: Call, consumers: Mapping[int, list[Call]]) -> bool:
        if call.mutated:
            return False
        base = call.op.split(".")[1]
        first = call.args[0]
        second = call.args[1] if len(call.args) > 1 else None
        error = self.errors.get(first.index, 0.0) if isinstance(first, Value) else 0.0
        if base in _SAME and base not in ("cat", "concat", "concatenate"):
            return self._set(call, error)
        if base in _POWERS:
            return self._set(call, error * _POWERS[base])
        if base == "pow" and isinstance(second, int | float):
            return self._set(call, error * second)
        if base in ("mul", "multiply"):
            return self._product(call, consumers)
        if base == "addcmul":  # bias + weight * x: a weight has to take up what is wrong with x
            return not error and "value" not in call.kwargs and self._taken_up(call, call.args[1:3], consumers)
        if base in ("div", "divide", "true_divide"):
            return self._set(call, error - (self.errors.get(second.index, 0.0) if isinstance(second, Value) else 0.0))
        if base == "add" and isinstance(second, float):
            return self._constant(call, second, error) and self._set(call, error)
        if base == "linear":
            return self._weight(call, call.args[1], -error, consumers)
        return False

    def _set(self, call: Call, error: float) -> bool:
        for result in call.results():
            self.errors[result.index] = error
        return True

    def _product(self, call: Call, consumers: Mapping[int, list[Call]]) -> bool:
        """A parameter as the other factor takes the error up; anything else passes it on."""
        if self._taken_up(call, call.args[:2], consumers):
            return True  # what a scaled parameter gives is right again
        return self._set(call, self._error(call.args[:2]))

    def _taken_up(self, call: Call, factors: Sequence[Any], consumers: Mapping[int, list[Call]]) -> bool:
        weights = (self._parameter(factor) for factor in factors if isinstance(factor, Value))
        return any(self._weight(call, weight, -self._error(factors), consumers) for weight in weights)

    def _error(self, factors: Sequence[Any]) -> float:
        return sum(self.errors.get(factor.index, 0.0) for factor in factors if isinstance(factor, Value))

    def _parameter(self, value: Value) -> Value:
        """What a value is another shape of: `weight.view(1, -1, 1, 1)` -> weight."""
        while value.index in self.producer and _reshapes(self.producer[value.index][0]):
            value = self.producer[value.index][0].args[0]
        return value

    def _weight(self, call: Call, weight: Value, power: float, consumers: Mapping[int, list[Call]]) -> bool:
        if weight.kind != "state" or len({str(reader.where) for reader in _readers(weight, consumers)}) != 1:
            return False
        if self.weights.setdefault(weight.name, (weight, power))[1] != power:
            return False
        self.taken.setdefault(weight.name, set()).add(id(call))
        return True

    def _constant(self, call: Call, number: float, error: float) -> bool:
        """A constant beside the value grows with it: possible for a float attribute of the module that adds it."""
        if number == 0.0:
            return True
        module = self.modules.get(call.where.module)
        attributes = vars(module) if module is not None else {}
        names = [name for name, item in attributes.items() if type(item) is float and item == number]
        found = (call.where.module, names[0]) if len(names) == 1 else None
        if found is None or (self.attribute is not None and (self.attribute, self.attribute_power) != (found, error)):
            return False
        self.attribute, self.attribute_power = found, error
        return True


def _reshapes(call: Call) -> bool:
    return call.op.split(".")[1] in _RESHAPING and not call.mutated


def _readers(value: Value, consumers: Mapping[int, list[Call]]) -> list[Call]:
    """The calls that read a value, in whatever shape."""
    found: list[Call] = []
    for call in consumers.get(value.index, []):
        found += _readers(call.results()[0], consumers) if _reshapes(call) else [call]
    return found
