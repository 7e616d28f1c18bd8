"""The names `DependencyGraph` and `get_pruning_plan`: what goes when channels of one layer go."""

from torch_pruning.dependency.graph import DependencyGraph
from torch_pruning.dependency.plan import DependencyPlan
from torch_pruning.dependency.rows import Dependency, Row

__all__ = ["Dependency", "DependencyGraph", "DependencyPlan", "Row"]
