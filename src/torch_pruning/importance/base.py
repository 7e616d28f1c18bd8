"""What an importance is to whoever asks for scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from torch import Tensor

from torch_pruning.graph.groups import Group

Scores: TypeAlias = Tensor  # [lanes, units]; one lane where the group has none


class Importance(Protocol):
    """A criterion: scores of a group's units, higher is more important. `tensors` are the model's, by name."""

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores: ...
