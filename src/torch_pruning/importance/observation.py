"""Gathering statistics while a model runs: one context manager over the user's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from torch_pruning.errors import ImportanceError
from torch_pruning.importance.shares import Share
from torch_pruning.importance.statistics import GATES, KRONECKER, OF_ACTIVATIONS, OF_GRADIENTS, Statistics
from torch_pruning.importance.uses import UseMode
from torch_pruning.trace.substitute import named_tensors

_Self = TypeVar("_Self", bound="Observer")


class Observer:
    """The part of a criterion that needs data: what was seen, and the context manager that sees it."""

    needs: ClassVar[frozenset[str]] = frozenset()
    statistics: Statistics | None = None

    @contextmanager
    def observe(self: _Self, model: nn.Module) -> Iterator[_Self]:
        """Gather what this criterion needs over the code of the `with` block: any loop that runs the model.

        >>> import torch, torch_pruning as tp
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> with tp.importance.TaylorImportance().observe(net) as taylor:
        ...     net(torch.randn(3, 4)).square().sum().backward()
        >>> print(tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5, importance=taylor))
        0: 8 -> 4
        parameters 58 -> 30
        MACs       48 -> 24
        """
        with observe(model, self):
            yield self

    def with_statistics(self, shares: list[Share], where: str, needed: str) -> list[Share]:
        """The shares that statistics were gathered for. Raises ImportanceError if there are none."""
        if not shares:
            name, found, remedy = type(self).__name__, "found none", ""
            if self.statistics is not None:
                found = "found that none of its tensors took part in what was observed"
                remedy = "ignore them, or "
            raise ImportanceError(
                f"{name} needs statistics of the model as it runs; {found}, for {where}: "
                f"{remedy}gather them with `with criterion.observe(model):` around {needed}, and pass that criterion"
            )
        return shares


@contextmanager
def observe(model: nn.Module, *criteria: Observer) -> Iterator[tuple[Any, ...]]:
    """Gather what all these criteria need, in one pass; they share it.

    Hooks and modes are gone after the block, also if it raises; criteria then keep what they had before. The model,
    its gradients and its random numbers are what the block makes of them.

    >>> import torch
    >>> from torch_pruning.importance import TaylorImportance, WandaImportance
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with observe(net, TaylorImportance(), WandaImportance()) as (taylor, wanda):
    ...     for _ in range(3):
    ...         net(torch.randn(5, 4)).square().sum().backward()
    >>> taylor.statistics is wanda.statistics
    True
    """
    if not criteria or not all(isinstance(criterion, Observer) for criterion in criteria):
        raise TypeError(
            f"observe needs the criteria that statistics are for; found {[type(c).__name__ for c in criteria]}: "
            "write observe(model, TaylorImportance()), say"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"observe needs a model; found {type(model).__name__}: pass the module that the loop calls")
    statistics = Statistics(frozenset(kind for criterion in criteria for kind in criterion.needs))
    with ExitStack() as stack:
        if statistics.kinds & OF_GRADIENTS:
            stack.enter_context(_gradients(model, statistics))
        if statistics.kinds & (OF_ACTIVATIONS | {GATES, KRONECKER}):
            stack.enter_context(UseMode(dict(named_tensors(model)), statistics))
        yield criteria
    for criterion in criteria:
        criterion.statistics = statistics


@contextmanager
def _gradients(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Every parameter's gradient of each backward pass goes into the statistics."""
    with ExitStack() as stack:
        for name, tensor in named_tensors(model):
            if tensor.is_leaf and tensor.requires_grad:
                stack.callback(_forget_hooks, tensor, tensor._backward_hooks)
                stack.callback(tensor.register_hook(partial(_take, statistics, name)).remove)
        yield


def _take(statistics: Statistics, name: str, gradient: Tensor) -> None:
    statistics.add_gradient(name, gradient)


def _forget_hooks(tensor: Tensor, before: Any) -> None:
    # What is left after the last hook is an empty dictionary, where a tensor that never had hooks has None.
    if before is None:
        tensor._backward_hooks = None
