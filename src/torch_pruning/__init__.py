"""Structural pruning for PyTorch: find which channels, heads and widths are coupled, and remove them physically."""

from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.verify import Verification, verify
from torch_pruning.pruner.decide import plan, prune
from torch_pruning.pruner.report import PruneReport
from torch_pruning.rules.registry import register_rule

__version__ = "0.1.0"

__all__ = ["Graph", "Plan", "PruneReport", "Verification", "build_graph", "plan", "prune", "register_rule", "verify"]
