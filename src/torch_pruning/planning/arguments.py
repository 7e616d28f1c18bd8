"""What ops are given besides the tensors of the model: numbers, positions, and tensors made outside of it."""

from __future__ import annotations

from typing import Any

import torch

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Plan
from torch_pruning.trace.program import Call


def numbers_of(call: Call) -> list[int | float]:
    """What an op was given as numbers, not as sizes: factors, summands, what it fills with."""
    items = [*call.args, *call.kwargs.values()]
    given: list[Any] = [number for item in items for number in _flat(item) if isinstance(number, float)]
    schema = getattr(call.function, "_schema", None)
    if schema is None or not call.inputs():  # a range of positions is given by numbers, too
        return given
    by_name = dict(zip((argument.name for argument in schema.arguments), call.args, strict=False)) | call.kwargs
    # An integer in the place of a tensor is a factor or summand as well: `x * 8`.
    scalars = (
        by_name.get(a.name) for a in schema.arguments if isinstance(a.type, (torch.NumberType, torch.TensorType))
    )
    return [*given, *(item for item in scalars if isinstance(item, int))]


def written(call: Call, plan: Plan, graph: Graph) -> list[int | float]:
    """The numbers as surgery has written them: a float attribute that the plan scales is scaled where it is used."""
    here = [change for change in plan.changes if change.source.module == call.where.module]
    new = {change.old: change.new for change in here if isinstance(change.old, float)}
    before = [graph.numbers.get((call.where.module, number), number) for number in numbers_of(call)]
    return [new.get(number, number) for number in before]


def contents_of(call: Call) -> list[str]:
    """The entries of small tensors that appeared from outside of the model, as `torch.tensor(1.0 / width)` does."""
    return [value.contents for value in call.inputs() if value.contents is not None]


def same_sizes(before: Call, after: Call) -> bool:
    """Whether pruning changes none of the sizes that an op sees."""
    pairs = ((before.inputs(), after.inputs()), (before.results(), after.results()))
    return all([a.shape for a in old] == [b.shape for b in new] for old, new in pairs)


def positions_of(call: Call) -> list[int]:
    """All integers among the arguments: indices, bounds, shifts, sizes."""
    return [item for item in _flat([*call.args, *call.kwargs.values()]) if isinstance(item, int)]


def _flat(item: Any) -> list[Any]:
    if isinstance(item, (list, tuple)):
        return [inner for child in item for inner in _flat(child)]
    return [item]
