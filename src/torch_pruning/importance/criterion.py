"""What all criteria share: from a group to one score per unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from torch_pruning.errors import ImportanceError
from torch_pruning.graph.groups import Group
from torch_pruning.importance.position_shares import PositionGroup, position_group
from torch_pruning.importance.reductions import (
    JOINT,
    Normalizer,
    check_normalizer,
    check_reduction,
    normalized,
    reduced,
)
from torch_pruning.importance.shares import GroupView, Share
from torch_pruning.importance.tensors import ModelTensors
from torch_pruning.rules.call import CONTRACTED, LOOKED_UP, PRODUCED

Types = Iterable[type[nn.Module]]

TARGET_TYPES: tuple[type[nn.Module], ...] = (_ConvNd, nn.Linear, _BatchNorm, nn.LayerNorm)
_OF_LAYERS = frozenset((PRODUCED, CONTRACTED, LOOKED_UP))


class Criterion(ABC):
    """Scores of units: those of each member, reduced over the members, normalised within the group.

    `group_reduction`: sum, mean, max, prod, first, gate (the last member), or "joint": all entries of a unit, of
    whatever members, are one vector, scored once. None (in calls with positions only) leaves one row per member.
    `normalizer`: see `torch_pruning.importance.normalized`. `bias`: whether biases count. `target_types`: the layers
    that count, None for all; a group of the graph that has none of them is scored by the layers it has.

    Ties stay ties: of equal scores, allotment keeps the first unit. A score that is not finite is an error.
    """

    needs: ClassVar[frozenset[str]] = frozenset()  # kinds of statistics, see `observe`

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
    ) -> None:
        check_reduction(group_reduction)
        check_normalizer(normalizer)
        self.group_reduction = group_reduction
        self.normalizer = normalizer
        self.bias = bias
        self.target_types = None if target_types is None else tuple(target_types)

    @property
    def joint(self) -> bool:
        return self.group_reduction == JOINT

    def __repr__(self) -> str:
        return f"{type(self).__name__}(group_reduction={self.group_reduction!r}, normalizer={self.normalizer!r})"

    @abstractmethod
    def score(self, shares: Sequence[Share]) -> Tensor:
        """Scores of the units by these shares taken together: [lanes, units]."""

    def select(self, shares: list[Share], where: str) -> list[Share]:
        """The shares that this criterion can score. Raises ImportanceError where statistics are missing."""
        return shares

    def __call__(self, group: Any, tensors: Mapping[str, Tensor] | None = None) -> Any:
        """For a group of the graph and the model's tensors, [lanes, units]; for a group of positions of layers
        (an iterable of (dependency, idxs)) one score per position of its root, or None if no layer of it counts.

        Raises:
            ImportanceError: for missing statistics, a group that cannot be scored, and scores that are not finite.
        """
        with torch.no_grad():
            if isinstance(group, Group):
                return self._of_units(group, tensors)
            return self._of_positions(position_group(group))

    def _of_units(self, group: Group, tensors: Mapping[str, Tensor] | None) -> Tensor:
        if tensors is None or (self.target_types is not None and not isinstance(tensors, ModelTensors)):
            raise TypeError(
                f"{type(self).__name__} scores tensors of layers; found {type(tensors).__name__} beside {group.name}: "
                "pass torch_pruning.importance.ModelTensors(model)"
            )
        if self.group_reduction is None:
            raise ValueError(
                f"a plan needs one score per unit; found group_reduction=None for {group.name}: choose a reduction"
            )
        shares = [share for share in GroupView(group, tensors) if self._counts(share)]
        chosen = [share for share in shares if self._is_target(share)] or self.instead(shares)
        if not chosen:
            raise ImportanceError(
                f"{type(self).__name__} needs a tensor that it can score; found none in {group.name}, which lies on "
                f"{', '.join(member.tensor for member in group.members[:4])}: ignore these, or use another criterion"
            )
        where = group.name
        chosen = self.select(chosen, where)
        scores = self._reduced(chosen)
        self._require_finite(scores, chosen, where)
        return normalized(scores, self.normalizer)

    def _of_positions(self, group: PositionGroup) -> Tensor | None:
        shares = [share for share in group.shares if self._counts(share) and self._is_target(share)]
        if not shares:
            return None
        shares = self.select(shares, group.name)
        if self.group_reduction is None:
            return torch.stack([self.score([share])[0] for share in shares])
        scores = self._reduced(shares)
        self._require_finite(scores, shares, group.name)
        return normalized(scores[0], self.normalizer)

    def instead(self, shares: list[Share]) -> list[Share]:
        """What is scored in a group without layers of the target types."""
        return shares

    def _counts(self, share: Share) -> bool:
        # Buffers count where a layer multiplies with them; running averages are no weights.
        counts = share.is_parameter or share.role in _OF_LAYERS
        return counts and (self.bias or not share.is_bias) and share.tensor.is_floating_point()

    def _is_target(self, share: Share) -> bool:
        return self.target_types is None or isinstance(share.layer, self.target_types)

    def _reduced(self, shares: Sequence[Share]) -> Tensor:
        if self.joint:
            return self.score(shares)
        assert self.group_reduction is not None
        return reduced(stacked([self.score([share]) for share in shares]), self.group_reduction)

    def _require_finite(self, scores: Tensor, shares: Sequence[Share], where: str) -> None:
        if bool(torch.isfinite(scores).all()):
            return
        guilty = [share.name for share in shares if not bool(torch.isfinite(self.score([share])).all())]
        count = int((~torch.isfinite(scores)).sum())
        raise ImportanceError(
            f"scores of {where} must be finite, found {count} of {scores.numel()} that are not, by "
            f"{type(self).__name__} from {', '.join(guilty) or 'the sum over its members'}: "
            "repair these tensors (or their gradients)"
        )


def stacked(scores: Sequence[Tensor]) -> Tensor:
    """Scores of members, [members, ...], on the device of the first and in the widest precision."""
    dtype = scores[0].dtype
    for other in scores[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    return torch.stack([score.to(scores[0].device, dtype) for score in scores])


def added(scores: Sequence[Tensor]) -> Tensor:
    """Their sum, on the device of the first."""
    total = scores[0]
    for other in scores[1:]:
        total = total + other.to(total.device)
    return total
