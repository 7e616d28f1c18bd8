"""`DependencyGraph`: build it once from a model, then ask what goes with any channels of any layer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from torch_pruning.axes.expression import Free, Reason, leaves
from torch_pruning.axes.positions import Choice
from torch_pruning.dependency.closure import Asked, require_counts, require_whole_groups, units_behind
from torch_pruning.dependency.customized import customized_layers, pruner_of
from torch_pruning.dependency.flow import Flow
from torch_pruning.dependency.group import PruningGroup
from torch_pruning.dependency.history import History, entry_of, replay, units_entry
from torch_pruning.dependency.plan import DependencyPlan, since
from torch_pruning.dependency.roots import find_root
from torch_pruning.dependency.rows import Node, Root, going_with, removed_positions, write_rows
from torch_pruning.dependency.sides import (
    PruningFunction,
    function_of,
    is_of_inputs,
    is_of_outputs,
    prunes_whole_groups,
    width_of,
)
from torch_pruning.errors import PositionError, PruningError
from torch_pruning.graph.cost import CostValue, Counts
from torch_pruning.graph.graph import FrozenRow, Graph, build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.graph.ignored import ignored_axes
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.tensors import Positions, given_positions, kept_positions
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
        self.flows: list[Flow] = []
        self._protected: dict[Free, Reason] = {}
        self._parameter_dims: dict[int, int] = {}
        self._history: History = []
        self._registered: dict[Any, Any] = {}

    def build_dependency(
        self,
        model: nn.Module,
        example_inputs: Any,
        forward_fn: Callable[[nn.Module, Any], Any] | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        unwrapped_parameters: Any = None,
        customized_pruners: Mapping[Any, Any] | None = None,
        ignored_layers: Iterable[nn.Module] | None = None,
        ignored_params: Iterable[nn.Parameter] | None = None,
        verbose: bool = True,
        unused: str = "freeze",
    ) -> DependencyGraph:
        """Run the model once, without arithmetic, and work out what depends on what; returns the graph itself.

        `example_inputs`: a tensor, a tuple of positional or a dict of keyword arguments. `forward_fn(model, inputs)`
        calls the model otherwise. `output_transform` picks the outputs. `unwrapped_parameters`, {parameter: dim}, is
        accepted and not needed: every parameter is found. It says which dimension `prune_parameter_out_channels` means
        for a Parameter, the last otherwise. `customized_pruners`, {type of layer or layer: pruner}: as
        `register_customized_layer` says. The outputs of `ignored_layers` and all of `ignored_params` stay. `verbose`
        warns of operators without a rule. `unused="ignore"` is your word that what the example does not reach will
        never run.

        The model and its inputs are not changed. What the model itself raises passes through.
        """
        customized = customized_layers(model, {**self._registered, **(customized_pruners or {})})
        graph = build_graph(model, [Example(example_inputs, forward_fn, output_transform, customized)], unused)
        protected = _protected_axes(graph, list(ignored_layers or ()), list(ignored_params or ()))
        unruled = graph.ops_without_rule()
        if verbose and unruled:
            ops = ", ".join(f"{op} (at {where})" for op, where in unruled.items())
            warnings.warn(
                f"no rule for {ops}: the axes that enter them are frozen; add one with torch_pruning.register_rule",
                stacklevel=2,
            )
        self._graph, self._protected = graph, protected
        self._parameter_dims = _dims_of_parameters(unwrapped_parameters)
        self._history = []
        self.flows = [Flow(inferred) for inferred in graph.programs]
        return self

    def register_customized_layer(self, layer_type_or_instance: Any, layer_pruner: Any) -> None:
        """Have layers of this type (or this layer) pruned by a `BasePruningFunc` of yours; before `build_dependency`.

        The layer counts as one operation on one width, whatever runs inside. Its pruner says how wide its two sides
        are, and, by having one function for both, that channels go through it one by one. Groups with such a layer are
        not called exact: what the layer computes is known to its pruner only.
        """
        self._registered[layer_type_or_instance] = layer_pruner

    def function_of(self, layer: Any, outputs: bool) -> PruningFunction | None:
        """The function that prunes the outputs (or inputs) of a layer, a user's own first; None for an unknown kind."""
        pruner = pruner_of(self.graph, layer)
        if pruner is None:
            return function_of(layer, outputs)
        function: PruningFunction = pruner.prune_out_channels if outputs else pruner.prune_in_channels
        return function

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
        root = self.root(layer, prune_fn)
        where = f"{root.path} ({prune_fn.__name__})"
        kept = set(kept_positions(root.axis.size, idxs, where).tolist())
        return self.plan_of_units(root, self._units(root, set(range(root.axis.size)) - kept, outputs=False))

    def _units(self, root: Root, gone: set[int], outputs: bool) -> Choice:
        """The units whose removal removes these positions of the root."""
        asked = Asked(root.axis, frozenset(gone), f"{root.path} ({root.function.__name__})", outputs)
        if prunes_whole_groups(root.function):
            require_whole_groups(asked, root.layer.groups)  # type: ignore[union-attr,arg-type]
        return units_behind(self.graph, asked, self._protected)

    def plan_of_units(self, root: Root, choice: Choice, rows: bool = True) -> DependencyPlan:
        """The plan that keeps the given units, with its steps from `root` on (without, if no `rows` are wanted)."""
        graph = self.graph
        require_counts(graph, choice)
        plan = build_plan(graph, choice)
        entries = {name: getattr(plan, name) for name in Plan.__dataclass_fields__}
        steps = write_rows(graph, self.flows, going_with(plan), root) if rows else []
        return DependencyPlan(**entries, rows=steps, root=root, owner=self, epoch=graph.epoch)

    # ---- groups, under the names of Torch-Pruning 1.x

    def get_pruning_group(self, module: Any, pruning_fn: PruningFunction, idxs: Positions) -> PruningGroup:
        """What goes if positions `idxs` of a layer (or of a Parameter without a layer) go, row by row.

        All positions may be given: such a group describes the whole width, for scores, say. Other than in
        `get_pruning_plan` the width may be one of the model's outputs, which then shrink.

        Raises:
            as `get_pruning_plan`.
        """
        root = self.root(module, pruning_fn)
        gone = given_positions(root.axis.size, idxs, f"{root.path} ({pruning_fn.__name__})")
        whole = len(gone) == root.axis.size
        choice = None if whole else self._units(root, gone, outputs=True)
        if choice is not None:
            require_counts(self.graph, choice)
        return PruningGroup(self, root, sorted(gone), choice, self.protection(root))

    def group_of_units(self, root: Root, choice: Choice | None) -> PruningGroup:
        """The group that keeps the given units; None stands for all positions of the root, to choose from."""
        gone = range(root.axis.size) if choice is None else removed_positions(root.axis, choice)
        return PruningGroup(self, root, list(gone), choice, self.protection(root))

    def get_all_groups(
        self,
        ignored_layers: Iterable[nn.Module] = (),
        root_module_types: Iterable[type] = (_ConvNd, nn.Linear),
    ) -> Iterator[PruningGroup]:
        """Every width that layers of these types produce, from the model's output to its input, each once.

        Groups hold all positions: prune some with `group.prune(idxs)`. What the next group is, is worked out after the
        last one was pruned. Groups with outputs of an ignored layer are left out.
        """
        ignored = list(ignored_layers)
        left_alone = ignored_axes(self.graph, ignored)
        own = {id(inner) for layer in ignored for inner in layer.modules()}
        seen: set[Free] = set()
        for layer in self.layers_from_the_end(tuple(root_module_types)):
            function = self.function_of(layer, outputs=True)
            if function is None or id(layer) in own:
                continue
            root = self.root(layer, function)
            axes = set(leaves(root.axis))
            if axes and axes <= seen:
                continue
            seen |= axes
            if not axes & left_alone:
                yield self.group_of_units(root, None)

    def check_pruning_group(self, group: PruningGroup) -> bool:
        """Whether `group.prune()` can be carried out: something stays of everything, and no count speaks against it."""
        if group.choice is None:
            return False
        try:
            group.owner.plan_of_group(group, None)
        except PruningError:
            return False
        return True

    def plan_of_group(self, group: PruningGroup, idxs: Positions | None) -> DependencyPlan:
        """The plan that `group.prune(idxs)` carries out."""
        if idxs is not None:
            root = self.root(group.root.layer, group.root.function)
            where = f"{root.path} ({root.function.__name__})"
            gone = set(range(root.axis.size)) - set(kept_positions(root.axis.size, idxs, where).tolist())
            return self.plan_of_units(root, self._units(root, gone, outputs=True), rows=False)
        if group.choice is None:
            raise PositionError(
                f"at least one position must stay; found a group of all {len(group.idxs)} of {group.root.path}: "
                "say which ones go, group.prune(idxs)"
            )
        return self.plan_of_units(group.root, since(group.choice, self.graph, group.epoch, group.root), rows=False)

    def prune_group(self, group: PruningGroup, idxs: Positions | None, record_history: bool, optimizer: Any) -> int:
        """Carry `group.prune` out; see there."""
        plan = self.plan_of_group(group, idxs)
        assert plan.choice is not None
        entry = entry_of(self, group.root, plan.choice) if record_history else None
        removed = plan.exec(optimizer)
        if entry is not None:
            self._history.append(entry)
        return removed

    def exec_units(self, choice: Choice, optimizer: Any = None, record_history: bool = False) -> int:
        """Prune to the given units, whatever groups they belong to; returns the number of parameters removed."""
        entry = units_entry(self, choice) if record_history else None
        removed = build_plan(self.graph, choice).exec(optimizer)
        if entry is not None:
            self._history.append(entry)
        return removed

    def protection(self, root: Root) -> str | None:
        """Why pruners leave a width alone: it is frozen, ignored, or a single unit. None if they do not."""
        if root.axis.size < 2:
            return "a single unit"
        units = dict.fromkeys(leaves(root.axis))
        reasons = [leaf.reason or self._protected.get(leaf) for leaf in units]
        if all(reason is not None for reason in reasons):
            return str(reasons[0]) if reasons else "never pruned: made outside of the model's layers"
        return None

    def pruning_history(self) -> History:
        """What groups were pruned so far, as plain data: replay it on a fresh model with `load_pruning_history`."""
        return copy.deepcopy(self._history)

    def load_pruning_history(self, pruning_history: History) -> None:
        """Prune the model as the history says; nothing in it is executed. A failure leaves the steps before it done.

        Raises:
            ValueError: for an entry of another form, or a layer that the model does not have.
        """
        for entry in pruning_history:
            replay(self, entry)
            self._history.append(copy.deepcopy(entry))

    def get_out_channels(self, module: Any) -> int:
        """How many output channels a layer has now; of a Parameter, the size of its pruned dimension."""
        return self._width(module, outputs=True)

    def get_in_channels(self, module: Any) -> int:
        """How many input channels a layer has now; of a Parameter, the size of its pruned dimension."""
        return self._width(module, outputs=False)

    def _width(self, module: Any, outputs: bool) -> int:
        module = getattr(module, "module", module) if isinstance(module, Node) else module
        if isinstance(module, nn.Parameter):
            return int(module.shape[self._parameter_dims.get(id(module), -1)])
        pruner = None if self._graph is None else pruner_of(self._graph, module)
        if pruner is not None:
            return int(pruner.get_out_channels(module) if outputs else pruner.get_in_channels(module))
        return width_of(module, outputs)

    def is_out_channel_pruning_fn(self, fn: PruningFunction) -> bool:
        """Whether the function prunes outputs; those of norms and other layers of one width do."""
        return is_of_outputs(fn)

    def is_in_channel_pruning_fn(self, fn: PruningFunction) -> bool:
        """Whether the function prunes inputs of a layer whose outputs are another width."""
        return is_of_inputs(fn)

    @property
    def module2node(self) -> dict[Any, Node]:
        """Every layer that has channels, and every Parameter without a layer, as rows name it."""
        model = self.graph.model
        nodes: dict[Any, Node] = {
            layer: Node(path, repr(layer), layer)
            for path, layer in model.named_modules()
            if self.function_of(layer, outputs=True) is not None
        }
        for name, parameter in model.named_parameters():
            path = name.rpartition(".")[0]
            if function_of(model.get_submodule(path), outputs=True) is None:
                nodes[parameter] = Node(name, f"Parameter of shape {list(parameter.shape)}", parameter)
        return nodes

    def layers_from_the_end(self, kinds: tuple[type, ...]) -> list[nn.Module]:
        """The layers of these kinds that ran, the last first."""
        when: dict[str, int] = {}
        for flow in reversed(self.flows):
            for position, call in enumerate(flow.inferred.calls):
                for value in call.inputs():
                    if value.kind == "state":
                        when[value.name.partition(".parametrizations")[0].rpartition(".")[0]] = position
                        when[value.name.partition(".parametrizations")[0]] = position
        ran: list[tuple[str, nn.Module]] = [entry for entry in self.model.named_modules() if entry[0] in when]
        return [layer for path, layer in sorted(ran, key=lambda entry: -when[entry[0]]) if isinstance(layer, kinds)]

    def root(self, layer: Any, prune_fn: PruningFunction) -> Root:
        """Where the function's width of this layer lies."""
        return find_root(self.graph, layer, prune_fn, self._parameter_dims)


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


def _dims_of_parameters(unwrapped: Any) -> dict[int, int]:
    """The dimension that the user named for each Parameter, by identity."""
    pairs = unwrapped.items() if isinstance(unwrapped, Mapping) else unwrapped or ()
    return {id(parameter): int(dim) for parameter, dim in pairs}
