"""Structural pruning for PyTorch: find which channels, heads and widths are coupled, and remove them physically."""

from torch_pruning import recovery, strategy, utils
from torch_pruning.dependency import DependencyGraph, DependencyPlan
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.layers import (
    mask_bias,
    mask_weight,
    prune_batchnorm,
    prune_conv,
    prune_group_conv,
    prune_linear,
    prune_prelu,
    prune_related_conv,
    prune_related_linear,
)
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.verify import Verification, verify
from torch_pruning.pruner.plan import plan, prune
from torch_pruning.pruner.report import PruneReport
from torch_pruning.pruner.sparsify import Regularizer
from torch_pruning.pruner.sparsify_masks import SoftPruning
from torch_pruning.pruner.sparsify_penalties import (
    BatchNormScalePenalty,
    GroupLassoPenalty,
    GroupNormPenalty,
    GrowingPenalty,
)
from torch_pruning.rules.registry import register_rule
from torch_pruning.trace.tracer import Example

__version__ = "0.1.0"

__all__ = [
    "BatchNormScalePenalty",
    "DependencyGraph",
    "DependencyPlan",
    "Example",
    "Graph",
    "GroupLassoPenalty",
    "GroupNormPenalty",
    "GrowingPenalty",
    "Plan",
    "PruneReport",
    "Regularizer",
    "SoftPruning",
    "Verification",
    "build_graph",
    "mask_bias",
    "mask_weight",
    "plan",
    "prune",
    "prune_batchnorm",
    "prune_conv",
    "prune_group_conv",
    "prune_linear",
    "prune_prelu",
    "prune_related_conv",
    "prune_related_linear",
    "recovery",
    "register_rule",
    "strategy",
    "utils",
    "verify",
]
