"""Sparse training: a penalty on the groups of a graph, as a gradient step or as a term of the loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor, nn

from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import Executed, Graph
from torch_pruning.graph.groups import Group
from torch_pruning.graph.ignored import Ignored, ignored_axes
from torch_pruning.importance.base import Scores
from torch_pruning.importance.spread import GroupEntries, OwnEntries, group_entries
from torch_pruning.pruner.sparsify_penalties import Entries, Penalty, squared_norms
from torch_pruning.rules.normalise import batch_norm
from torch_pruning.rules.registry import find_rule
from torch_pruning.trace.substitute import named_tensors


@dataclass(slots=True)
class _Chosen:
    """One group under the penalty. `strengths` are [*lanes, units], so that they can follow either when pruned."""

    group: Group
    entries: GroupEntries
    strengths: Tensor | None = None

    def flat_strengths(self) -> Scores | None:
        return None if self.strengths is None else self.strengths.reshape(self.entries.lanes, self.entries.units)


@dataclass(slots=True)
class _Coordinates:
    """What was worked out for the model as it was after `epoch` plans."""

    epoch: int = -1
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    chosen: list[_Chosen] = field(default_factory=list)


class Regularizer:
    """A penalty on chosen groups of a model. It follows the model when a plan of the same graph is carried out.

    Either call `regularize` between `backward` and `optimizer.step` (after `unscale_`, if gradients are scaled), or add
    `loss` to the loss: both give the same gradients. Parameters that do not require gradients count in the norms of
    their units and are left alone; those that the loss did not reach get the gradient of the penalty.

    `groups`: those to regularise, themselves or their names; all by default. `ignore`: modules, parameter names or
    patterns whose produced axes are left out.

    Raises:
        ValueError: for a group that is not the graph's, or if no group is left.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> graph = tp.build_graph(net, [tp.Example(torch.randn(1, 4))])
    >>> regularizer = tp.Regularizer(graph, tp.GroupNormPenalty(reg=1e-2))
    >>> net(torch.randn(3, 4)).sum().backward()
    >>> regularizer.regularize(net)
    """

    def __init__(
        self,
        graph: Graph,
        penalty: Penalty,
        *,
        groups: Iterable[Group | str] | None = None,
        ignore: Iterable[Ignored] = (),
    ) -> None:
        self.graph = graph
        self.penalty = penalty
        self._scales = batch_norm_scales(graph) if penalty.scales_only else None
        self.groups = [group for group in _chosen_groups(graph, groups, ignore) if self._takes(group)]
        if not self.groups:
            wanted = "no group with a batch norm's scale" if penalty.scales_only else "no group"
            raise ValueError(
                f"sparse training needs at least one group with a parameter, found {wanted} among those chosen: "
                "choose others, or ignore less"
            )
        self._now = _Coordinates()

    def regularize(self, model: nn.Module | None = None) -> None:
        """Add the gradient of the penalty to the `.grad` of every parameter of the chosen groups.

        Raises:
            StalePlanError: if the model's parameters are not those of the graph as it is now.
        """
        with torch.no_grad():
            for chosen, parameters, entries in self._all_entries(model):
                gradients = self.penalty.gradients(chosen.entries, entries, chosen.flat_strengths())
                for index, gradient in gradients.items():
                    part = chosen.entries.parts[index]
                    _add_gradient(parameters[part.tensor], part, gradient)

    def loss(self, model: nn.Module | None = None) -> Tensor:
        """The penalty itself, a scalar in float32 or more, differentiable in the parameters.

        Raises:
            StalePlanError: as `regularize`.
        """
        terms = [
            self.penalty.value(chosen.entries, entries, chosen.flat_strengths())
            for chosen, _, entries in self._all_entries(model)
        ]
        return torch.stack([term.to(terms[0]) for term in terms]).sum()

    def update(self, model: nn.Module | None = None) -> None:
        """One more period of training is over: strengths that grow do so now. Nothing for other penalties.

        Raises:
            StalePlanError: as `regularize`.
        """
        with torch.no_grad():
            for chosen, _, entries in self._all_entries(model):
                strengths = chosen.flat_strengths()
                if chosen.strengths is not None and strengths is not None:
                    grown = self.penalty.grown(strengths, squared_norms(chosen.entries, entries).sqrt())
                    chosen.strengths = grown.reshape(chosen.strengths.shape).to(chosen.strengths)

    def norms(self, model: nn.Module | None = None) -> dict[str, Scores]:
        """The Euclidean norm of every unit of the chosen groups, over what the penalty looks at: [lanes, units].

        Raises:
            StalePlanError: as `regularize`.
        """
        with torch.no_grad():
            return {
                chosen.group.name: squared_norms(chosen.entries, entries).sqrt()
                for chosen, _, entries in self._all_entries(model)
            }

    def state_dict(self) -> dict[str, Tensor]:
        """The strengths that have grown so far, by group name; empty for penalties that keep none."""
        self._coordinates()
        return {c.group.name: c.strengths.clone() for c in self._now.chosen if c.strengths is not None}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from saved strengths.

        Raises:
            ValueError: if groups or shapes differ from the present ones.
        """
        expected = {name: tuple(strengths.shape) for name, strengths in self.state_dict().items()}
        found = {name: tuple(strengths.shape) for name, strengths in state.items()}
        if expected != found:
            raise ValueError(
                f"saved strengths must be those of the groups {expected}, found {found}: load them for the same model, "
                "penalty and choice of groups"
            )
        for chosen in self._now.chosen:
            if chosen.strengths is not None:
                chosen.strengths = state[chosen.group.name].to(chosen.strengths, copy=True)

    # ---- entries

    def _takes(self, group: Group) -> bool:
        return any(self._looks_at(member.tensor) for member in group.members)

    def _looks_at(self, tensor: str) -> bool:
        return tensor in self.graph.parameters and (self._scales is None or tensor in self._scales)

    def _all_entries(self, model: nn.Module | None) -> Iterator[tuple[_Chosen, Mapping[str, Tensor], Entries]]:
        """Every chosen group with the parameters by name, and the entries that the penalty looks at."""
        self._coordinates()
        parameters = self._parameters(self.graph.model if model is None else model)
        for chosen in self._now.chosen:
            entries = {
                index: _widened(part.of(parameters[part.tensor])) for index, part in enumerate(chosen.entries.parts)
            }
            yield chosen, parameters, entries

    def _parameters(self, model: nn.Module) -> dict[str, Tensor]:
        found: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        if not found.keys() >= self._now.shapes.keys():  # parameters in attributes and containers
            found = dict(named_tensors(model))
        for name, shape in self._now.shapes.items():
            if name not in found or tuple(found[name].shape) != shape:
                raise StalePlanError(
                    f"sparse training must see the model of its graph; {name} was to have the shape {list(shape)}, "
                    f"found {list(found[name].shape) if name in found else 'no such parameter'}: carry plans of this "
                    "graph out, or build a new graph and regularizer for the model as it is now"
                )
        return found

    def _coordinates(self) -> None:
        """Follow the graph: after a plan was carried out entries are looked up anew, strengths follow."""
        now, graph = self._now, self.graph
        if now.epoch == graph.epoch:
            return
        strengths = {chosen.group.axis: chosen.strengths for chosen in now.chosen if chosen.strengths is not None}
        for executed in graph.executed[max(now.epoch, 0) :]:
            strengths = {axis: _followed(s, graph.group_of[axis], executed) for axis, s in strengths.items()}
        chosen = [_Chosen(g, self._entries(g), strengths.get(g.axis, self._start(g))) for g in self.groups]
        names = {part.tensor for c in chosen for part in c.entries.parts}
        shapes = {name: tuple(axis.size for axis in graph.axes[name]) for name in names}
        self._now = _Coordinates(graph.epoch, shapes, chosen)

    def _start(self, group: Group) -> Tensor | None:
        if self.penalty.start is None:
            return None
        return torch.full([*(lane.size for lane in group.lanes), group.size], self.penalty.start)

    def _entries(self, group: Group) -> GroupEntries:
        entries = group_entries(group)
        return replace(entries, parts=tuple(part for part in entries.parts if self._looks_at(part.tensor)))


def batch_norm_scales(graph: Graph) -> frozenset[str]:
    """The parameters that some batch norm of the traced runs multiplies by."""
    calls = (call for inferred in graph.programs for call in inferred.calls)
    weights = (
        call.args[1] if len(call.args) > 1 else call.kwargs.get("weight")
        for call in calls
        if find_rule(call.op) is batch_norm
    )
    return frozenset(weight.name for weight in weights if weight is not None and weight.kind == "state")


def _chosen_groups(graph: Graph, groups: Iterable[Group | str] | None, ignore: Iterable[Ignored]) -> list[Group]:
    by_name = {group.name: group for group in graph.groups}
    wanted = list(graph.groups) if groups is None else [by_name.get(g, g) if isinstance(g, str) else g for g in groups]
    for group in wanted:
        if isinstance(group, str) or by_name.get(group.name) is not group:
            raise ValueError(
                f"groups must be those of the graph or their names, such as {list(by_name)[:3]}; found {group!r}: "
                "take them from graph.groups"
            )
    ignored = ignored_axes(graph, ignore)
    return [group for group in wanted if isinstance(group, Group) and group.axis not in ignored]


def _followed(strengths: Tensor, group: Group, executed: Executed) -> Tensor:
    """The strengths of the units that a plan kept: [*lanes, units] before and after."""
    choice = executed.choice
    kept_lanes = [
        choice[lane].rows[()] if lane in choice else tuple(range(size))
        for lane, size in zip(group.lanes, strengths.shape, strict=False)
    ]
    kept = choice.get(group.axis)
    every = tuple(range(strengths.shape[-1]))
    rows = []
    for lanes in product(*kept_lanes):
        position = dict(zip(group.lanes, lanes, strict=True))
        units = every if kept is None else kept.rows[tuple(position[lane] for lane in kept.lanes)]
        rows.append(strengths[lanes][list(units)])
    return torch.stack(rows).reshape([*map(len, kept_lanes), -1])


def _widened(entries: Tensor) -> Tensor:
    """In float32 at least: squares of shorter types overflow, and their sums lose digits."""
    return entries.to(torch.promote_types(entries.dtype, torch.float32))


def _add_gradient(parameter: Tensor, part: OwnEntries, gradient: Tensor) -> None:
    if not parameter.requires_grad:
        return
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    elif parameter.grad.layout != torch.strided:  # the penalty reaches rows that the batch did not
        parameter.grad = parameter.grad.to_dense()
    part.of(parameter.grad).add_(gradient.to(parameter.grad.dtype))
