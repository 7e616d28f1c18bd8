"""Public functions under the names people look for; everything is defined elsewhere."""

from torch_pruning.counting import count_params, count_prunable_channels, count_prunable_params

__all__ = ["count_params", "count_prunable_channels", "count_prunable_params"]
