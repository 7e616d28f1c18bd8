"""The steps of a plan in dependency order: one row per layer, parameter or operator that carries the positions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from torch_pruning import layers
from torch_pruning.axes.expression import Axis, Free, leaves, product, resolve
from torch_pruning.axes.positions import Choice, kept_positions, lanes_within
from torch_pruning.dependency.flow import Flow, Port, Visit
from torch_pruning.dependency.sides import (
    SIDES,
    PruningFunction,
    attribute_behind,
    group_axis,
    is_of_inputs,
    operator_step,
    prune_buffer,
    prune_parameter,
    step_of,
    width_axis,
)
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import axes_of
from torch_pruning.planning.plan import Plan
from torch_pruning.trace.program import Call

TensorDim = tuple[str, int]
CUSTOMIZED = "torch.customized_layer"


@dataclass(frozen=True, slots=True)
class Node:
    """What a step prunes. `text` is the layer's own repr, the operator, or the shape of a parameter."""

    path: str
    text: str
    module: nn.Module | nn.Parameter | None = None

    @property
    def name(self) -> str:
        return f"{self.path} ({self.text})"


@dataclass(frozen=True, slots=True)
class Dependency:
    """`trigger` was called on `source`; therefore `handler` is called on `target`."""

    trigger: PruningFunction
    handler: PruningFunction
    source: Node
    target: Node

    @property
    def layer(self) -> nn.Module | nn.Parameter | None:
        return self.target.module

    @property
    def pruning_fn(self) -> PruningFunction:
        return self.handler

    def __str__(self) -> str:
        return f"<DEP: {self.trigger.__name__} => {self.handler.__name__} on {self.target.name}>"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Row:
    """One step: positions along the step's dimension, whose axis is `axis`, and the parameter elements that no earlier
    step has removed."""

    dependency: Dependency
    idxs: list[int]
    num_pruned: int
    axis: Axis

    def __str__(self) -> str:
        return f"[ {self.dependency}, Index={self.idxs}, NumPruned={self.num_pruned}]"


@dataclass(frozen=True, slots=True)
class Root:
    """What the user asked for: a function on a layer, on dimension `dim` of `tensor`; `axis` holds all positions."""

    path: str
    layer: nn.Module | nn.Parameter
    function: PruningFunction
    tensor: str
    dim: int
    axis: Axis

    @property
    def node(self) -> Node:
        text = repr(self.layer) if isinstance(self.layer, nn.Module) else f"Parameter of shape {list(self.layer.shape)}"
        return Node(self.path, text, self.layer)


@dataclass(frozen=True, slots=True)
class Going:
    """What goes, as rows show it: `touched` are the axes it lies on, `removed(axis)` the positions of a row, `naming`
    the name of a function in the family of names that is asked for. `plan` counts parameters, where there is one."""

    touched: Collection[Free]
    removed: Callable[[Axis], list[int]]
    naming: Callable[[PruningFunction], PruningFunction]
    plan: Plan | None = None


def going_with(plan: Plan) -> Going:
    """What goes by a plan, under the names of the per-layer functions."""
    assert plan.choice is not None
    choice = plan.choice
    return Going(choice, lambda axis: removed_positions(axis, choice), lambda function: function, plan)


def through_lanes(axis: Axis, choice: Choice) -> Axis:
    """All positions of a row; where those that go differ by lanes that lie elsewhere, they count on through these."""
    own = set(leaves(axis))
    elsewhere = sorted(lanes_within(axis, choice) - own, key=lambda lane: lane.serial)
    return product((*elsewhere, axis))


def removed_positions(axis: Axis, choice: Choice) -> list[int]:
    """The positions that go, ascending."""
    whole = through_lanes(axis, choice)
    kept = set(kept_positions(whole, choice))
    return [position for position in range(whole.size) if position not in kept]


def write_rows(graph: Graph, flows: Sequence[Flow], going: Going, root: Root) -> list[Row]:
    """The rows of what goes, from its root on."""
    writer = _Writer(graph, going, root)
    writer.write_root()
    for flow in flows:
        # A later program (training mode) only adds what the first did not run.
        if writer.open or (flow is flows[0] and writer.affected):
            writer.follow(flow)
    for tensor, dim in list(writer.open):
        writer.step(writer.owner(tensor, dim), tensor, dim, root.function, root.node)
    return writer.rows


def parameter_at(model: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter of that name; None for one that stands in a container."""
    path, _, attribute = name.rpartition(".")
    try:
        return model.get_submodule(path)._parameters.get(attribute)
    except AttributeError:
        return None


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose step a dimension of a tensor belongs to: a function of a layer, or of the tensor alone."""

    path: str
    layer: nn.Module | None
    function: PruningFunction


class _Writer:
    def __init__(self, graph: Graph, going: Going, root: Root) -> None:
        self.graph = graph
        self.going = going
        self.plan = going.plan
        self.touched = going.touched
        self.root = root
        self.rows: list[Row] = []
        self.modules = dict(graph.model.named_modules())
        self.sizes = {} if self.plan is None else {name: list(shape) for name, shape in self.plan.shapes.items()}
        affected = [
            (tensor, dim)
            for tensor, axes in graph.axes.items()
            for dim, axis in enumerate(axes)
            if any(leaf in self.touched for leaf in leaves(axis))
        ]
        # Dimensions that shrink and that no row has named yet, in the model's order.
        self.open: dict[TensorDim, None] = dict.fromkeys(affected)
        self.affected = frozenset(affected)
        # Whole groups of a convolution lie on the other dimension of its weight than the one asked for.
        dims = sorted(range(len(graph.axes.get(root.tensor, ()))), key=lambda dim: dim != root.dim)
        entries = [(root.tensor, dim) for dim in dims] or [(root.tensor, root.dim)]
        self.entry = next((entry for entry in entries if entry in self.affected), entries[0])
        self.affected_layers = {owner.path for owner in (self.owner(*entry) for entry in affected) if owner.layer}
        self.operators: set[tuple[Any, ...]] = set()
        self.listed: set[int] = set()
        self.positions: dict[str, list[int]] = {}

    # ---- walking

    def write_root(self) -> None:
        """The first row: what the user called, on the layer the user named."""
        root = self.root
        mine = self.owner(*self.entry) if root.tensor else None
        covered = [entry for entry in self.open if self.owner(*entry) == mine]
        self._write(Dependency(root.function, root.function, root.node, root.node), root.axis, covered)

    def follow(self, flow: Flow) -> None:
        """Rows for everything that carries the positions in one program."""
        axes: dict[int, tuple[bool, ...]] = {}

        def affected(port: Port) -> bool:
            index, dim = port
            if index not in axes:
                found = axes_of(flow.values[index], flow.inferred, self.graph.axes)
                axes[index] = tuple(any(leaf in self.touched for leaf in leaves(axis)) for axis in found)
            return axes[index][dim]

        earlier = set(self.operators)
        steps: dict[Visit | None, tuple[PruningFunction, Node]] = {None: (self.root.function, self.root.node)}
        for visit in flow.walk(self._starts(flow), affected):
            steps[visit] = self._visit(visit, flow, *steps[visit.reached_from], earlier)

    def _starts(self, flow: Flow) -> Iterator[tuple[Call, Port]]:
        """The root, then whatever no path from it has reached."""
        state = flow.inferred.program.state
        for call in flow.inferred.calls:
            if not self.root.tensor and call.op == CUSTOMIZED and call.args[2] == self.root.path:
                end = call.inputs()[0] if is_of_inputs(self.root.function) else call.results()[0]
                axes = axes_of(end, flow.inferred, self.graph.axes)
                yield from ((call, (end.index, dim)) for dim, axis in enumerate(axes) if axis is self.root.axis)
        for tensor, dim in [self.entry, *self.open]:
            value = state.get(tensor)
            if value is None or ((tensor, dim) != self.entry and (tensor, dim) not in self.open):
                continue
            for call in flow.users.get(value.index, ())[:1]:
                yield call, (value.index, dim)

    def _visit(
        self, visit: Visit, flow: Flow, trigger: PruningFunction, source: Node, earlier: set[tuple[Any, ...]]
    ) -> tuple[PruningFunction, Node]:
        """Rows for one call; returns what the rows reached from it are triggered by."""
        state = [(flow.values[i].name, dim) for i, dim in visit.ports if flow.values[i].kind == "state"]
        owners = {entry: self.owner(*entry) for entry in state if entry[0] in self.graph.axes}
        inside = self._layer_of(visit.call.where.module)
        step = (trigger, source)
        if visit.call.op == CUSTOMIZED:
            step = self._customized(visit, flow, trigger, source)
        elif not inside and (not owners or any(owner.layer is None for owner in owners.values())):
            step = self._operator(visit, flow, trigger, source, earlier)
            trigger, source = step
        elif owners:
            first = next(iter(owners.values()))
            step = (first.function, self._node(first))
            if first == self.owner(*self.entry):
                step = (self.root.function, self.root.node)
        for (tensor, dim), owner in owners.items():
            if (tensor, dim) in self.open:
                self.step(owner, tensor, dim, trigger, source)
        return step

    def _layer_of(self, path: str) -> bool:
        """Whether calls of this module are part of a layer's own row, its parametrizations included."""
        return path.partition(".parametrizations")[0] in self.affected_layers

    # ---- rows

    def owner(self, tensor: str, dim: int) -> _Owner:
        """The layer that holds the tensor, if it is of a known kind, and the function for this dimension."""
        path, _, name = tensor.rpartition(".")
        if ".parametrizations." in f".{path}.":
            path, _, rest = f".{path}.".partition(".parametrizations.")
            path, name = path.strip("."), f"parametrizations.{rest}{name}"
        layer = self.modules.get(path)
        function = step_of(layer, attribute_behind(name), dim) if layer is not None else None
        if layer is None or function is None:
            return _Owner(tensor, None, prune_parameter if tensor in self.graph.parameters else prune_buffer)
        if isinstance(layer, _ConvNd) and layer.groups > 1 and dim == 0:
            groups = group_axis(self.graph.axes[tensor], layer.groups)
            if any(leaf in self.touched for leaf in leaves(groups)):
                function = layers.prune_group_conv
        return _Owner(path, layer, function)

    def step(self, owner: _Owner, tensor: str, dim: int, trigger: PruningFunction, source: Node) -> None:
        """A row for everything of this owner that is still open."""
        if owner.layer is None:
            covered = [entry for entry in self.open if entry == (tensor, dim)]
        else:
            covered = [entry for entry in self.open if self.owner(*entry) == owner]
        dependency = Dependency(trigger, owner.function, source, self._node(owner))
        self._write(dependency, self._axis(owner, tensor, dim), covered)

    def _operator(
        self, visit: Visit, flow: Flow, trigger: PruningFunction, source: Node, earlier: set[tuple[Any, ...]]
    ) -> tuple[PruningFunction, Node]:
        """A row for an operator that only passes the positions on."""
        call = visit.call
        op = ".".join(call.op.split(".")[:2])
        base = op.split(".")[1]
        handler = operator_step(base.strip("_") or base)
        node = Node(call.where.module or type(self.graph.model).__name__, op)
        key = (call.op, call.where)
        self.operators.add(key)
        # A call is reached again where it carries several axes at once, heads and what lies within them.
        if key not in earlier and id(call) not in self.listed:
            self.listed.add(id(call))
            results = {value.index for value in call.results()}
            index, dim = next((port for port in visit.ports if port[0] in results), visit.ports[0])
            axis = axes_of(flow.values[index], flow.inferred, self.graph.axes)[dim]
            self._write(Dependency(trigger, handler, source, node), axis, [])
        return handler, node

    def _customized(
        self, visit: Visit, flow: Flow, trigger: PruningFunction, source: Node
    ) -> tuple[PruningFunction, Node]:
        """A row for a layer that its user prunes, under the user's function."""
        path = visit.call.args[2]
        layer = self.modules[path]
        assert self.graph.example.customized is not None
        pruner = self.graph.example.customized.pruners[path]
        call = self.graph.customized[path]
        results = {value.index for value in visit.call.results()}
        outputs = call.coupled or any(index in results for index, _ in visit.ports)
        handler = pruner.prune_out_channels if outputs else pruner.prune_in_channels
        node = Node(path, repr(layer), layer)
        if path != self.root.path and (path, outputs) not in self.operators:
            self.operators.add((path, outputs))
            axis = resolve(call.leaving if outputs else call.entering)
            cuts = () if self.plan is None else self.plan.customized
            removed = sum(cut.removed for cut in cuts if (cut.path, cut.outputs) == (path, outputs))
            self._row(Dependency(trigger, handler, source, node), axis, removed)
        return handler, node

    def _write(self, dependency: Dependency, axis: Axis, covered: Sequence[TensorDim]) -> None:
        self._row(dependency, axis, sum([self._shrink(tensor, dim) for tensor, dim in covered]))

    def _row(self, dependency: Dependency, axis: Axis, num_pruned: int) -> None:
        name = self.going.naming
        named = replace(dependency, trigger=name(dependency.trigger), handler=name(dependency.handler))
        self.rows.append(Row(named, self._removed(axis), num_pruned, axis))

    def _shrink(self, tensor: str, dim: int) -> int:
        """Count one dimension of a tensor as pruned: the elements that are left, less those that stay."""
        del self.open[tensor, dim]
        if self.plan is None:
            return 0
        block = self.plan.blocks.get(tensor)
        in_block = block is not None and block.dim == dim
        kept = len(block.kept[0]) if block is not None and in_block else len(self.plan.kept[tensor][dim])
        sizes = self.sizes[tensor]
        others = 1
        for other, size in enumerate(sizes):
            others *= 1 if other == dim else size
        removed = others * (sizes[dim] - kept)
        sizes[dim] = kept
        return removed if tensor in self.graph.parameters else 0

    def _removed(self, axis: Axis) -> list[int]:
        key = repr(product((axis,))) + "/" + ",".join(str(leaf.serial) for leaf in leaves(axis))
        if key not in self.positions:
            self.positions[key] = self.going.removed(axis)
        return list(self.positions[key])

    def _node(self, owner: _Owner) -> Node:
        if owner.layer is not None:
            return Node(owner.path, repr(owner.layer), owner.layer)
        is_parameter = owner.path in self.graph.parameters
        text = f"{'Parameter' if is_parameter else 'Tensor'} of shape {[a.size for a in self.graph.axes[owner.path]]}"
        return Node(owner.path, text, parameter_at(self.graph.model, owner.path) if is_parameter else None)

    def _axis(self, owner: _Owner, tensor: str, dim: int) -> Axis:
        """All positions of the dimension that a row counts on: as the row's function takes them."""
        if owner.layer is None:
            return self.graph.axes[tensor][dim]
        prefix = f"{owner.path}." if owner.path else ""
        for side in SIDES:
            if side.function is owner.function:
                for attribute, own_dim in side.dims(owner.layer).items():
                    axes = self.graph.axes.get(prefix + attribute)
                    if axes is not None and (prefix + attribute, own_dim) in self.affected:
                        return width_axis(owner.layer, axes, own_dim)
        return width_axis(owner.layer, self.graph.axes[tensor], dim)
