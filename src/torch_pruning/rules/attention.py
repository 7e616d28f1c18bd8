"""`torch.nn.functional.multi_head_attention_forward`, whose inside is Python that the trace cannot see."""

from __future__ import annotations

from typing import Any

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import NOWHERE, All, Along, AnyOf
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


@rule("torch.multi_head_attention_forward")
def multi_head_attention(op: OpCall) -> Outcome:
    """query [T, B, E], key [S, B, Ek], value [S, B, Ev] -> [T, B, E'], and scores [B, T, S] or [B, H, T, S].

    in_proj [3! * H * D, E] or q, k, v separately; out_proj [E', H * D]. The function itself insists on E = H * D; the
    layer of `planning.attention` that surgery puts in its place does not, so H, D and E are separate axes.
    """
    query, key, value = op.operands("query", "key", "value")
    heads = int(op.get("num_heads"))
    out_weight, out_bias = op.operands("out_proj_weight", "out_proj_bias")
    width = out_weight.axes[1]
    head, within = op.split(width, heads, "heads of attention")
    projected = product((head, within))
    op.sized("num_heads", head)
    _project(op, query, key, value, projected)
    for name in ("bias_k", "bias_v"):
        extra = op.arguments.get(name)
        if extra is not None:
            op.unify(extra.axes[-1], projected)
    for name in ("static_k", "static_v"):
        extra = op.arguments.get(name)
        if extra is not None:
            op.freeze_all(extra, "static keys and values")
            op.freeze(projected, "static keys and values")
    for name in ("key_padding_mask", "attn_mask"):
        mask = op.arguments.get(name)
        if mask is not None:
            axes = mask.axes
            if name == "attn_mask" and mask.rank == 3:
                samples, named = op.split(axes[0], axes[0].size // heads, "samples of an attention mask")
                op.unify(named, head)
                axes = (samples, *axes[1:])
            for axis in axes:
                op.freeze(axis, "attention mask")
    batched = query.rank == 3
    for operand in (query, key, value):
        for axis in operand.axes[:-1]:
            op.freeze(axis, "tokens of attention")
    source = key.axes[0].size
    batch = query.axes[1:2] if batched else ()
    tokens = query.axes[0]
    op.macs(*batch, tokens, projected, Fixed(2 * source))
    op.unify(out_weight.axes[1], projected)
    op.role(out_weight, 0, PRODUCED)
    op.role(out_weight, 1, CONTRACTED)
    if out_bias is not None:
        op.unify(out_weight.axes[0], out_bias.axes[0])
        op.role(out_bias, 0, PRODUCED)
    op.macs(*batch, tokens, projected, out_weight.axes[0])
    out = (*query.axes[:-1], out_weight.axes[0])
    outputs: list[tuple[Axis, ...]] = [out]
    if len(op.output_shapes) > 1:
        shape = op.output_shapes[1]
        per_head = len(shape) == (4 if batched else 3)
        outputs.append((*op.fixed(shape[:-3]), head, *op.fixed(shape[-2:])) if per_head else op.fixed(shape))
        if not per_head and 1 not in op.unread:
            op.counts(head, NOWHERE, "attention weights averaged over heads")
    op.facts.replaced_modules.setdefault(op.where.module, []).extend((projected, query.axes[-1], out_weight.axes[0]))
    law = All(Along(out_weight, out_weight.axes[:1]), out_bias)
    return op.outcome(*outputs, zero=[law, *(NOWHERE for _ in outputs[1:])])


def _project(op: OpCall, query: Operand, key: Operand, value: Operand, projected: Axis) -> None:
    """Input projections: one weight for all three, or one each."""
    joint, bias = op.operands("in_proj_weight", "in_proj_bias")
    three = product((Fixed(3), projected))
    separate: list[Any] = [op.arguments.get(f"{name}_proj_weight") for name in "qkv"]
    for operand, weight in zip((query, key, value), separate, strict=True):
        weight = joint if joint is not None and not op.get("use_separate_proj_weight", False) else weight
        op.contract(operand, -1, weight, 1)
        op.role(weight, 1, CONTRACTED)
        op.role(weight, 0, PRODUCED)
        op.unify(weight.axes[0], three if weight is joint else projected)
        op.macs(*operand.axes[:-1], operand.axes[-1], projected)
    if bias is not None:
        op.unify(bias.axes[0], three)
        op.role(bias, 0, PRODUCED)
    op.sums(projected, op.arguments.get("out_proj_weight"), "contraction")
    # Scores: q times k, of which k may have a row more.
    of_query = All(joint if separate[0] is None else separate[0], bias)
    of_key = All(joint if separate[1] is None else separate[1], bias, op.arguments.get("bias_k"))
    op.sums(projected, AnyOf(of_query, of_key), "attention scores")
