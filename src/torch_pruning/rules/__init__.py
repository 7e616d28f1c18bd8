"""One rule per op: how the axes of its outputs follow from those of its inputs.

Importing this package fills the table of `registry`.
"""

from torch_pruning.rules import (
    attention,
    contraction,
    convolution,
    create,
    customized,
    index,
    join,
    normalise,
    pointwise,
    recurrent,
    reduce,
    shape,
    spatial,
)

__all__ = [
    "attention",
    "contraction",
    "convolution",
    "create",
    "customized",
    "index",
    "join",
    "normalise",
    "pointwise",
    "recurrent",
    "reduce",
    "shape",
    "spatial",
]
