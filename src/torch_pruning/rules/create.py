"""Tensors made from nothing: a size that the code computed makes an axis that has to follow it."""

from __future__ import annotations

from torch_pruning.axes.expression import Axis, Fixed
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import EVERYWHERE, NOWHERE
from torch_pruning.rules.registry import rule

_RANDOM = frozenset("rand randn randint normal rand_like randn_like randint_like".split())


@rule(
    "aten.zeros",
    "aten.ones",
    "aten.full",
    "aten.empty",
    "aten.rand",
    "aten.randn",
    "aten.randint",
    "aten.new_zeros",
    "aten.new_ones",
    "aten.new_full",
    "aten.new_empty",
    "aten.empty_strided",
    "aten.normal.float_float",
    "aten.empty_permuted",
    "aten.new_empty_strided",
)
def filled(op: OpCall) -> Outcome:
    """(a, b) -> [A, B] with |A| = a, |B| = b."""
    axes: list[Axis] = []
    for index, size in enumerate(op.output_shapes[0]):
        source = op.size_source("size", index)
        axis = Fixed(size) if isinstance(source, int) or source is None else op.fresh(size)
        if source is not None:
            op.size_is(source, axis)
        axes.append(axis)
    base = op.op.split(".")[1]
    op.number("fill_value", None, None)
    if base in _RANDOM:
        op.draws(axes)
    zeros = base in ("zeros", "new_zeros") or (base in ("full", "new_full") and op.get("fill_value") == 0)
    return op.outcome(axes, zero=EVERYWHERE if zeros else NOWHERE)


@rule(
    "aten.zeros_like",
    "aten.ones_like",
    "aten.full_like",
    "aten.empty_like",
    "aten.rand_like",
    "aten.randn_like",
    "aten.randint_like",
)
def filled_like(op: OpCall) -> Outcome:
    x = op.tensors()[0]
    op.number("fill_value", None, None)
    if op.op.split(".")[1] in _RANDOM:
        op.draws(x.axes)
    zeros = op.op.startswith("aten.zeros_like") or (op.op.startswith("aten.full_like") and op.get("fill_value") == 0)
    return op.outcome(x.axes, zero=EVERYWHERE if zeros else NOWHERE)


@rule(
    "aten.arange",
    "aten.eye",
    "aten.linspace",
    "aten.logspace",
    "aten.scalar_tensor",
    "aten.tril_indices",
    "aten.triu_indices",
    "aten.randperm",
    "aten.hann_window",
    "aten.hamming_window",
    "aten.bartlett_window",
    "aten.cartesian_prod",
)
def numbered(op: OpCall) -> Outcome:
    """The entries are positions: what is numbered cannot lose any."""
    axes = op.fixed(op.output_shapes[0])
    op.number("s", None, None)
    for name in ("end", "start", "n", "steps", "m"):
        if isinstance(op.arguments.get(name), int) and axes:
            source = op.size_source(name)
            if source is not None and not isinstance(source, int):
                op.size_is(source, Fixed(op.arguments[name]))
    for operand in op.tensors():
        op.freeze_all(operand, "numbers positions")
    return op.outcome(axes)
