"""LSTM, GRU, RNN and their cells."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rules.case import Case, case, known

BATCH = "rows of the batch would be zero if there is no bias; nobody prunes them"
aten = torch.ops.aten
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def step(
    kind: str, x: Tensor, states: list[Tensor], weights: Sequence[Tensor], projection: Tensor | None
) -> list[Tensor]:
    """The new states (h, or h and c) by the textbook; torch's own kernels do not check sizes."""
    w_ih, w_hh, b_ih, b_hh = (*weights, None, None)[:4]
    a, b = F.linear(x, w_ih, b_ih), F.linear(states[0], w_hh, b_hh)  # (batch, gates * hidden)
    if kind == "lstm":
        i, f, g, o = (a + b).chunk(4, 1)
        c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return [h if projection is None else F.linear(h, projection), c]
    if kind == "gru":
        (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
        z = (az + bz).sigmoid()
        return [(1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * states[0]]
    return [(a + b).tanh() if kind == "rnn_tanh" else (a + b).relu()]


def _layer(
    kind: str,
    text: str = "",
    *,
    layers: int = 1,
    directions: int = 1,
    biases: bool = True,
    projection: int = 0,
    batch_first: bool = False,
    given: bool = False,
) -> Case:
    """A whole layer of 4 inputs and 3 hidden units on 3 steps of a batch of 2."""
    hidden, inputs, gates = 3, 4, GATES[kind]
    out = projection or hidden
    shapes: dict[str, tuple[int, ...]] = {}
    cells: list[list[str]] = []
    for layer in range(layers):
        entering = inputs if layer == 0 else out * directions
        for direction in range(directions):
            end = f"{layer}{direction}"
            cell = {f"ih{end}": (gates * hidden, entering), f"hh{end}": (gates * hidden, out)}
            if biases:
                cell |= {f"bi{end}": (gates * hidden,), f"bh{end}": (gates * hidden,)}
            if projection:
                cell[f"hr{end}"] = (projection, hidden)
            shapes |= cell
            cells.append(list(cell))
    shapes["x"] = (2, 3, inputs) if batch_first else (3, 2, inputs)
    if given:
        shapes |= {"h": (len(cells), 2, out)} | ({"c": (len(cells), 2, hidden)} if kind == "lstm" else {})

    def states_of(m: SimpleNamespace) -> list[Tensor]:
        widths = [m.hh00.shape[1], *([m.hh00.shape[0] // 4] if kind == "lstm" else [])]
        if given:
            return [m.h, m.c] if kind == "lstm" else [m.h]
        return [m.x.new_zeros(len(cells), m.x.shape[0 if batch_first else 1], width) for width in widths]

    def call(m: SimpleNamespace) -> Any:
        states, weights = states_of(m), [getattr(m, name) for cell in cells for name in cell]
        options = (biases, layers, 0.0, False, directions == 2, batch_first)
        return getattr(torch, kind)(m.x, states if kind == "lstm" else states[0], weights, *options)

    def twin(m: SimpleNamespace) -> Any:
        x, states = m.x.transpose(0, 1) if batch_first else m.x, states_of(m)
        last: list[list[Tensor]] = []
        for layer in range(layers):
            sides = []
            for direction in range(directions):
                weights = [getattr(m, name) for name in cells[layer * directions + direction]]
                hr = weights.pop() if projection else None
                now, rows = [state[layer * directions + direction] for state in states], []
                for entering in x.flip(0) if direction else x:
                    now = step(kind, entering, now, weights, hr)
                    rows.append(now[0])
                sides.append(torch.stack(rows[::-1] if direction else rows))
                last.append(now)
            x = torch.cat(sides, -1)
        return (x.transpose(0, 1) if batch_first else x, *(torch.stack(ends) for ends in zip(*last, strict=True)))

    outputs = 3 if kind == "lstm" else 2
    rows = {} if biases else known(BATCH, "nonzero x.1", *(f"nonzero x.1 of output {n}" for n in range(1, outputs)))
    return case(f"{kind}{', ' + text if text else ''}", call, twin=twin, conservative=rows, **shapes)


def _cell(kind: str, biases: bool = True) -> Case:
    gates = GATES[kind]
    bias = {"b": (gates * 3,), "d": (gates * 3,)} if biases else {}
    states = {"h": (2, 3), "c": (2, 3)} if kind == "lstm" else {"h": (2, 3)}

    def weights(m: SimpleNamespace) -> list[Tensor]:
        return [m.w, m.u, m.b, m.d] if biases else [m.w, m.u]

    def call(m: SimpleNamespace) -> Any:
        return getattr(torch, f"{kind}_cell")(m.x, [m.h, m.c] if kind == "lstm" else m.h, *weights(m))

    return case(
        f"{kind}_cell" + ("" if biases else ", no biases"),
        call,
        twin=lambda m: step(kind, m.x, [m.h, m.c] if kind == "lstm" else [m.h], weights(m), None),
        x=(2, 4),
        w=(gates * 3, 4),
        u=(gates * 3, 3),
        conservative={} if biases else known(BATCH, "nonzero x.0"),
        **states,
        **bias,
    )


def _packed(kind: str) -> Case:
    """Three sequences, of 2, 1 and 1 steps."""

    def call(m: SimpleNamespace) -> Tensor:
        packed, sizes = torch._pack_padded_sequence(m.x, torch.tensor([2, 1, 1]), False)
        h = m.x.new_zeros(1, 3, 3)
        options = ([m.w, m.u], False, 1, 0.0, False, False)
        out = getattr(torch, kind)(packed, sizes, (h, h) if kind == "lstm" else h, *options)
        return torch._pad_packed_sequence(out[0], sizes, False, 0.0, 2)[0]

    def twin(m: SimpleNamespace) -> Tensor:
        h = m.x.new_zeros(3, 3)
        first = step(kind, m.x[0], [h, h], [m.w, m.u], None)
        second = step(kind, m.x[1, :1], [state[:1] for state in first], [m.w, m.u], None)
        return torch.stack([first[0], torch.cat([second[0], h[:2]])])

    gates = GATES[kind]
    return case(f"{kind}, packed", call, twin=twin, x=(2, 3, 4), w=(gates * 3, 4), u=(gates * 3, 3))


def _fused(m: SimpleNamespace) -> Any:
    """In single precision, as the op insists on it."""
    tensors = (t.float() for t in (m.x, m.w, m.u, m.b, m.d, m.h, m.c))
    return aten.mkldnn_rnn_layer(*tensors, False, [], 2, m.hidden, 1, True, False, False, False)[:3]


def _fused_twin(m: SimpleNamespace) -> Any:
    assert m.hidden == m.u.shape[1]
    states, rows = [m.h[0], m.c[0]], []
    for entering in m.x:
        states = step("lstm", entering, states, [m.w, m.u, m.b, m.d], None)
        rows.append(states[0])
    return torch.stack(rows), states[0][None], states[1][None]


CASES = [
    _layer("lstm"),
    _layer("lstm", "no biases", biases=False),
    _layer("lstm", "states given", given=True),
    _layer("lstm", "batch first", batch_first=True),
    _layer("lstm", "both directions", directions=2),
    _layer("lstm", "stacked", layers=2, biases=False),
    _layer("lstm", "stacked in both directions, states given", layers=2, directions=2, biases=False, given=True),
    _layer("lstm", "projected", projection=2),
    _layer("lstm", "projected, states given", projection=2, given=True),
    _layer("gru"),
    _layer("gru", "both directions, states given", directions=2, given=True),
    _layer("rnn_tanh", "stacked, states given", layers=2, given=True),
    _layer("rnn_relu"),
    *(_cell(kind) for kind in GATES),
    _cell("gru", biases=False),
    *(_packed(kind) for kind in GATES),
    case(
        "_pack_padded_sequence",
        lambda m: aten._pack_padded_sequence(m.x, torch.tensor([4, 2, 1]), False)[0],
        x=(4, 3, 5),
    ),
    case(
        "_pad_packed_sequence",
        lambda m: aten._pad_packed_sequence(m.x, torch.tensor([3, 2, 1, 1]), False, 0.0, 4)[0],
        x=(7, 5),
    ),
    case(
        "mkldnn_rnn_layer",
        _fused,
        twin=_fused_twin,
        real=_fused_twin,  # the op knows single precision only, in which the order of sums shows
        x=(3, 2, 4),
        w=(12, 4),
        u=(12, 3),
        b=(12,),
        d=(12,),
        h=(1, 2, 3),
        c=(1, 2, 3),
        hidden=3,
    ),
]
