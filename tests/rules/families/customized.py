"""Layers that their users prune: one call, whatever runs inside."""

from rules.case import case, known
from torch_pruning.trace.customized import customized_layer

OWN = "what such a layer computes is known to its pruner only"

CASES = [
    case(
        "customized_layer",
        lambda m: customized_layer(m.x, [], "layer", int(m.x.shape[1]), int(m.x.shape[1]), 1, True, lambda: m.x * 2),
        x=(2, 5, 3),
        conservative=known(OWN, "frozen x.0", "frozen x.2", "marked x.1", "nonzero x.1"),
    ),
]
