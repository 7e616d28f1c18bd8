"""A layer that its user prunes with a function of his own: one op, whatever runs inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_pruning.rules.call import OpCall, Outcome
from torch_pruning.rules.facts import CustomizedCall
from torch_pruning.rules.registry import rule


@rule("torch.customized_layer")
def customized_layer(op: OpCall) -> Outcome:
    """x [..., I, ...] -> [..., O, ...]; with one function for both sides, O is I. The layer's own tensors are the
    business of its pruner."""
    (x,) = op.operands("x")
    (shape,) = op.output_shapes
    text = "of a customized layer, whose pruner says what goes with what"
    for tensor in op.get("tensors", []):
        op.freeze_all(tensor, text)
    sizes = [axis.size for axis in x.axes]
    dim = width_dimension(sizes, op.get("width_in"), op.get("pruning_dim"))
    out_dim = width_dimension(shape, op.get("width_out"), op.get("pruning_dim"))
    for other, axis in enumerate(x.axes):
        if other != dim:
            op.freeze(axis, text)
    entering = x.axes[dim]
    coupled = bool(op.get("coupled")) and shape[out_dim] == entering.size
    leaving = entering if coupled else op.fresh(shape[out_dim])
    op.statistic(entering, "a customized layer: only its pruner knows what it computes")
    op.customized(CustomizedCall(op.get("path"), entering, leaving, coupled))
    out = list(op.fixed(shape))
    out[out_dim] = leaving
    return op.outcome(out)


def width_dimension(sizes: Sequence[int], width: Any, preferred: int) -> int:
    """The dimension that a layer's width lies on: the one it prefers, or else the last of that size.

    [batch, tokens, 8], width 8, preferred 1 -> 2
    """
    rank = len(sizes)
    if -rank <= preferred < rank and sizes[preferred] == width:
        return preferred % rank
    fitting = [dim for dim, size in enumerate(sizes) if size == width and dim] or [rank - 1]
    return fitting[-1]
