"""Numbers that sizes enter, made right by scaling parameters.

Where the only thing wrong after pruning is a factor on some value (the default scale of attention, a mean, a scale that
the code computes from a shape), the factor can be undone in the parameters that the value is linear in. This searches
for them: from the value back through ops that pass a factor on, to weights that nothing else reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.axes.sizes import Polynomial, Ratio, size_polynomial
from torch_pruning.graph.counts import counted
from torch_pruning.graph.infer import Inferred
from torch_pruning.graph.regions import (
    MOVING,
    Region,
    backward,
    everything,
    forward,
    is_empty,
    part_of_output,
    same,
    union,
)
from torch_pruning.graph.repair_forward import Downstream
from torch_pruning.rules.facts import ScaleRepair
from torch_pruning.rules.operand import Operand
from torch_pruning.trace.program import Call, Value

# Elementwise functions with f(s x) = s f(x) for s > 0, entry by entry, in their first argument.
_HOMOGENEOUS = frozenset(["relu", "neg", "abs", "dropout", "leaky_relu", "mul", "div"])
_PRODUCING = {"linear": -1, "conv1d": 1, "conv2d": 1, "conv3d": 1}
_AFFINE = {"layer_norm": -1, "rms_norm": -1, "batch_norm": 1, "group_norm": 1}


@dataclass(frozen=True, slots=True)
class Target:
    """Positions of one dimension of a parameter that are scaled."""

    tensor: str
    dim: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """Scale the targets by (new size / old size) ** power, and a float attribute of a module by `attribute_power`.

    What is wrong by a factor is made up for in the targets before it is, unless `behind`: then they read it, and what
    they make of it is right again.
    """

    targets: frozenset[Target]
    power: float
    size: Ratio
    attribute: tuple[str, str] | None = None
    attribute_power: float = -1.0
    where: str = field(default="", compare=False)
    behind: bool = field(default=False, compare=False)

    def change(self, counts: Mapping[Free, int]) -> float:
        """new size / old size under these counts."""
        numerator, denominator = self.size
        now, then = counted({}), counted(counts)
        new = numerator.evaluate(then) / denominator.evaluate(then)
        return new / (numerator.evaluate(now) / denominator.evaluate(now))


@dataclass(slots=True)
class _Search:
    regions: dict[int, Region] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)  # by tensor; regions only grow, so the last one holds
    passed: set[tuple[int, int]] = field(default_factory=set)  # (call, value) through which the factor goes


class RepairFinder:
    """Finds repairs in one program."""

    def __init__(self, inferred: Inferred, modules: Mapping[str, nn.Module]) -> None:
        self.inferred = inferred
        self.modules = modules
        self.producer: dict[int, tuple[Call, int]] = {}
        self.consumers: dict[int, list[Call]] = {}
        self.positions: dict[int, int] = {}
        for position, call in enumerate(inferred.calls):
            self.positions[id(call)] = position
            for index, value in enumerate(call.results()):
                self.producer[value.index] = (call, index)
            for value in {value.index: value for value in call.inputs()}.values():
                self.consumers.setdefault(value.index, []).append(call)
        self.places: dict[str, list[ScaleRepair]] = {}  # what is wanted, by where
        for statistic in inferred.facts.statistics:
            if statistic.repair is not None:
                self.places.setdefault(str(statistic.repair.where), []).append(statistic.repair)
        self.outputs = {value.index for value in (*inferred.program.outputs, *inferred.program.carried)}

    def targets(self, operand: Operand) -> frozenset[Target] | None:
        """The parameters to scale so that this operand is scaled for its reader alone; None if there are none."""
        value = self.inferred.program.values[operand.value]
        if value.kind == "state":
            return None
        search = _Search()
        ok = self._scale(value, everything(value.shape), search) and self._consistent(search, operand)
        return frozenset(search.targets.values()) if ok and search.targets else None

    def weight(self, operand: Operand) -> frozenset[Target] | None:
        """All of a weight that nothing else reads, but the same line on another turn."""
        value = self.inferred.program.values[operand.value]
        readers = {(reader.op, str(reader.where)) for reader in self.consumers.get(operand.value, [])}
        if value.kind != "state" or len(readers) != 1:
            return None
        return frozenset({Target(value.name, 0, tuple(range(value.shape[0])))})

    def find(self, wanted: ScaleRepair, size: Ratio | None = None) -> Repair | None:
        """The repair that a rule asked for, if there is one. `size` is that of the value use, if it comes from one."""
        if size is None:
            assert wanted.axis is not None
            size = (size_polynomial(wanted.axis), Polynomial.constant(1))
        if wanted.attribute:
            found = self.weight(wanted.operand)
            attribute = (wanted.where.module, wanted.attribute)
            return Repair(found, wanted.power, size, attribute, where=str(wanted.where)) if found else None
        found = self.targets(wanted.operand)
        if found:
            return Repair(found, wanted.power, size, where=str(wanted.where))
        return self.behind(wanted, size) if wanted.linear else None

    def behind(self, wanted: ScaleRepair, size: Ratio) -> Repair | None:
        """The repair behind the op that reads the operand: its result is wrong by the power `-wanted.power`."""
        search = Downstream(self.modules, self.producer)
        for twin in self._turns(wanted):
            search.errors.update({result.index: -wanted.power for result in twin.operand.reader.results()})
        if not search.follow(self.consumers, self.positions, self.outputs):
            return None
        powers = {power for _, power in search.weights.values()}
        if len(powers) != 1:
            return None
        whole = [(name, tuple(range(value.shape[0]))) for name, (value, _) in search.weights.items() if value.shape]
        targets = frozenset(Target(name, 0, positions) for name, positions in whole)
        where = str(wanted.where)
        return Repair(targets, powers.pop(), size, search.attribute, search.attribute_power, where, behind=True)

    def _turns(self, wanted: ScaleRepair) -> list[ScaleRepair]:
        """What is wanted, and the same of each other turn of its line: of a module that is called several times."""
        if wanted.axis is None:
            return [wanted]
        size = size_polynomial(wanted.axis)
        others = [other for other in self.places.get(str(wanted.where), []) if other is not wanted]
        return [wanted, *(o for o in others if o.power == wanted.power and o.axis and size_polynomial(o.axis) == size)]

    # ---- backwards

    def _scale(self, value: Value, region: Region, search: _Search) -> bool:
        """Ask for the entries of a region to be scaled; false where that is impossible."""
        known = search.regions.get(value.index)
        if known is not None:
            both = union(region, known)
            if both is None:
                return False
            region = both
            if same(region, known):
                return True
        search.regions[value.index] = region
        if value.index in self.outputs or value.index not in self.producer:
            return False
        call, position = self.producer[value.index]
        base = call.op.split(".")[1]
        if call.mutated and base.rstrip("_") not in _HOMOGENEOUS:
            return False
        if base in MOVING:
            sources = backward(call, position, region)
            return sources is not None and all(
                is_empty(inner) or self._pass(call, source, inner, search) for source, inner in sources
            )
        if base in ("add", "sub"):
            terms = call.args[:2]
            whole = all(isinstance(term, Value) and term.shape == value.shape for term in terms)
            return whole and all(self._pass(call, term, region, search) for term in terms)
        if base.rstrip("_") in _HOMOGENEOUS:
            return self._through_elementwise(call, value, region, search)
        if base in ("matmul", "bmm") and all(bool(vector.all()) for vector in region):
            left, right = call.args[:2]
            return left is not right and self._pass(call, left, everything(left.shape), search)
        if base in _PRODUCING:
            return self._at_weight(call, region, _PRODUCING[base], search)
        if base in _AFFINE:
            return self._at_affine(call, region, _AFFINE[base], search)
        return False

    def _pass(self, call: Call, value: Value, region: Region, search: _Search) -> bool:
        search.passed.add((id(call), value.index))
        return self._scale(value, region, search)

    def _through_elementwise(self, call: Call, value: Value, region: Region, search: _Search) -> bool:
        """One factor of a product is scaled: the first of the full shape that was computed, and that is no square."""
        linear_in = call.args if call.op.startswith(("aten.mul.", "aten.mul_.")) else call.args[:1]
        whole = [
            arg
            for arg in linear_in
            if isinstance(arg, Value)
            and arg.shape == value.shape
            and arg.kind == "computed"
            and sum(arg is other for other in call.args) == 1
        ]
        return bool(whole) and "rounding_mode" not in call.kwargs and self._pass(call, whole[0], region, search)

    def _at_weight(self, call: Call, region: Region, dim: int, search: _Search) -> bool:
        """A linear layer or convolution: rows of its weight, and its bias."""
        tensors = [arg for arg in (*call.args[1:3], call.kwargs.get("bias")) if isinstance(arg, Value)]
        return self._add_targets(tensors, region, dim, search)

    def _at_affine(self, call: Call, region: Region, dim: int, search: _Search) -> bool:
        """A normalisation with a weight: that, and its bias."""
        first = 2 if call.op.split(".")[1] in ("layer_norm", "rms_norm", "group_norm") else 1
        tensors = [arg for arg in call.args[first : first + 2] if isinstance(arg, Value)]
        return all(len(tensor.shape) == 1 for tensor in tensors) and self._add_targets(tensors, region, dim, search)

    def _add_targets(self, tensors: list[Value], region: Region, dim: int, search: _Search) -> bool:
        dim %= len(region)
        if not all(bool(vector.all()) for other, vector in enumerate(region) if other != dim):
            return False
        positions = tuple(region[dim].nonzero().flatten().tolist())
        for tensor in tensors:
            alone = len(self.consumers.get(tensor.index, [])) == 1
            if tensor.kind != "state" or not alone or tensor.shape[0] != region[dim].numel():
                return False
            search.targets[tensor.name] = Target(tensor.name, 0, positions)
        return bool(tensors)

    # ---- forwards: nothing else may see the factor

    def _consistent(self, search: _Search, start: Operand) -> bool:
        """Every other reader makes of a scaled value what was asked for, or reads none of the region."""
        for index, region in search.regions.items():
            for call in self.consumers.get(index, []):
                if index == start.value and call is start.reader:
                    continue
                if not self._follows(call, index, region, search):
                    return False
        return True

    def _follows(self, call: Call, index: int, region: Region, search: _Search) -> bool:
        results = list(call.results())
        if call.op.split(".")[1] in MOVING:
            value = next(value for value in call.inputs() if value.index == index)
            made = forward(call, value, region)
            if made is None:
                return False
            wanted = [part_of_output(call, value, search.regions.get(result.index)) for result in results]
            return all(same(a, b) for a, b in zip(made, wanted, strict=True))
        if (id(call), index) not in search.passed:
            return False
        if call.op.split(".")[1] in ("matmul", "bmm"):
            return True
        return all(same(search.regions.get(result.index), region) for result in results)
