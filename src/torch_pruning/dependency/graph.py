"""`DependencyGraph`: build it once from a model, then ask what goes with any channels of any layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from torch_pruning.axes.expression import Free, Reason
from torch_pruning.axes.positions import Choice
from torch_pruning.dependency.closure import Asked, require_counts, require_whole_groups, units_behind
from torch_pruning.dependency.flow import Flow
from torch_pruning.dependency.plan import DependencyPlan
from torch_pruning.dependency.rows import Root, write_rows
from torch_pruning.dependency.sides import (
    PruningFunction,
    held_tensor,
    prunes_whole_groups,
    side_meant,
    width_axis,
)
from torch_pruning.errors import PositionError, StalePlanError
from torch_pruning.graph.cost import CostValue, Counts
from torch_pruning.graph.graph import FrozenRow, Graph, build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.graph.ignored import ignored_axes
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.tensors import Positions, kept_positions
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example


class DependencyGraph:
    """Which dimensions of which tensors belong together, and what goes with any of them.

    >>> import torch, torch_pruning
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> graph = torch_pruning.DependencyGraph().build_dependency(net, torch.randn(1, 4))
    >>> plan = graph.get_pruning_plan(net[0], torch_pruning.prune_linear, idxs=[0, 3])
    >>> [(dependency.target.path, idxs) for dependency, idxs in plan.plan]
    [('0', [0, 3]), ('1', [0, 3]), ('2', [0, 3])]
    >>> plan.exec()
    14
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._flows: list[Flow] = []
        self._protected: dict[Free, Reason] = {}

    def build_dependency(
        self,
        model: nn.Module,
        example_inputs: Any,
        forward_fn: Callable[[nn.Module, Any], Any] | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        unwrapped_parameters: Any = None,
        ignored_layers: Iterable[nn.Module] | None = None,
        ignored_params: Iterable[nn.Parameter] | None = None,
        verbose: bool = True,
        unused: str = "freeze",
    ) -> DependencyGraph:
        """Run the model once, without arithmetic, and work out what depends on what; returns the graph itself.

        `example_inputs`: a tensor, a tuple of positional or a dict of keyword arguments. `forward_fn(model, inputs)`
        calls the model otherwise. `output_transform` picks the outputs. `unwrapped_parameters` is accepted and not
        needed: every parameter is found. The outputs of `ignored_layers` and all of `ignored_params` stay. `verbose`
        warns of operators without a rule. `unused="ignore"` is your word that what the example does not reach will
        never run.

        The model and its inputs are not changed. What the model itself raises passes through.
        """
        graph = build_graph(model, [Example(example_inputs, forward_fn, output_transform)], unused)
        protected = _protected_axes(graph, list(ignored_layers or ()), list(ignored_params or ()))
        unruled = graph.ops_without_rule()
        if verbose and unruled:
            ops = ", ".join(f"{op} (at {where})" for op, where in unruled.items())
            warnings.warn(
                f"no rule for {ops}: the axes that enter them are frozen; add one with torch_pruning.register_rule",
                stacklevel=2,
            )
        self._graph, self._protected = graph, protected
        self._flows = [Flow(inferred) for inferred in graph.programs]
        return self

    # ---- what there is

    @property
    def graph(self) -> Graph:
        """The graph of axes underneath. Raises RuntimeError before `build_dependency`."""
        if self._graph is None:
            raise RuntimeError("there is no graph yet: call build_dependency(model, example_inputs) first")
        return self._graph

    @property
    def model(self) -> nn.Module:
        return self.graph.model

    @property
    def groups(self) -> list[Group]:
        """Every set of units that can be pruned, with all tensor dimensions it lies on."""
        return self.graph.groups

    def frozen(self) -> list[FrozenRow]:
        """Every dimension that cannot be pruned, with the op and source line that froze it."""
        return self.graph.frozen()

    def cost(self, counts: Counts | None = None) -> CostValue:
        """Parameters and MACs (of one sample), now or under other counts of units."""
        return self.graph.cost(counts)

    def explain(self, tensor: str) -> str:
        """What each dimension of a tensor is, which groups lie on it, and why it is frozen where it is."""
        return self.graph.explain(tensor)

    # ---- what goes together

    def get_pruning_plan(self, layer: nn.Module, prune_fn: PruningFunction, idxs: Positions) -> DependencyPlan:
        """What goes if positions `idxs` of a layer go, over the whole model; nothing is touched before `exec`.

        `prune_fn` says which width of the layer is meant (`prune_conv` its outputs, `prune_related_conv` its inputs).
        `idxs`: a list, tuple, set, range, tensor or array of positions as they are now; negative ones count from the
        end.

        Raises:
            TypeError: for a function of another kind of layer, or positions that are not integers.
            PositionError: for positions that are out of range, repeated, all there are, or no whole units; the message
                lists the sets that can go.
            FrozenAxisError: if they cannot go at all, with the op and the source line.
            ConstraintError: if other axes would have to follow in number; it names them.
            StalePlanError: if the model was changed by other means since `build_dependency`.
        """
        root = self._root(layer, prune_fn)
        where = f"{root.path} ({prune_fn.__name__})"
        kept = set(kept_positions(root.axis.size, idxs, where).tolist())
        asked = Asked(root.axis, frozenset(range(root.axis.size)) - kept, where)
        if prunes_whole_groups(prune_fn):
            require_whole_groups(asked, layer.groups)  # type: ignore[arg-type]
        return self.plan_of_units(self.graph, root, units_behind(self.graph, asked, self._protected))

    def plan_of_units(self, graph: Graph, root: Root, choice: Choice) -> DependencyPlan:
        """The plan that keeps the given units, with its steps from `root` on."""
        require_counts(graph, choice)
        plan = build_plan(graph, choice)
        entries = {name: getattr(plan, name) for name in Plan.__dataclass_fields__}
        flows = self._flows if graph is self._graph else [Flow(inferred) for inferred in graph.programs]
        rows = write_rows(graph, flows, plan, root)
        return DependencyPlan(**entries, rows=rows, root=root, owner=self, epoch=graph.epoch)

    def _root(self, layer: nn.Module, prune_fn: PruningFunction) -> Root:
        """Where the function's width of this layer lies."""
        graph = self.graph
        path = next((path for path, module in graph.model.named_modules() if module is layer), None)
        if path is None:
            raise ValueError(
                f"the layer must be a module of the model given to build_dependency; found {layer!r}, "
                "which is not in it: take it from the model itself"
            )
        shared = isinstance(layer, nn.PReLU) and layer.num_parameters == 1  # one weight for all channels
        for attribute, dim in side_meant(prune_fn, layer).dims(layer).items():
            held = held_tensor(layer, attribute)
            if held is None or shared:
                continue
            name = _name_in(graph, path, *held)
            axes = graph.axes.get(name)
            sizes = None if axes is None else [axis.size for axis in axes]
            if axes is None or sizes != list(held[1].shape):
                raise StalePlanError(
                    f"{name} must be as it was when the graph was built, {sizes}; found {list(held[1].shape)}: "
                    "the model was changed by other means, call build_dependency again"
                )
            return Root(path, layer, prune_fn, name, dim, width_axis(layer, axes, dim))
        raise PositionError(
            f"the layer must hold a tensor with one entry per channel; found none in {path} ({layer!r}): "
            "prune the layer that makes its input"
        )


def _name_in(graph: Graph, path: str, name: str, tensor: Tensor) -> str:
    """The graph's name of a layer's tensor; one that several layers hold has the name of the first."""
    full = f"{path}.{name}".lstrip(".")
    if full in graph.axes:
        return full
    return next((other for other, found in named_tensors(graph.model) if found is tensor), full)


def _protected_axes(
    graph: Graph, ignored_layers: list[nn.Module], ignored_params: list[nn.Parameter]
) -> dict[Free, Reason]:
    """Axes the user wants left alone, with the reason to give."""
    names: dict[int, str] = {id(tensor): name for name, tensor in named_tensors(graph.model)}
    protected: dict[Free, Reason] = {}
    for layer in ignored_layers:
        for axis in ignored_axes(graph, [layer]):
            protected.setdefault(axis, Reason(f"produced by an ignored layer, {type(layer).__name__}"))
    for parameter in ignored_params:
        name = names.get(id(parameter))
        if not isinstance(parameter, Tensor) or name is None:
            raise ValueError("ignored_params must hold parameters of the model; found one that is not in it")
        for group in graph.groups:
            if any(member.tensor == name for member in group.members):
                protected.setdefault(group.axis, Reason(f"on the ignored parameter {name}"))
    return protected
