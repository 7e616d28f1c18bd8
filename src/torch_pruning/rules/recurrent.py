"""LSTM, GRU, RNN, as whole sequences and as single cells."""

from __future__ import annotations

from torch_pruning.axes.expression import Axis, Fixed, concat, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall, Outcome
from torch_pruning.rules.laws import All, AnyOf, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
def recurrent(op: OpCall) -> Outcome:
    """input [T, B, I] (or batch first), h0 [layers * directions, B, P], weights per layer and direction:
    w_ih [gates * H, I], w_hh [gates * H, P], b_ih, b_hh [gates * H], and with a projection w_hr [P, H].

    The state h0 is one tensor for all layers and directions, so all of them share P (and an LSTM's c0 shares H).
    """
    gates = _GATES[op.op.split(".")[1]]
    x = op.arguments["input"]
    states = [
        state
        for state in (op.arguments.get("hx") if isinstance(op.arguments.get("hx"), list) else [op.arguments.get("hx")])
    ]
    weights = [weight for weight in op.arguments["params"] if isinstance(weight, Operand)]
    has_biases, layers = op.get("has_biases", True), op.get("num_layers", 1)
    directions = 2 if op.get("bidirectional", False) else 1
    per_cell = len(weights) // (layers * directions)
    projected = per_cell == (5 if has_biases else 3)
    hidden = op.fresh(weights[0].axes[0].size // gates)
    output = op.fresh(weights[-1].axes[0].size) if projected else hidden
    entering = x.axes[-1]
    for layer in range(layers):
        for direction in range(directions):
            first = (layer * directions + direction) * per_cell
            _cell(op, weights[first : first + per_cell], gates, entering, hidden, output, projected)
            gated = product((Fixed(gates), hidden))
            op.macs(*x.axes[:-1], gated, entering)
            op.macs(*x.axes[:-1], gated, output)
            if projected:
                op.macs(*x.axes[:-1], hidden, output)
        entering = product((output,)) if directions == 1 else concat((output, output))
    for state, width in zip(states, (output, hidden), strict=False):
        if state is not None:
            op.unify(state.axes[-1], width)
            op.freeze(state.axes[0], "layers and directions")
    time = 1 if op.get("batch_first", False) else 0
    if x.rank == 3:
        op.freeze(x.axes[time], "time steps")
    last = concat((output,) * directions)
    outputs: list[tuple[Axis, ...]] = [(*x.axes[:-1], last)]
    for shape, width in zip(op.output_shapes[1:], (output, hidden), strict=False):
        outputs.append((*op.fixed(shape[:-1]), width))
    return op.outcome(*outputs, zero=_state_law(op, weights, states))


def _cell(
    op: OpCall, weights: list[Operand], gates: int, entering: Axis, hidden: Axis, output: Axis, projected: bool
) -> None:
    gated = product((Fixed(gates), hidden))
    w_ih, w_hh, *rest = weights
    for weight in (w_ih, w_hh, *(rest[:-1] if projected else rest)):
        op.unify(weight.axes[0], gated)
        op.role(weight, 0, PRODUCED)
    op.unify(w_ih.axes[1], entering)
    op.unify(w_hh.axes[1], output)
    op.role(w_ih, 1, CONTRACTED)
    op.role(w_hh, 1, CONTRACTED)
    if projected:
        op.unify(rest[-1].axes[0], output)
        op.unify(rest[-1].axes[1], hidden)
        op.role(rest[-1], 0, PRODUCED)
        op.role(rest[-1], 1, CONTRACTED)


def _state_law(op: OpCall, weights: list[Operand], states: list[Operand | None]) -> Law:
    """With zero weights a unit stays at zero if it starts there: its candidate is tanh(0), whatever its gates."""
    return All(AnyOf(*weights), *states)


@rule("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def cell(op: OpCall) -> Outcome:
    """One step: input [B, I], h [B, H] (and c [B, H])."""
    gates = _GATES[op.op.split(".")[1].removesuffix("_cell")]
    x = op.arguments["input"]
    states = op.arguments["hx"] if isinstance(op.arguments["hx"], list) else [op.arguments["hx"]]
    weights = [
        op.arguments[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh") if isinstance(op.arguments.get(name), Operand)
    ]
    hidden = op.fresh(states[0].axes[-1].size)
    _cell(op, weights, gates, x.axes[-1], hidden, hidden, projected=False)
    for state in states:
        op.unify(state.axes[-1], hidden)
    op.macs(*x.axes[:-1], product((Fixed(gates), hidden)), x.axes[-1])
    op.macs(*x.axes[:-1], product((Fixed(gates), hidden)), hidden)
    return op.outcome(*((*x.axes[:-1], hidden) for _ in op.output_shapes), zero=_state_law(op, weights, states))
