"""The names `DependencyGraph` and `get_pruning_plan`: what goes when channels of one layer go."""

from torch_pruning.dependency.graph import DependencyGraph
from torch_pruning.dependency.group import GroupItem, PruningGroup
from torch_pruning.dependency.plan import DependencyPlan
from torch_pruning.dependency.rows import Dependency, Node, Row

__all__ = ["Dependency", "DependencyGraph", "DependencyPlan", "GroupItem", "Node", "PruningGroup", "Row"]
