"""Which weights of a model may be solved for, and where a shift of their outputs can go."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.biases import may_take_bias
from torch_pruning.planning.plan import Plan
from torch_pruning.recovery.readings import READINGS, Reading
from torch_pruning.rules.call import CONTRACTED
from torch_pruning.trace.program import Call, Value
from torch_pruning.trace.substitute import named_tensors

_ATTENTION = "torch.multi_head_attention_forward"
# Arguments of attention that are the weight and bias of a product.
_PROJECTIONS = (((11, "out_proj_weight"), (12, "out_proj_bias")), ((5, "in_proj_weight"), (6, "in_proj_bias")))
_BATCH_NORM = "aten.batch_norm"
# By the op's name without overload and "in place": the least and the most that it lets through when called as it is
# with these further arguments.
_CLAMPS: dict[str, Callable[..., tuple[float, float]]] = {
    "aten.relu": lambda: (0.0, math.inf),
    "aten.relu6": lambda: (0.0, 6.0),
    "aten.hardtanh": lambda low=-1.0, high=1.0: (low, high),
    "aten.clamp_min": lambda low: (low, math.inf),
}
_SUMS = ("aten.add.Tensor", "aten.add_.Tensor")


@dataclass(frozen=True, slots=True)
class Solvable:
    """A weight that products alone read. A shift of the outputs goes into `bias`, is taken from `running_mean` of the
    batch norm behind, or into a bias that `module` gets, in this order; `changed` says that its inputs lose units.

    `normed`: its outputs go into a batch norm and nowhere else; `added`: they, or what that makes of them, go into a
    sum and nowhere else; `limits`: what comes of all this goes into a clamp to (low, high) and nowhere else."""

    name: str
    changed: bool
    bias: str | None = None
    running_mean: str | None = None
    module: str | None = None
    normed: bool = False
    added: bool = False
    limits: tuple[float, float] | None = None

    @property
    def place(self) -> str | None:
        """Where its outputs are judged: behind a "norm", in a "sum", or where they come out."""
        return "sum" if self.added else "norm" if self.normed and self.limits else None

    @property
    def shifts(self) -> bool:
        """Whether there is a place for a shift of the outputs."""
        return self.bias is not None or self.running_mean is not None or self.module is not None


@dataclass(frozen=True, slots=True)
class Refused:
    """A weight whose inputs lose units and which is left as it is."""

    name: str
    reason: str


def solvable_weights(graph: Graph, losing: Collection[str]) -> tuple[dict[str, Solvable], list[Refused]]:
    """What can be solved for, by name, in the order of the model's tensors; and what of the `losing` cannot."""
    calls = graph.programs[0].calls
    readers: dict[int, list[Call]] = {}
    for call in calls:
        for value in call.inputs():
            readers.setdefault(value.index, []).append(call)
    found: dict[str, Solvable] = {}
    refused: list[Refused] = []
    modules = _modules_without_bias(graph.model)
    for name, value in graph.programs[0].program.state.items():
        reading = _only_products(value, readers.get(value.index, []))
        if reading is None:
            if name in losing:
                refused.append(Refused(name, _why(readers.get(value.index, []))))
            continue
        uses = readers[value.index]
        bias = _bias(value, uses)
        mean = _running_mean(uses, readers) if bias is None else None
        found[name] = Solvable(name, name in losing, bias, mean, modules.get(name) if bias is None else None)
    found.update(_judged(graph, found, readers))
    return found, refused


def _judged(
    graph: Graph, found: Mapping[str, Solvable], readers: Mapping[int, list[Call]]
) -> Iterator[tuple[str, Solvable]]:
    """The weights with where their outputs go; of two terms of a sum the later, which can make up for the other."""
    program = graph.programs[0].program
    handed_out = {value.index for value in program.outputs}
    at: dict[int, Solvable] = {}
    for call in graph.programs[0].calls:
        weight = next((v.name for v in call.inputs() if v.kind == "state" and v.name in found), None)
        uses = readers.get(program.state[weight].index, []) if weight else []
        if weight is None or len(uses) != 1 or call.op == _ATTENTION or uses[0] is not call:
            continue
        value = call.results()[0]
        after = _only_reader(value, readers)
        normed = after is not None and after.op.startswith(_BATCH_NORM) and after.args[0] is value
        if after is not None and normed:
            value = after.results()[0]
            after = _only_reader(value, readers)
        added = after is not None and _adds(after)
        if after is not None and added:
            value = after.results()[0]
            after = _only_reader(value, readers)
        limits = None if after is None or value.index in handed_out else _limits(after)
        at[value.index] = replace(found[weight], normed=normed, added=added, limits=limits)
    return ((weight.name, weight) for weight in at.values())


def _limits(call: Call) -> tuple[float, float] | None:
    """The least and the most that a clamp lets through; None for any other op."""
    name = ".".join(call.op.split(".")[:2]).removesuffix("_")  # aten.relu_.default -> aten.relu
    arguments = (*call.args[1:], *call.kwargs.values())
    if name not in _CLAMPS or not all(isinstance(argument, (int, float)) for argument in arguments):
        return None
    low, high = _CLAMPS[name](*arguments)
    return float(low), float(high)


def _adds(call: Call) -> bool:
    """Whether it is the plain sum of two tensors that were computed."""
    if call.op not in _SUMS or call.kwargs or len(call.args) != 2:
        return False
    left, right = call.args
    alike = isinstance(left, Value) and isinstance(right, Value) and left.shape == right.shape
    return alike and left is not right and "state" not in (left.kind, right.kind)


def _only_reader(value: Value, readers: Mapping[int, list[Call]]) -> Call | None:
    found = readers.get(value.index, [])
    return found[0] if len(found) == 1 else None


def losing_inputs(graph: Graph, plan: Plan) -> set[str]:
    """The tensors with a contracted dimension that shrinks."""
    shrinking = {(name, dim) for name, dims in plan.kept.items() for dim in dims}
    shrinking |= {(name, block.dim) for name, block in plan.blocks.items()}
    roles = graph.programs[0].facts.roles
    return {role.tensor for role in roles if role.role == CONTRACTED and (role.tensor, role.dim) in shrinking}


def _product(call: Call, value: Value) -> Reading | None:
    """The reading under which this call multiplies by the value, if it does nothing else with it."""
    reading = READINGS.get(call.op.replace(".", "::", 1).partition(".")[0])
    if reading is None or len(call.args) <= reading.weight or call.args[reading.weight] is not value:
        return None
    return reading if call.inputs().count(value) == 1 and reading.takes(call.args) else None


def _only_products(value: Value, readers: list[Call]) -> Reading | str | None:
    """What the readers all do; projections of attention count as linear, for that is what they come to."""
    kinds = {"linear" if _projection(call, value) else _product(call, value) for call in readers}
    return kinds.pop() if len(kinds) == 1 else None


def _projection(call: Call, value: Value) -> tuple[int, str] | None:
    """Where attention takes the bias for this weight: of its outputs, or of self-attention's inputs, all in one."""
    if call.op != _ATTENTION or call.inputs().count(value) != 1:
        return None
    alone = call.args[0] is call.args[1] is call.args[2]
    return next((bias for weight, bias in _PROJECTIONS[: 2 if alone else 1] if _argument(call, weight) is value), None)


def _argument(call: Call, position_and_name: tuple[int, str]) -> object:
    position, name = position_and_name
    return call.args[position] if len(call.args) > position else call.kwargs.get(name)


def _why(readers: list[Call]) -> str:
    ops = sorted({call.op for call in readers})
    if not readers:
        return "it is not read as it is: something is computed from it first"
    return f"it is read by {', '.join(ops)}: other than by products with it, or by products of several kinds"


def _bias(value: Value, uses: list[Call]) -> str | None:
    """The one tensor of the model that all uses add."""
    found: set[str] = set()
    for call in uses:
        reading = _product(call, value)
        projection = _projection(call, value)
        if reading is None:
            bias = None if projection is None else _argument(call, projection)
        else:
            bias = call.args[reading.bias] if reading.bias is not None and len(call.args) > reading.bias else None
        found.add(bias.name if isinstance(bias, Value) and bias.kind == "state" else "")
    return (found.pop() or None) if len(found) == 1 else None


def _running_mean(uses: list[Call], readers: dict[int, list[Call]]) -> str | None:
    """The running mean of the batch norm that takes the outputs, and alone does."""
    if len(uses) != 1:
        return None
    after = readers.get(uses[0].results()[0].index, []) if uses[0].results() else []
    if len(after) != 1 or not after[0].op.startswith(_BATCH_NORM):
        return None
    mean = after[0].args[3] if len(after[0].args) > 3 else after[0].kwargs.get("running_mean")
    return mean.name if isinstance(mean, Value) and mean.kind == "state" and len(readers[mean.index]) == 1 else None


def _modules_without_bias(model: nn.Module) -> dict[str, str]:
    """{weight: module} of torch's own layers that have a place for a bias and none in it."""
    names = {id(tensor): name for name, tensor in named_tensors(model)}

    def fitting() -> Iterator[tuple[str, str]]:
        for path, module in model.named_modules():
            if may_take_bias(module) and not module._forward_hooks:
                yield names.get(id(module._parameters["weight"]), ""), path

    return dict(fitting())
