"""Public functions under the names people look for; everything is defined elsewhere."""

from torch_pruning import comparing as print_tool
from torch_pruning import measuring as benchmark
from torch_pruning.counting import (
    count_ops_and_params,
    count_params,
    count_prunable_channels,
    count_prunable_params,
    flatten_as_list,
)
from torch_pruning.drawing import draw_computational_graph, draw_dependency_graph, draw_groups

__all__ = [
    "benchmark",
    "count_ops_and_params",
    "count_params",
    "count_prunable_channels",
    "count_prunable_params",
    "draw_computational_graph",
    "draw_dependency_graph",
    "draw_groups",
    "flatten_as_list",
    "print_tool",
]
