"""LSTM, GRU, RNN and their cells."""

from types import SimpleNamespace
from typing import Any

import torch

from rules.case import Case, case, known

BATCH = "rows of the batch would be zero if there is no bias; nobody prunes them"
aten = torch.ops.aten
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


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
    for layer in range(layers):
        entering = inputs if layer == 0 else out * directions
        for direction in range(directions):
            end = f"{layer}{direction}"
            shapes |= {f"ih{end}": (gates * hidden, entering), f"hh{end}": (gates * hidden, out)}
            if biases:
                shapes |= {f"bi{end}": (gates * hidden,), f"bh{end}": (gates * hidden,)}
            if projection:
                shapes[f"hr{end}"] = (projection, hidden)
    names = list(shapes)
    shapes["x"] = (2, 3, inputs) if batch_first else (3, 2, inputs)
    count = layers * directions
    outputs = 3 if kind == "lstm" else 2
    rows = {} if biases else known(BATCH, "nonzero x.1", *(f"nonzero x.1 of output {n}" for n in range(1, outputs)))
    if given:
        shapes["h"] = (count, 2, out)
        if kind == "lstm":
            shapes["c"] = (count, 2, hidden)

    def call(m: SimpleNamespace) -> Any:
        weights = [getattr(m, name) for name in names]
        rows = m.x.shape[0 if batch_first else 1]
        h = m.h if given else m.x.new_zeros(count, rows, m.hh00.shape[1])
        states = [h] if kind != "lstm" else [h, m.c if given else m.x.new_zeros(count, rows, m.hh00.shape[0] // 4)]
        function = getattr(torch, kind)
        options = (biases, layers, 0.0, False, directions == 2, batch_first)
        return function(m.x, states if kind == "lstm" else h, weights, *options)

    return case(f"{kind}{', ' + text if text else ''}", call, unchecked=True, conservative=rows, **shapes)


def _step(kind: str, biases: bool = True) -> Case:
    gates = GATES[kind.removesuffix("_cell")]
    bias = {"b": (gates * 3,), "d": (gates * 3,)} if biases else {}
    rows = {} if biases else known(BATCH, "nonzero x.0")
    states = {"h": (2, 3), "c": (2, 3)} if kind == "lstm_cell" else {"h": (2, 3)}

    def call(m: SimpleNamespace) -> Any:
        hx = [m.h, m.c] if kind == "lstm_cell" else m.h
        return getattr(torch, kind)(m.x, hx, m.w, m.u, *((m.b, m.d) if biases else ()))

    return case(
        kind + ("" if biases else ", no biases"),
        call,
        x=(2, 4),
        w=(gates * 3, 4),
        u=(gates * 3, 3),
        unchecked=True,
        conservative=rows,
        **states,
        **bias,
    )


def _packed(m: SimpleNamespace, kind: str) -> Any:
    packed, sizes = torch._pack_padded_sequence(m.x, torch.tensor([2, 1, 1]), False)
    h = m.x.new_zeros(1, 3, 3)
    out = getattr(torch, kind)(packed, sizes, (h, h) if kind == "lstm" else h, [m.w, m.u], False, 1, 0.0, False, False)
    return torch._pad_packed_sequence(out[0], sizes, False, 0.0, 2)[0]


CASES = [
    _layer("lstm"),
    _layer("lstm", "no biases", biases=False),
    _layer("lstm", "states given", given=True),
    _layer("lstm", "batch first", batch_first=True),
    _layer("lstm", "both directions", directions=2),
    _layer("lstm", "stacked", layers=2, biases=False),
    _layer("lstm", "stacked in both directions, states given", layers=2, directions=2, biases=False, given=True),
    _layer("lstm", "projected", projection=2),
    _layer("gru"),
    _layer("gru", "both directions, states given", directions=2, given=True),
    _layer("rnn_tanh", "stacked, states given", layers=2, given=True),
    _layer("rnn_relu"),
    *(_step(f"{kind}_cell") for kind in GATES),
    _step("gru_cell", biases=False),
    *(
        case(
            f"{kind}, packed",
            lambda m, kind=kind: _packed(m, kind),
            x=(2, 3, 4),
            w=(g * 3, 4),
            u=(g * 3, 3),
            unchecked=True,
        )
        for kind, g in GATES.items()
    ),
    case(
        "mkldnn_rnn_layer",
        lambda m: aten.mkldnn_rnn_layer(
            *(t.float() for t in (m.x, m.w, m.u, m.b, m.d, m.h, m.c)),
            False,
            [],
            2,
            m.hidden,
            1,
            True,
            False,
            False,
            False,
        )[:3],
        x=(2, 3, 4),
        w=(12, 4),
        u=(12, 3),
        b=(12,),
        d=(12,),
        h=(1, 3, 3),
        c=(1, 3, 3),
        hidden=3,
        unchecked=True,
        random=True,  # in single precision
    ),
]
