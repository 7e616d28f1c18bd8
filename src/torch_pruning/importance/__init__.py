"""Scores: one per unit of a group, from the tensors it touches."""

from torch_pruning.importance.base import Importance, Scores, group_scores, resolve_importance
from torch_pruning.importance.weight import MagnitudeScore, RandomScore

__all__ = ["Importance", "MagnitudeScore", "RandomScore", "Scores", "group_scores", "resolve_importance"]
