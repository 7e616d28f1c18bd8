"""Distillation losses: the dense model teaches the pruned one, by its outputs and by the features that both have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from torch_pruning.errors import CalibrationError
from torch_pruning.planning.plan import Plan


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), averaged over all but the last dimension.

    [..., classes] twice -> []. No gradient goes to the teacher. Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, section 2; the factor T^2 keeps gradients of the size that they have at T = 1.

    Raises:
        ValueError: for logits of different shapes, or a temperature that is not positive.

    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> distillation_loss(logits, logits).item()
    0.0
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must give logits of one shape, found {list(student.shape)} and "
            f"{list(teacher.shape)}: distil the same inputs"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, found {temperature}")
    student, teacher = (logits.flatten(0, -2) / temperature for logits in (student, teacher.detach()))
    divergence = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)
    return divergence * temperature**2


class FeatureMatch:
    """What two models made of the same inputs in the same layers, see `match_features`."""

    def __init__(self, kept: dict[str, tuple[int, Tensor]]) -> None:
        self.kept = kept
        self.of_student: dict[str, Tensor] = {}
        self.of_teacher: dict[str, Tensor] = {}

    def loss(self) -> Tensor:
        """mean over layers of |student - teacher|^2 / |teacher|^2, on the units that the student has: [].

        Raises:
            CalibrationError: if not both models have run since the last call.
        """
        names = [name for name in self.kept if name in self.of_student and name in self.of_teacher]
        if not names:
            raise CalibrationError(
                "features of both models are needed, found none: run both before asking for the loss"
            )
        terms = []
        for name in names:
            dim, kept = self.kept[name]
            wanted = self.of_teacher[name].detach().index_select(dim, kept.to(self.of_teacher[name].device))
            lacking = (self.of_student[name] - wanted).square().sum()
            terms.append(lacking / wanted.square().sum().clamp_min(1e-12))
        self.of_student, self.of_teacher = {}, {}
        return torch.stack(terms).mean()


@contextmanager
def match_features(
    plan: Plan, student: nn.Module, teacher: nn.Module, layers: Iterable[str] | None = None
) -> Iterator[FeatureMatch]:
    """Within the block, what both models compute in these layers is kept for `loss`: one batch at a time.

    `student` is the model that the plan has pruned, `teacher` one as it was before. `layers` are names of linear layers
    and convolutions, by default all of them that lose outputs; those that lose none are matched as they are.

    Raises:
        ValueError: for a layer that is neither.

    >>> import copy, torch_pruning as tp
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> teacher, x = copy.deepcopy(net), torch.randn(16, 4)
    >>> plan = tp.plan(net, x, pruning_ratio=0.5)
    >>> _ = plan.exec()
    >>> with match_features(plan, net, teacher) as features:
    ...     loss = distillation_loss(net(x), teacher(x)) + features.loss()
    """
    match = FeatureMatch(dict(_kept(plan, teacher, layers)))
    with ExitStack() as stack:
        for model, found in ((student, "of_student"), (teacher, "of_teacher")):
            for name in match.kept:
                hook = model.get_submodule(name).register_forward_hook(_remember(match, found, name))
                stack.callback(hook.remove)
        yield match


def _remember(match: FeatureMatch, found: str, name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        getattr(match, found)[name] = output

    return hook


def _kept(plan: Plan, teacher: nn.Module, layers: Iterable[str] | None) -> Iterator[tuple[str, tuple[int, Tensor]]]:
    """For each layer the dimension of its output's units, and which the student has, in its order."""
    names = [name for name, _ in teacher.named_modules()] if layers is None else list(layers)
    for name in names:
        module = teacher.get_submodule(name)
        if isinstance(module, nn.Linear):
            weight, dim = module.weight, -1
        elif isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
            weight, dim = module.weight, 1 - module.weight.dim()
        elif layers is None:
            continue
        else:
            found = f"{type(module).__name__} at {name!r}"
            raise ValueError(f"layers must be linear layers or convolutions, found {found}: leave it out")
        kept = plan.kept.get(f"{name}.weight" if name else "weight", {}).get(0)
        if kept is not None or layers is not None:
            units = range(weight.shape[0]) if kept is None else kept
            yield name, (dim, torch.tensor(list(units)))
