"""Deciding how many units go, and which; the pruners of Torch-Pruning 1.x on top of it."""

from torch_pruning.pruner import function
from torch_pruning.pruner.classic import (
    BasePruner,
    BNScalePruner,
    GroupNormPruner,
    GrowingRegPruner,
    MagnitudePruner,
    MetaPruner,
    linear_scheduler,
)

__all__ = [
    "BNScalePruner",
    "BasePruner",
    "GroupNormPruner",
    "GrowingRegPruner",
    "MagnitudePruner",
    "MetaPruner",
    "function",
    "linear_scheduler",
]
