"""The methods that are compared: a criterion, who is ranked with whom, what is recovered, and how it is trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import lru_cache

import torch.nn.functional as F
from networks import NETWORKS
from torch import nn
from training import Data, Recipe, train

import torch_pruning as tp

TUNING_STEPS = 100
TUNING_RATE = 0.02
ITERATIONS = 3
HESSIAN_IMAGES = 256  # one backward pass for each
LASSO = 0.02  # strength of the penalty; at 0.1 as short a training loses 15 points before anything is pruned


@dataclass(frozen=True, slots=True)
class Method:
    """`importance` and `scope` as `tp.plan` takes them, `recovery` as `tp.prune` does.

    `training`: "after", one fine-tuning after all pruning; "rounds", as "after", and pruning in three steps, each with
    its recovery; "between", such steps with a third of the training after each; "sparse", as "after", and before
    pruning as many steps of training with group lasso.
    """

    importance: str
    scope: str
    recovery: str
    training: str = "after"

    @property
    def name(self) -> str:
        return f"{self.importance}, {self.scope}, {self.recovery}{_TRAINING[self.training]}"


_TRAINING = {
    "after": "",
    "rounds": ", in three rounds",
    "between": ", in three steps",
    "sparse": ", group lasso training",
}
BASELINE = "batch_norm"  # the usual practice, where there is a batch norm
OURS = "least_squares"
# What every network gets first, and what it gets when that is done.
CORE = (
    Method("l2", "local", BASELINE),
    Method("taylor", "local", BASELINE),
    Method("random", "local", BASELINE),
    Method("l2", "local", OURS),
    Method("reconstruction", "local", OURS),
    Method("reconstruction", "cost", OURS, "rounds"),
)
# For ResNet-20 alone.
REST = (
    Method("l2", "local", "none"),
    Method("l2", "local", "mean"),
    *(Method(criterion, "local", BASELINE) for criterion in ("l1", "bn_scale", "fpgm", "hessian")),
    Method("lamp", "global", BASELINE),  # within one layer its order is that of L2
    Method("l2", "local", BASELINE, "sparse"),
    Method("l2", "local", BASELINE, "between"),
    Method("reconstruction", "cost", OURS),
    Method("reconstruction", "cost", OURS, "between"),
)
OF_LOSS = {"taylor", "hessian"}


def methods_of(network: str) -> tuple[tuple[Method, ...], tuple[Method, ...]]:
    """Those that a network is pruned by, in two parts; without batch norms there is nothing to take anew."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in NETWORKS[network]().modules()):
        return tuple(replace(m, recovery="none") if m.recovery == BASELINE else m for m in CORE), ()
    return CORE, REST if network == "resnet20" else ()


@dataclass(frozen=True, slots=True)
class Case:
    """One network to be pruned by one method to one share of its MACs."""

    method: Method
    budget: float
    seed: int


def pruned(model: nn.Module, data: Data, case: Case) -> nn.Module:
    """A pruned copy, before the last fine-tuning."""
    if case.method.training in ("rounds", "between"):
        return _in_steps(copy.deepcopy(model), data, case)
    small = copy.deepcopy(_trained_sparsely(model, data, case.seed) if case.method.training == "sparse" else model)
    calibration = data.calibration(case.seed)
    tp.prune(
        small,
        calibration[0][:1],
        macs=case.budget,
        importance=_importance(small, data, case),
        scope=case.method.scope,
        seed=case.seed,
        calibration=calibration,
        recovery=case.method.recovery,
    )
    return small


def fine_tune(model: nn.Module, data: Data, case: Case) -> None:
    """What is left of the training that every method gets."""
    steps = TUNING_STEPS // ITERATIONS if case.method.training == "between" else TUNING_STEPS
    train(model, data, Recipe(steps, TUNING_RATE, case.seed))


def _in_steps(model: nn.Module, data: Data, case: Case) -> nn.Module:
    """The model after the last of three steps, each of which keeps the same share, with or without training between."""
    calibration = data.calibration(case.seed)
    pruner = tp.Pruner(
        model,
        calibration[0][:1],
        macs=case.budget,
        schedule=[case.budget ** (step / ITERATIONS) for step in range(1, ITERATIONS)] + [case.budget],
        importance=case.method.importance,
        scope=case.method.scope,
        calibration=calibration,
        recovery=case.method.recovery,
    )
    for step in pruner.steps(ITERATIONS):
        if case.method.training == "between" and step.number < ITERATIONS:
            train(model, data, Recipe(TUNING_STEPS // ITERATIONS, TUNING_RATE, 100 * step.number + case.seed))
    return model


@lru_cache(maxsize=1)  # budgets of one method follow each other
def _trained_sparsely(model: nn.Module, data: Data, seed: int) -> nn.Module:
    sparse = copy.deepcopy(model)
    graph = tp.build_graph(sparse, [tp.Example(data.test[:1])])
    regularizer = tp.Regularizer(graph, tp.GroupLassoPenalty(LASSO))
    train(sparse, data, Recipe(TUNING_STEPS, TUNING_RATE, 1000 + seed), after_backward=regularizer.regularize)
    return sparse.eval()


def _importance(model: nn.Module, data: Data, case: Case) -> object:
    """A name, or a criterion that has seen the calibration images with their labels in evaluation mode."""
    name = case.method.importance
    if name not in OF_LOSS:
        return name
    model.eval()
    batch = 1 if name == "hessian" else 128
    pairs = list(zip(data.calibration(case.seed, batch), data.calibration_labels(case.seed, batch), strict=True))
    with tp.importance.criterion(name).observe(model) as criterion:
        for images, labels in pairs[:HESSIAN_IMAGES]:
            F.cross_entropy(model(images), labels, reduction="sum").backward()
            model.zero_grad()
    return criterion
