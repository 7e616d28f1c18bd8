"""The pruners of Torch-Pruning 1.x: ratios in steps, group by group or all at once, on the same engine as `plan`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.axes.positions import Choice
from torch_pruning.dependency import DependencyGraph, PruningGroup
from torch_pruning.dependency.history import History
from torch_pruning.graph.graph import Graph
from torch_pruning.importance import ModelTensors, resolve_importance
from torch_pruning.pruner.allot import Rounding, admissible_steps, choose_units, keeping_guards, uniform_counts
from torch_pruning.pruner.budget import Budget
from torch_pruning.pruner.decide import Start, decide
from torch_pruning.pruner.options import Options, check_share
from torch_pruning.pruner.roots import Roots, ScoresOfGroups, takes_tensors
from torch_pruning.pruner.selection import movable
from torch_pruning.pruner.sparsify import Regularizer
from torch_pruning.pruner.sparsify_penalties import (
    BatchNormScalePenalty,
    GroupNormPenalty,
    GrowingPenalty,
    Penalty,
)

Scheduler: TypeAlias = Callable[[float, int], Sequence[float]]
_ROOTS = (_ConvNd, nn.Linear, nn.LSTM)


def linear_scheduler(pruning_ratio: float, steps: int) -> list[float]:
    """The ratio after each of several equal steps, from 0 on.

    >>> linear_scheduler(0.5, 2)
    [0.0, 0.25, 0.5]
    """
    return [pruning_ratio * step / steps for step in range(steps + 1)]


class BasePruner:
    """Removes the share `pruning_ratio` of the channels that the model had at the start, in `iterative_steps` steps.

    `importance`: a criterion of `torch_pruning.importance`, or a function of a group that gives one score per position
    of its root (None leaves the group alone). `global_pruning` ranks all channels together, with `isomorphic` those of
    groups of the same structure. `pruning_ratio_dict`: ratios of their own for modules (a container speaks for all in
    it) or tuples of modules, which share one ranking. `ignored_layers`, modules or Parameters, keep their outputs.
    `prune_num_heads` removes the share `head_pruning_ratio` of attention heads; `prune_head_dims=False` keeps the size
    of each head. What is found without being told is accepted and not needed: `num_heads`, `in_channel_groups`,
    `out_channel_groups`, `unwrapped_parameters`.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> pruner = tp.pruner.MagnitudePruner(
    ...     net, torch.randn(1, 4), tp.importance.MagnitudeImportance(p=2), pruning_ratio=0.5, iterative_steps=2
    ... )
    >>> for _ in range(pruner.iterative_steps):
    ...     pruner.step()
    ...     print(net[0].out_features)  # train here
    12
    8
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        importance: Any,
        global_pruning: bool = False,
        pruning_ratio: float = 0.5,
        pruning_ratio_dict: Mapping[Any, float] | None = None,
        max_pruning_ratio: float = 1.0,
        iterative_steps: int = 1,
        iterative_pruning_ratio_scheduler: Scheduler = linear_scheduler,
        ignored_layers: Iterable[Any] | None = None,
        round_to: int | None = None,
        isomorphic: bool = False,
        in_channel_groups: Mapping[nn.Module, int] | None = None,
        out_channel_groups: Mapping[nn.Module, int] | None = None,
        num_heads: Mapping[nn.Module, int] | None = None,
        prune_num_heads: bool = False,
        prune_head_dims: bool = True,
        head_pruning_ratio: float = 0.0,
        head_pruning_ratio_dict: Mapping[nn.Module, float] | None = None,
        customized_pruners: Mapping[Any, Any] | None = None,
        unwrapped_parameters: Any = None,
        root_module_types: Iterable[type] = _ROOTS,
        forward_fn: Any = None,
        output_transform: Any = None,
    ) -> None:
        check_share("pruning_ratio", pruning_ratio)
        self.model = model
        self.importance = importance
        self.pruning_ratio = pruning_ratio
        self.pruning_ratio_dict = dict(pruning_ratio_dict or {})
        single = isinstance(ignored_layers, (str, nn.Module, nn.Parameter))
        self.ignored_layers: list[Any] = [ignored_layers] if single else list(ignored_layers or ())
        self.iterative_steps = iterative_steps
        self.current_step = 0
        self.root_module_types = tuple(root_module_types)
        self.num_heads = dict(num_heads or {})
        self._scheduler = iterative_pruning_ratio_scheduler
        self.per_step_pruning_ratio = _ratios_of_steps(self._scheduler, pruning_ratio, iterative_steps)
        self._head_ratios: Any = {} if prune_num_heads else 0.0
        if prune_num_heads:
            self._head_ratios = head_pruning_ratio if not head_pruning_ratio_dict else dict(head_pruning_ratio_dict)
        self.DG = DependencyGraph().build_dependency(
            model,
            example_inputs,
            forward_fn=forward_fn,
            output_transform=output_transform,
            unwrapped_parameters=unwrapped_parameters,
            customized_pruners=customized_pruners,
        )
        self._start = Start.of(self.graph)
        self._options = Options(
            Budget("pruning_ratio", pruning_ratio),
            scope=("isomorphic" if isomorphic else "global") if global_pruning else "local",
            head_dim_ratio=None if prune_head_dims else 0.0,
            round_to=round_to or 1,
            max_pruning_ratio=max_pruning_ratio,
            follow="heads" if prune_num_heads and not prune_head_dims else "head_dims",
        )

    @property
    def graph(self) -> Graph:
        return self.DG.graph

    # ---- pruning

    def step(self, interactive: bool = False) -> Iterator[PruningGroup] | None:
        """The next step. `interactive` yields its groups, to be pruned in this order by `group.prune()`, or left alone.

        Raises:
            BudgetError: for a ratio that cannot be met, with the closest reachable one; nothing has changed then.
        """
        if self.current_step >= self.iterative_steps:
            warnings.warn(
                f"all {self.iterative_steps} steps are done, nothing is pruned: reset() starts again", stacklevel=2
            )
            return iter(()) if interactive else None
        self.current_step += 1
        if interactive:
            return self._groups()
        try:
            self._prune_all(self._decide())
        except BaseException:
            self.current_step -= 1
            raise
        return None

    def _prune_all(self, choice: Choice) -> None:
        if choice:
            self.DG.exec_units(choice, record_history=True)

    def _groups(self) -> Iterator[PruningGroup]:
        """The groups of this step, from the model's output to its input."""
        choice = self._decide()
        roots = Roots(self.DG, self.root_module_types)
        groups = [self.DG.group_of_units(roots.first(part), part) for part in _parts(self.graph, choice)]
        yield from sorted(groups, key=lambda group: roots.order(group.axes))

    def _decide(self) -> Choice:
        """Which units stay in this step, of all groups."""
        step = self.current_step
        untouched = step == self.iterative_steps and not self.graph.executed
        return decide(self.graph, self._options_of(step), None if untouched else self._start)

    def _options_of(self, step: int) -> Options:
        def now(ratio: float) -> float:
            return float(self._scheduler(ratio, self.iterative_steps)[step])

        importance, left_alone = self._criterion()
        heads = self._head_ratios
        return replace(
            self._options,
            budget=Budget("pruning_ratio", float(self.per_step_pruning_ratio[step])),
            importance=importance,
            ratios={key: now(ratio) for key, ratio in self.pruning_ratio_dict.items()} or None,
            head_ratio={key: now(ratio) for key, ratio in heads.items()} if isinstance(heads, dict) else now(heads),
            ignore=(*self.ignored_layers, *left_alone, *self._other_roots()),
        )

    def _criterion(self) -> tuple[Any, list[str]]:
        """The criterion as `decide` takes it, and the names of tensors whose groups it leaves alone."""
        overridden = type(self).estimate_importance is not BasePruner.estimate_importance
        if not overridden and (isinstance(self.importance, str) or takes_tensors(self.importance)):
            return self.importance, []
        scores = ScoresOfGroups(Roots(self.DG, self.root_module_types), self.estimate_importance)
        return scores, scores.left_alone()

    def _other_roots(self) -> list[str]:
        """The tensors of groups that no layer of the wanted types produces."""
        if self.root_module_types == _ROOTS:
            return []
        wanted = Roots(self.DG, self.root_module_types, others=False)
        return [group.members[0].tensor for group in self.graph.groups if group.axis not in wanted]

    def manual_prune_width(self, layer: nn.Module, pruning_fn: Any, pruning_ratio_or_idxs: Any) -> int:
        """Prune one width of one layer, and what goes with it: by positions, or the share of its least important ones.

        Returns the number of parameters removed.
        """
        if not isinstance(pruning_ratio_or_idxs, float):
            return self.DG.get_pruning_group(layer, pruning_fn, pruning_ratio_or_idxs).prune()
        check_share("pruning_ratio_or_idxs", pruning_ratio_or_idxs)
        root = self.DG.root(layer, pruning_fn)
        here = set(leaves(root.axis))
        clusters = [
            (cluster, admissible_steps(cluster, self.graph, Rounding(self._options.round_to)))
            for cluster in movable(self.graph, set(), False)
            if here.intersection(cluster.axes)
        ]
        if not clusters:
            raise ValueError(
                f"the width of {root.path} must be one that can be pruned; found {self.DG.protection(root)}: "
                "graph.explain(name) says more"
            )
        counts = keeping_guards(self.graph, uniform_counts(clusters, pruning_ratio_or_idxs))
        importance, _ = self._criterion()
        choice = choose_units(self.graph, counts, resolve_importance(importance), ModelTensors(self.model))
        return self.DG.exec_units(choice, record_history=True) if choice else 0

    def estimate_importance(self, group: PruningGroup) -> Tensor | None:
        """One score per position of the group's root; None leaves the group alone. Override it for one's own."""
        scores: Tensor | None = self.importance(group)
        return scores

    def reset(self) -> None:
        """Start counting steps again; ratios still refer to the channels that the model had at the start."""
        self.current_step = 0

    # ---- history

    def pruning_history(self) -> History:
        """What was pruned so far, as plain data."""
        return self.DG.pruning_history()

    def load_pruning_history(self, pruning_history: History) -> None:
        """Prune the model as the history says; nothing in it is executed."""
        self.DG.load_pruning_history(pruning_history)

    # ---- sparse training

    def regularize(self, model: nn.Module, loss: Any = None) -> Any:
        """Nothing here: pruners with a penalty add its gradient."""

    def update_regularizer(self) -> None:
        """Nothing here: penalties follow the model by themselves."""


def _ratios_of_steps(scheduler: Scheduler, ratio: float, steps: int) -> list[float]:
    """The ratio before the first step and after each.

    Raises:
        ValueError: for no steps, or a scheduler that gives fewer ratios.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"iterative_steps must be a positive integer, found {steps!r}")
    ratios = list(scheduler(ratio, steps))
    if len(ratios) <= steps:
        raise ValueError(
            f"a scheduler must give the ratio before the first step and after each of {steps}, {steps + 1} in all; "
            f"found {ratios} by {scheduler!r}"
        )
    return ratios


MetaPruner = BasePruner
MagnitudePruner = BasePruner


class _SparsePruner(BasePruner):
    """A pruner with a penalty on the groups that it would prune."""

    _penalty: Penalty

    def _regularizer(self) -> Regularizer:
        if not hasattr(self, "_made"):
            self._made = Regularizer(self.graph, self._penalty, ignore=self.ignored_layers)
        return self._made

    def regularize(self, model: nn.Module, loss: Any = None) -> Any:
        """Add the gradient of the penalty to those of the parameters: between `backward` and `optimizer.step`.

        `loss` is accepted and not needed.
        """
        regularizer = self._regularizer()
        regularizer.penalty = self._penalty
        regularizer.regularize(model)
        return loss


class GroupNormPruner(_SparsePruner):
    """`BasePruner` with DepGraph's penalty, see `GroupNormPenalty`: `regularize(model)` in the training loop.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> pruner = GroupNormPruner(net, torch.randn(1, 4), tp.importance.MagnitudeImportance(), reg=1e-2)
    >>> net(torch.randn(3, 4)).sum().backward()
    >>> pruner.regularize(net)
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        importance: Any,
        reg: float = 1e-4,
        alpha: float = 4,
        *a: Any,
        **k: Any,
    ) -> None:
        super().__init__(model, example_inputs, importance, *a, **k)
        self.reg, self.alpha = reg, alpha
        self._penalty = GroupNormPenalty(reg, alpha)

    def regularize(self, model: nn.Module, loss: Any = None, alpha: float | None = None) -> Any:
        """As `BasePruner.regularize`; `alpha` for this call, that of the pruner by default."""
        self._penalty = GroupNormPenalty(self.reg, self.alpha if alpha is None else alpha)
        return super().regularize(model, loss)


class BNScalePruner(_SparsePruner):
    """`BasePruner` with network slimming's penalty on the scales of batch norms, see `BatchNormScalePenalty`."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        importance: Any,
        reg: float = 1e-5,
        group_lasso: bool = False,
        *a: Any,
        **k: Any,
    ) -> None:
        super().__init__(model, example_inputs, importance, *a, **k)
        self.reg, self.group_lasso = reg, group_lasso
        self._penalty = BatchNormScalePenalty(reg, group_lasso)

    def regularize(self, model: nn.Module, loss: Any = None, reg: float | None = None) -> Any:
        """As `BasePruner.regularize`; `reg` for this call, that of the pruner by default."""
        self._penalty = BatchNormScalePenalty(self.reg if reg is None else reg, self.group_lasso)
        return super().regularize(model, loss)


class GrowingRegPruner(_SparsePruner):
    """`BasePruner` with a penalty that grows, faster on the less important, at each `update_reg`: `GrowingPenalty`."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        importance: Any,
        reg: float = 1e-5,
        delta_reg: float = 1e-5,
        *a: Any,
        **k: Any,
    ) -> None:
        super().__init__(model, example_inputs, importance, *a, **k)
        self.reg, self.delta_reg = reg, delta_reg
        self._penalty = GrowingPenalty(reg, delta_reg)

    def update_reg(self) -> None:
        """One more period of training is over: the strengths grow."""
        self._regularizer().update(self.model)


def _parts(graph: Graph, choice: Choice) -> list[Choice]:
    """The choice in parts that can be carried out one by one: axes tied by counts, or by lanes, stay together."""
    owner: dict[Free, Free] = {axis: axis for axis in choice}

    def find(axis: Free) -> Free:
        while owner[axis] is not axis:
            axis = owner[axis]
        return axis

    ties: list[Sequence[Free]] = [cluster.axes for cluster in graph.clusters]
    ties += [(axis, *kept.lanes) for axis, kept in choice.items()]
    ties += [(axis, *graph.group_of[axis].lanes) for axis in choice if axis in graph.group_of]
    for tie in ties:
        present = [axis for axis in tie if axis in choice]
        for axis in present[1:]:
            owner[find(axis)] = find(present[0])
    parts: dict[Free, dict[Free, Any]] = {}
    for axis, kept in choice.items():
        parts.setdefault(find(axis), {})[axis] = kept
    return list(parts.values())
