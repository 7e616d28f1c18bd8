"""Scores, found in the recorded run: sums over d of query[.., i, d] * key[.., j, d], where both are outputs of products
with weights that have only been moved about since (split into heads, transposed, repeated for several queries).

Which output of which weight is which head dim of which head is found by pushing their positions through the very ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torch_pruning.axes.expression import leaves
from torch_pruning.graph.infer import Inferred
from torch_pruning.graph.regions import MOVING
from torch_pruning.planning.plan import Plan
from torch_pruning.recovery.readings import READINGS
from torch_pruning.trace.program import Call, Value

_CHANGES_NUMBERS = frozenset(["to", "_to_copy", "type_as"])  # labels keep theirs
_MOVES = (MOVING | {"expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "dropout"}) - {
    "cat",
    "concat",
    "concatenate",
}
_SCALED = frozenset(["mul", "div"])
_MATRIX_PRODUCTS = frozenset(["matmul", "bmm"])
_ATTENTION = "scaled_dot_product_attention"
_STOCK = "torch.multi_head_attention_forward"


@dataclass(frozen=True, slots=True)
class Source:
    """A weight that one product reads, the dimension of its outputs, and the bias that is added, if any."""

    weight: str
    dim: int
    bias: str | None


@dataclass(frozen=True, slots=True)
class Heads:
    """Head dims of scores as outputs of products: `queries` [keys, queries of each key, D], `keys` [keys, D].

    The queries that share a key stand together. With `softmax`, what is the same for all keys of a query is no matter.
    """

    query: Source
    key: Source
    queries: Tensor
    keys: Tensor
    softmax: bool
    where: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Scores that lose head dims and whose sides are not such outputs."""

    where: str
    reason: str


def find_scores(inferred: Inferred, plan: Plan) -> tuple[list[Heads], list[Unmatched]]:
    """The scores of the run that lose head dims under the plan, and of those the ones that cannot be matched."""
    flow = _Flow.of(inferred)
    found: list[Heads] = []
    unmatched: list[Unmatched] = []
    for call in inferred.calls:
        if not _loses(call, inferred, plan):
            continue
        heads = _stock_heads(call) if call.op == _STOCK else flow.heads(call)
        if isinstance(heads, str):
            unmatched.append(Unmatched(str(call.where), heads))
        else:
            found.append(heads)
    return found, unmatched


def _loses(call: Call, inferred: Inferred, plan: Plan) -> bool:
    """Whether the call sums products over an axis that loses units."""
    base = _base(call)
    if call.op == _STOCK:
        weight = call.args[11] if len(call.args) > 11 else call.kwargs.get("out_proj_weight")
        return isinstance(weight, Value) and _removed(inferred, weight, 1, plan)
    sides = _sides(call) if base in _MATRIX_PRODUCTS or base == _ATTENTION else None
    return sides is not None and _removed(inferred, sides[0], len(sides[0].shape) - 1, plan)


def _removed(inferred: Inferred, value: Value, dim: int, plan: Plan) -> bool:
    axes = inferred.axes.get(value.index)
    return axes is not None and any(leaf in (plan.choice or {}) for leaf in leaves(axes[dim]))


def _base(call: Call) -> str:
    return call.op.split(".")[1]


def _sides(call: Call) -> tuple[Value, Value] | None:
    """Left and right, if both were computed and have several positions, none of which could be anything else."""
    left, right = call.args[:2]
    if not isinstance(left, Value) or not isinstance(right, Value) or left is right:
        return None
    several = min(len(left.shape), len(right.shape)) > 2 and left.shape[-2] > 1
    computed = left.kind == right.kind == "computed"
    return (left, right) if several and computed else None


def _stock_heads(call: Call) -> Heads | str:
    """Self-attention of torch's own layer: q, k and v are thirds of one weight, heads the first factor of each."""
    heads, weight, bias, more_keys = (call.args[n] for n in (4, 5, 6, 7))
    if not isinstance(weight, Value) or not call.args[0] is call.args[1] is call.args[2] or more_keys is not None:
        return "queries and keys of torch's attention come from different inputs, or keys are added to"
    rows = torch.arange(weight.shape[0]).view(3, int(heads), -1)
    source = Source(weight.name, 0, bias.name if isinstance(bias, Value) else None)
    return Heads(source, source, rows[0].unsqueeze(1), rows[1], True, str(call.where))


@dataclass(slots=True)
class _Flow:
    """Where outputs of products go. `arrived`: {(call, side): (weight, labels of what arrives)}; `elsewhere`: what of a
    weight's outputs is read by something other than moves and scores, and by what."""

    readers: Mapping[int, list[Call]]
    outputs: set[int]
    arrived: dict[tuple[int, int], tuple[Source, Tensor]] = field(default_factory=dict)
    elsewhere: dict[Source, list[tuple[Tensor, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, inferred: Inferred) -> _Flow:
        """Every product with a weight of the model, followed to what reads its outputs."""
        readers: dict[int, list[Call]] = {}
        for call in inferred.calls:
            for value in {value.index: value for value in call.inputs()}.values():
                readers.setdefault(value.index, []).append(call)
        program = inferred.program
        flow = cls(readers, {value.index for value in (*program.outputs, *program.carried)})
        for call in inferred.calls:
            source = _source(call, readers)
            if source is not None:
                flow.follow(source, call.results()[0], _labels(call, source))
        return flow

    def follow(self, source: Source, value: Value, labels: Tensor) -> None:
        """Push labels through every reader of the value, and of what they make of it."""
        ahead = [(value, labels)]
        while ahead:
            value, labels = ahead.pop()
            if value.index in self.outputs:
                self._lost(source, labels, "it is an output of the model")
            for call in self.readers.get(value.index, []):
                side = _side(call, value)
                if side is not None:
                    self.arrived[id(call), side] = source, labels if side == 0 else _as_key(call, labels)
                elif (moved := _moved(call, value, labels)) is not None:
                    ahead += zip(call.results(), moved, strict=True)
                else:
                    self._lost(source, labels, f"{call.op} at {call.where} reads it")

    def _lost(self, source: Source, labels: Tensor, why: str) -> None:
        self.elsewhere.setdefault(source, []).append((labels.unique(), why))

    def heads(self, call: Call) -> Heads | str:
        """The two sides of a score by head, or why they are not known."""
        query, key = self.arrived.get((id(call), 0)), self.arrived.get((id(call), 1))
        if query is None or key is None:
            return "more than moves stand between the products and the scores, such as rotary embeddings or a norm"
        left, right = _by_head(query[1]), _by_head(key[1])
        if left is None or right is None or len(left) % len(right):
            return "head dims are not the same outputs at each position"
        right = right.repeat_interleave(len(left) // len(right), 0)
        for source, labels in ((query[0], left), (key[0], right)):
            for others, why in self.elsewhere.get(source, []):
                if torch.isin(labels, others).any():
                    return f"outputs of {source.weight} go elsewhere too: {why}"
        grouped = _grouped(left, right)
        if grouped is None:
            return "queries meet several keys"
        return Heads(query[0], key[0], *grouped, _softmax_follows(call, self.readers), str(call.where))


def _source(call: Call, readers: Mapping[int, list[Call]]) -> Source | None:
    """The weight and bias of a product, if they are the model's and nothing else reads them."""
    reading = READINGS.get(call.op.replace(".", "::", 1).partition(".")[0])
    if reading is None or call.kwargs or len(call.args) <= reading.weight or not reading.takes(call.args):
        return None
    weight = call.args[reading.weight]
    bias = call.args[reading.bias] if reading.bias is not None and len(call.args) > reading.bias else None
    for tensor in (weight, *([] if bias is None else [bias])):
        if not isinstance(tensor, Value) or tensor.kind != "state" or len(readers[tensor.index]) != 1:
            return None
    return Source(weight.name, reading.out, None if bias is None else bias.name) if len(weight.shape) > 1 else None


def _labels(call: Call, source: Source) -> Tensor:
    """A number for each output of a product, in the shape of its result."""
    weight = next(value for value in call.inputs() if value.name == source.weight)
    behind = len(weight.shape) - 2  # dimensions of the result behind that of the outputs: pixels
    labels = torch.arange(weight.shape[source.dim])
    return labels.view(-1, *[1] * behind).expand(call.results()[0].shape)


def _side(call: Call, value: Value) -> int | None:
    """0 or 1 if the call is a score and the value its query or key."""
    base = _base(call)
    if base not in _MATRIX_PRODUCTS and base != _ATTENTION:
        return None
    sides = _sides(call)
    if sides is None or call.inputs().count(value) != 1 or value not in sides:
        return None
    return sides.index(value)


def _as_key(call: Call, labels: Tensor) -> Tensor:
    """Labels of the right side as [.., keys, D]."""
    return labels if _base(call) == _ATTENTION else labels.mT


def _moved(call: Call, value: Value, labels: Tensor) -> list[Tensor] | None:
    """Labels of the results of an op that only moves what it reads, or scales all of it alike; None for others."""
    base = _base(call)
    if call.mutated or call.args[0] is not value or len(call.inputs()) != 1:
        return None
    if base in _CHANGES_NUMBERS:
        return [labels]
    if base in _SCALED and len(call.args) == 2 and isinstance(call.args[1], (int, float)) and not call.kwargs:
        return [labels]
    if base not in _MOVES:
        return None
    moved: Any = call.function(labels, *call.args[1:], **call.kwargs)
    return list(moved) if isinstance(moved, (tuple, list)) else [moved]


def _by_head(labels: Tensor) -> Tensor | None:
    """[.., positions, D] -> [all that lies before, D] if positions are alike."""
    alike = labels.flatten(0, -3)
    return alike[:, 0] if bool((alike == alike[:, :1]).all()) else None


def _grouped(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor] | None:
    """(queries [keys, queries of each, D], keys [keys, D]) of pairs of rows; None if they do not come apart so."""
    width = left.shape[1]
    pairs = torch.cat([right, left], 1).unique(dim=0)
    keys = pairs[:, :width].unique(dim=0)
    queries = pairs[:, width:]
    rectangular = len(pairs) % len(keys) == 0
    if not rectangular or len(keys.unique()) != keys.numel() or len(queries.unique()) != queries.numel():
        return None
    of_key = pairs[:, :width].view(len(keys), -1, width)
    return (queries.view(len(keys), -1, width), keys) if bool((of_key == keys[:, None]).all()) else None


def _softmax_follows(call: Call, readers: Mapping[int, list[Call]]) -> bool:
    """Whether the scores go into a softmax over the keys and nowhere else, on the way at most scaled and masked."""
    if _base(call) == _ATTENTION:
        return True
    value = call.results()[0]
    for _ in range(8):
        after = readers.get(value.index, [])
        if len(after) != 1 or after[0].args[0] is not value or after[0].mutated:
            return False
        base, others = _base(after[0]), after[0].args[1:]
        if base in ("softmax", "_softmax"):
            return bool(others) and others[0] in (-1, len(value.shape) - 1)
        scaled = base in _SCALED and isinstance(others[0], (int, float))
        masked = base in ("add", "masked_fill") and not isinstance(others[0], (int, float))
        if not scaled and not masked and base not in _CHANGES_NUMBERS:
            return False
        value = after[0].results()[0]
    return False
