"""The methods that are compared: a criterion, who is ranked with whom, and what is recovered afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from training import Data

import torch_pruning as tp


@dataclass(frozen=True, slots=True)
class Method:
    """`importance` and `scope` as `tp.plan` takes them, `recovery` as `tp.prune` does."""

    importance: str
    scope: str
    recovery: str

    @property
    def name(self) -> str:
        return f"{self.importance}, {self.scope}, {self.recovery}"


# Kinds of recovery on the same selection, and ours; then every criterion with batch norm, alone, with least squares.
METHODS = (
    *(Method("l2", "local", recovery) for recovery in ("none", "batch_norm", "mean", "least_squares")),
    *(Method("reconstruction", scope, "least_squares") for scope in ("local", "cost")),
    Method("reconstruction", "cost", "batch_norm"),
    *(
        Method(criterion, "local", recovery)
        for recovery in ("batch_norm", "none", "least_squares")
        for criterion in ("random", "l1", "bn_scale", "fpgm", "lamp", "taylor", "hessian", "activation")
    ),
)
# For the fine-tuning, which costs more: the usual baselines with batch norm, and ours.
TUNED = (
    Method("random", "local", "batch_norm"),
    Method("l2", "local", "batch_norm"),
    Method("taylor", "local", "batch_norm"),
    Method("reconstruction", "cost", "least_squares"),
)
OF_LOSS = {"taylor", "taylor_multivariate", "hessian"}
OF_ACTIVATIONS = {"activation", "wanda", "fluctuation", "apoz"}


def labelled(data: Data, seed: int, batch: int = 128) -> list[tuple[Tensor, Tensor]]:
    """The calibration images with their labels, for criteria that look at the loss."""
    images = data.calibration(seed, batch)
    labels = data.calibration_labels(seed, batch)
    return list(zip(images, labels, strict=True))


def prune(model: nn.Module, data: Data, method: Method, budget: float, seed: int) -> None:
    """Prune to a share of the MACs, in place."""
    calibration = data.calibration(seed)
    tp.prune(
        model,
        calibration[0][:1],
        macs=budget,
        importance=_importance(model, data, method, seed),
        scope=method.scope,
        seed=seed,
        calibration=calibration,
        recovery=method.recovery,
    )


def _importance(model: nn.Module, data: Data, method: Method, seed: int) -> object:
    """A name, or a criterion that has seen the calibration images in evaluation mode."""
    if method.importance not in OF_LOSS | OF_ACTIVATIONS:
        return method.importance
    model.eval()
    with tp.importance.criterion(method.importance).observe(model) as criterion:
        for images, labels in labelled(data, seed, batch=1 if method.importance == "hessian" else 128):
            loss = F.cross_entropy(model(images), labels, reduction="sum")
            if method.importance in OF_LOSS:
                loss.backward()
                model.zero_grad()
    return criterion
