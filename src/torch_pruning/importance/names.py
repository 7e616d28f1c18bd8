"""Names of criteria, as `plan(importance=...)` takes them, and users' own functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_pruning.errors import ImportanceError
from torch_pruning.graph.groups import Group
from torch_pruning.importance.activation import (
    ActivationImportance,
    APoZImportance,
    FisherImportance,
    FluctuationImportance,
    WandaImportance,
)
from torch_pruning.importance.base import Importance, Scores
from torch_pruning.importance.criterion import Criterion
from torch_pruning.importance.gradient import HessianImportance, TaylorImportance
from torch_pruning.importance.kronecker import OBDCImportance
from torch_pruning.importance.reductions import JOINT
from torch_pruning.importance.shares import GroupView
from torch_pruning.importance.weight import (
    BNScaleImportance,
    FPGMImportance,
    LAMPImportance,
    MagnitudeImportance,
    RandomImportance,
)

# A unit is all its entries, of whatever layers, biases too. Sizes of weights and activations mean something beside
# others of their group only, so they come relative to its mean; changes of the loss are in units of the loss.
_WHOLE: dict[str, Any] = {"group_reduction": JOINT, "bias": True, "target_types": None}
_OF_LOSS: dict[str, Any] = {**_WHOLE, "normalizer": None}

_NAMES: dict[str, Callable[[], Criterion]] = {
    "magnitude": lambda: MagnitudeImportance(2, **_WHOLE),
    "l1": lambda: MagnitudeImportance(1, **_WHOLE),
    "l2": lambda: MagnitudeImportance(2, **_WHOLE),
    "bn_scale": lambda: BNScaleImportance(group_reduction="sum"),
    "lamp": lambda: LAMPImportance(2, "sum", bias=True, target_types=None),
    "fpgm": lambda: FPGMImportance(2, **_WHOLE),
    "taylor": lambda: TaylorImportance(**_OF_LOSS),
    "taylor_multivariate": lambda: TaylorImportance(multivariable=True, **_OF_LOSS),
    "hessian": lambda: HessianImportance(**_OF_LOSS),
    "fisher": lambda: FisherImportance(**_OF_LOSS),
    "obdc": lambda: OBDCImportance(**_OF_LOSS),
    "activation": lambda: ActivationImportance(**_WHOLE),
    "apoz": lambda: APoZImportance(**_OF_LOSS),
    "wanda": lambda: WandaImportance(**_WHOLE),
    "fluctuation": lambda: FluctuationImportance(**{**_WHOLE, "normalizer": "gaussian"}),
}


@dataclass(frozen=True, slots=True)
class FunctionImportance:
    """A user's own function of a group (a `GroupView`), as an importance."""

    function: Callable[..., Tensor]

    def __call__(self, group: Group, tensors: Mapping[str, Tensor]) -> Scores:
        view = GroupView(group, tensors)
        scores, lanes = self._scores(view), view.lanes
        if scores.shape not in ((group.size,), (lanes, group.size)):
            raise ValueError(
                f"an importance must give one score per unit, [{group.size}] or [{lanes}, {group.size}]; "
                f"found {list(scores.shape)} for {group.name}: reduce over everything else"
            )
        if not bool(torch.isfinite(scores).all()):
            raise ImportanceError(
                f"scores of {group.name} must be finite, found {int((~torch.isfinite(scores)).sum())} that are not, by "
                f"{self.function!r}: look at its tensors {', '.join(m.tensor for m in group.members[:4])}"
            )
        return scores.reshape(-1, group.size).expand(lanes, group.size)

    def _scores(self, view: GroupView) -> Tensor:
        scores = self.function(view)
        try:
            return torch.as_tensor(scores)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"an importance must give a tensor of scores, [{view.size}]; found {type(scores).__name__} for "
                f"{view.name}, by {self.function!r}: return one score per unit, and name what shall stay in ignore="
            ) from None


def criterion(name: str, seed: int | None = None) -> Criterion:
    """A new criterion of this name, as `plan(importance=name)` uses it. Raises ValueError for an unknown name.

    >>> criterion("taylor").observe.__name__
    'observe'
    """
    if name == "random":
        return RandomImportance(seed or 0)
    if name not in _NAMES:
        raise ValueError(
            f"importance must be one of {sorted((*_NAMES, 'random'))} or a function of a group; found {name!r}"
        )
    return _NAMES[name]()


def resolve_importance(importance: Any, seed: int | None = None) -> Importance:
    """The criterion for a name, a function of a group, or an importance itself (it takes a group and tensors).

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if isinstance(importance, str):
        return criterion(importance, seed)
    if isinstance(importance, (Criterion, FunctionImportance)):
        return importance
    if isinstance(importance, type):
        raise ValueError(
            f"importance must be a name, a criterion or a function of a group, found the class {importance.__name__}: "
            f"make one, {importance.__name__}()"
        )
    if callable(importance):
        return importance if _takes_tensors(importance) else FunctionImportance(importance)
    raise ValueError(f"importance must be a name or a function of a group, found {type(importance).__name__}")


def _takes_tensors(function: Callable[..., Any]) -> bool:
    """Whether it wants the tensors as a second argument, as the criteria of this package do."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) == 2
