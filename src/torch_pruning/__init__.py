"""Structural pruning for PyTorch: find which channels, heads and widths are coupled, and remove them physically."""

from torch_pruning import importance, pruner, recovery, strategy, utils
from torch_pruning.checkpoint import load, load_state_dict, save, state_dict
from torch_pruning.dependency import Dependency, DependencyGraph, DependencyPlan, Node
from torch_pruning.dependency import PruningGroup as Group
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.layers import (
    BasePruningFunc,
    mask_bias,
    mask_weight,
    prune_batchnorm,
    prune_batchnorm_in_channels,
    prune_batchnorm_out_channels,
    prune_conv,
    prune_conv_in_channels,
    prune_conv_out_channels,
    prune_depthwise_conv_in_channels,
    prune_depthwise_conv_out_channels,
    prune_embedding_in_channels,
    prune_embedding_out_channels,
    prune_group_conv,
    prune_groupnorm_in_channels,
    prune_groupnorm_out_channels,
    prune_instancenorm_in_channels,
    prune_instancenorm_out_channels,
    prune_layernorm_in_channels,
    prune_layernorm_out_channels,
    prune_linear,
    prune_linear_in_channels,
    prune_linear_out_channels,
    prune_lstm_in_channels,
    prune_lstm_out_channels,
    prune_multihead_attention_in_channels,
    prune_multihead_attention_out_channels,
    prune_parameter_in_channels,
    prune_parameter_out_channels,
    prune_prelu,
    prune_prelu_in_channels,
    prune_prelu_out_channels,
    prune_related_conv,
    prune_related_linear,
)
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.verify import Verification, verify
from torch_pruning.pruner import function
from torch_pruning.pruner.plan import plan, prune
from torch_pruning.pruner.pruner import Pruner
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
    "BasePruningFunc",
    "BatchNormScalePenalty",
    "Dependency",
    "DependencyGraph",
    "DependencyPlan",
    "Example",
    "Graph",
    "Group",
    "GroupLassoPenalty",
    "GroupNormPenalty",
    "GrowingPenalty",
    "Node",
    "Plan",
    "PruneReport",
    "Pruner",
    "Regularizer",
    "SoftPruning",
    "Verification",
    "build_graph",
    "function",
    "importance",
    "load",
    "load_state_dict",
    "mask_bias",
    "mask_weight",
    "plan",
    "prune",
    "prune_batchnorm",
    "prune_batchnorm_in_channels",
    "prune_batchnorm_out_channels",
    "prune_conv",
    "prune_conv_in_channels",
    "prune_conv_out_channels",
    "prune_depthwise_conv_in_channels",
    "prune_depthwise_conv_out_channels",
    "prune_embedding_in_channels",
    "prune_embedding_out_channels",
    "prune_group_conv",
    "prune_groupnorm_in_channels",
    "prune_groupnorm_out_channels",
    "prune_instancenorm_in_channels",
    "prune_instancenorm_out_channels",
    "prune_layernorm_in_channels",
    "prune_layernorm_out_channels",
    "prune_linear",
    "prune_linear_in_channels",
    "prune_linear_out_channels",
    "prune_lstm_in_channels",
    "prune_lstm_out_channels",
    "prune_multihead_attention_in_channels",
    "prune_multihead_attention_out_channels",
    "prune_parameter_in_channels",
    "prune_parameter_out_channels",
    "prune_prelu",
    "prune_prelu_in_channels",
    "prune_prelu_out_channels",
    "prune_related_conv",
    "prune_related_linear",
    "pruner",
    "recovery",
    "register_rule",
    "save",
    "state_dict",
    "strategy",
    "utils",
    "verify",
]
