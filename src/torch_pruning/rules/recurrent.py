"""LSTM, GRU, RNN, as whole sequences and as single cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_pruning.axes.expression import Axis, Fixed, concat, product
from torch_pruning.rules.call import CONTRACTED, PRODUCED, OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import NOWHERE, All, Along, AnyOf, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """The weights of one layer in one direction: w_ih [gates * H, I], w_hh [gates * H, P], biases [gates * H], and with
    a projection w_hr [P, H]; without one P is H."""

    gated: tuple[Operand, ...]  # w_ih, w_hh and the biases, if there are any
    projection: Operand | None = None


@rule("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
def recurrent(op: OpCall) -> Outcome:
    """input [T, B, I] (or batch first), states [layers * directions, B, P], and cells.

    The state is one tensor for all layers and directions, so all of them share P (and an LSTM's second state H).
    """
    return _recurrent(op, op.arguments["input"], 1 if op.get("batch_first", False) else 0)


def _recurrent(op: OpCall, x: Operand, time: int) -> Outcome:
    """[..., I], of which dimension `time` is time; what else there is before the last one is the batch."""
    gates = _GATES[op.op.split(".")[1]]
    states = _states(op)
    cells = _cells(op)
    hidden = op.fresh(cells[0].gated[0].axes[0].size // gates)
    projection = cells[0].projection
    output: Axis = hidden
    if projection is not None:
        output = op.fresh(projection.axes[0].size)
        op.freeze(projection.axes[1], "a projection is told by its width, which must stay below this one")
    directions = 2 if op.get("bidirectional", False) else 1
    entering: Axis = x.axes[-1]
    law: Law = Along(x, x.axes[-1:])
    for layer in range(0, len(cells), directions):
        side_by_side = cells[layer : layer + directions]
        for cell in side_by_side:
            _apply(op, cell, (entering, hidden, output), (law, _output_law([cell], states)), x.axes[:-1])
        entering, law = concat((output,) * directions), _output_law(side_by_side, states)
    op.freeze(x.axes[time], "time steps")
    op.mixes(x, time, -1)
    rows = tuple(axis for dim, axis in enumerate(x.axes[:-1]) if dim != time)
    batch = rows or op.fixed(op.output_shapes[1][1:-1])
    for state, width in zip(states, (output, hidden), strict=False):
        _follow_state(op, state, (*batch, width))
    last = tuple(
        (Fixed(shape[0]), *batch, width) for shape, width in zip(op.output_shapes[1:], (output, hidden), strict=False)
    )
    out = _output_law(cells, states)
    return op.outcome(
        (*x.axes[:-1], entering), *last, zero=[out, out, _state_law(cells, states)][: len(op.output_shapes)]
    )


def _states(op: OpCall) -> list[Operand]:
    given = op.arguments.get("hx")
    return [state for state in (given if isinstance(given, list) else [given]) if isinstance(state, Operand)]


def _cells(op: OpCall) -> list[_Cell]:
    """The flat list of weights, cell by cell: layer after layer, both directions of each."""
    weights = [weight for weight in op.arguments["params"] if isinstance(weight, Operand)]
    count = op.get("num_layers", 1) * (2 if op.get("bidirectional", False) else 1)
    size = len(weights) // count
    gated = 4 if op.get("has_biases", True) else 2
    cells = [weights[first : first + size] for first in range(0, len(weights), size)]
    return [_Cell(tuple(cell[:gated]), cell[gated] if size > gated else None) for cell in cells]


def _follow_state(op: OpCall, state: Operand, axes: tuple[Axis, ...]) -> None:
    """A state given from outside: [layers * directions, B, P]."""
    op.freeze(state.axes[0], "layers and directions")
    for mine, theirs in zip(state.axes[1:], axes, strict=True):
        op.unify(mine, theirs)
    op.mixes(state, 0, -1)


def _apply(op: OpCall, cell: _Cell, axes: tuple[Axis, Axis, Axis], laws: tuple[Law, Law], rows: Sequence[Axis]) -> None:
    """`axes`: what enters, the hidden units and what comes out; `laws`: where what enters and comes out is zero."""
    entering, hidden, output = axes
    w_ih, w_hh, *biases = cell.gated
    gates = w_ih.axes[0].size // hidden.size
    gated = product((Fixed(gates), hidden))
    for weight in (w_ih, w_hh, *biases):
        op.unify(weight.axes[0], gated)
        op.role(weight, 0, PRODUCED)
    contractions: list[tuple[Operand, Axis, Law, Axis]] = [
        (w_ih, entering, AnyOf(laws[0], w_ih), gated),
        (w_hh, output, AnyOf(laws[1], w_hh), gated),
    ]
    if cell.projection is not None:
        op.unify(cell.projection.axes[0], output)
        op.role(cell.projection, 0, PRODUCED)
        contractions.append((cell.projection, hidden, cell.projection, output))
    for weight, summed, law, made in contractions:
        op.unify(weight.axes[1], summed)
        op.role(weight, 1, CONTRACTED)
        op.sums(weight.axes[1], law, "recurrent layer")
        op.mixes(weight, 1)
        op.macs(*rows, made, summed)


def _state_law(cells: Sequence[_Cell], states: Sequence[Operand]) -> Law:
    """With zero weights a unit stays at zero if it starts there: its candidate is tanh(0), whatever its gates."""
    weights = (Along(weight, weight.axes[:1]) for cell in cells for weight in cell.gated)
    return All(*weights, *(Along(state, state.axes[-1:]) for state in states))


def _output_law(cells: Sequence[_Cell], states: Sequence[Operand]) -> Law:
    """Of the outputs over time: of the projection, if there is one, else of the hidden state."""
    projections = [cell.projection for cell in cells if cell.projection is not None]
    if projections:
        return All(*(Along(projection, projection.axes[:1]) for projection in projections), *states[:1])
    return _state_law(cells, states)


@rule("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def cell(op: OpCall) -> Outcome:
    """One step: input [B, I], h [B, H] (and c [B, H])."""
    x = op.arguments["input"]
    states = _states(op)
    weights = [op.arguments.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    one = _Cell(tuple(weight for weight in weights if weight is not None))
    hidden = op.fresh(states[0].axes[-1].size)
    _apply(op, one, (x.axes[-1], hidden, hidden), (Along(x, x.axes[-1:]), states[0]), x.axes[:-1])
    op.mixes(x, -1)
    out = (*x.axes[:-1], hidden)
    for state in states:
        for mine, theirs in zip(state.axes, out, strict=True):
            op.unify(mine, theirs)
        op.mixes(state, -1)
    return op.outcome(*(out for _ in op.output_shapes), zero=_state_law([one], states))


@rule("aten.mkldnn_rnn_layer")
def mkldnn_rnn_layer(op: OpCall) -> Outcome:
    """One layer in one direction: input [T, B, I], weights w_ih, w_hh, b_ih, b_hh, states [1, B, H]."""
    x = op.arguments["input"]
    weights = [op.arguments[f"weight{number}"] for number in range(4 if op.get("has_biases", True) else 2)]
    states = [op.arguments["hx_"], op.arguments["cx_"]]
    hidden = op.fresh(op.get("hidden_size"))
    if op.direct:
        op.sized("hidden_size", hidden)
    law = _state_law([_Cell(tuple(weights))], states)
    _apply(op, _Cell(tuple(weights)), (x.axes[-1], hidden, hidden), (Along(x, x.axes[-1:]), law), x.axes[:-1])
    op.freeze(x.axes[0], "time steps")
    op.mixes(x, 0, -1)
    for state in states:
        _follow_state(op, state, (x.axes[1], hidden))
    h = (Fixed(1), x.axes[1], hidden)
    workspace = map(op.fixed, op.output_shapes[3:])
    return op.outcome((*x.axes[:-1], hidden), h, h, *workspace, zero=[law] * 3 + [NOWHERE] * len(op.output_shapes[3:]))


@rule("aten.lstm.data", "aten.gru.data", "aten.rnn_tanh.data", "aten.rnn_relu.data")
def packed_recurrent(op: OpCall) -> Outcome:
    """data [N, I], sequences of several lengths one after another, and states [layers * directions, B, P]."""
    return _recurrent(op, op.arguments["data"], 0)


@rule("aten._pack_padded_sequence")
def pack(op: OpCall) -> Outcome:
    """[T, B, ...] -> [N, ...], and how many sequences have each step."""
    (x,) = op.operands("input")
    for axis in x.axes[:2]:
        op.freeze(axis, "steps of sequences")
    op.mixes(x, 0, 1)
    data, sizes = op.output_shapes
    return op.outcome((Fixed(data[0]), *x.axes[2:]), op.fixed(sizes), zero=[Along(x, x.axes[2:]), NOWHERE])


@rule("aten._pad_packed_sequence")
def pad(op: OpCall) -> Outcome:
    """[N, ...] -> [T, B, ...], and the lengths."""
    (x,) = op.operands("data")
    op.freeze(x.axes[0], "steps of sequences")
    op.mixes(x, 0)
    padded, lengths = op.output_shapes
    law = NOWHERE if op.get("padding_value", 0) else Along(x, x.axes[1:])
    return op.outcome((*op.fixed(padded[:2]), *x.axes[1:]), op.fixed(lengths), zero=[law, NOWHERE])
