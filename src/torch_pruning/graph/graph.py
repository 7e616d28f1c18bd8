"""The graph of a model: everything that one or several traces say about its axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torch_pruning.axes.expression import Axis, Free, Reason, freeze, leaves, resolve
from torch_pruning.axes.positions import Choice
from torch_pruning.axes.unify import unify
from torch_pruning.graph.clusters import Cluster, Clusters, find_clusters
from torch_pruning.graph.constraints import Constraints, CountConstraint, collect, refreeze
from torch_pruning.graph.cost import CostModel, CostValue, cost_model
from torch_pruning.graph.counts import Counts, counted
from torch_pruning.graph.groups import Group, Member, find_groups
from torch_pruning.graph.guards import GuardCheck, broken_guards
from torch_pruning.graph.homes import find_homes
from torch_pruning.graph.infer import Inferred, infer, state_axes
from torch_pruning.graph.lanes import find_lanes
from torch_pruning.graph.marks import find_all_marks
from torch_pruning.graph.repair import Repair
from torch_pruning.graph.settle import settle
from torch_pruning.graph.unused import follow_copies, freeze_unread_parts, freeze_unused
from torch_pruning.rules.call import PRODUCED
from torch_pruning.rules.facts import CustomizedCall
from torch_pruning.trace.collector import collector_paused
from torch_pruning.trace.program import Program, Turn
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example, trace_modes


@dataclass(frozen=True, slots=True)
class FrozenRow:
    """One dimension of one tensor that cannot be pruned (or of which `axis` cannot), and why."""

    tensor: str
    dim: int
    size: int
    reason: str
    where: Any

    @property
    def source_line(self) -> str:
        return str(self.where) if self.where is not None else ""


@dataclass(frozen=True, slots=True)
class Executed:
    """One plan that was carried out: what each axis kept, and how many units it had before."""

    choice: Choice
    sizes: Mapping[Free, int]


@dataclass(slots=True)
class Graph:
    """Axes of every tensor of a model, and what follows from them. Built by `build_graph`."""

    model: nn.Module
    example: Example
    axes: dict[str, tuple[Axis, ...]]
    programs: list[Inferred]
    constraints: Constraints
    groups: list[Group]
    clusters: list[Cluster]
    held: dict[Free, CountConstraint]
    cost_of: CostModel
    parameters: frozenset[str]
    attention_layers: frozenset[str] = frozenset()
    repairs: list[Repair] = field(default_factory=list)
    repaired: frozenset[Turn] = frozenset()  # the calls whose numbers the repairs set right
    executed: list[Executed] = field(default_factory=list)
    group_of: dict[Free, Group] = field(default_factory=dict)
    # What plans have made of the numbers that the traces saw, by module: they are compared with the run after the next.
    numbers: dict[tuple[str, float], float] = field(default_factory=dict)
    outdated: bool = False  # blocks were removed, so that names mean other layers now

    @property
    def customized(self) -> dict[str, CustomizedCall]:
        """The layers that their users prune, by path."""
        found: dict[str, CustomizedCall] = {}
        for program in reversed(self.programs):
            found.update(program.facts.customized)
        return found

    @property
    def epoch(self) -> int:
        """How many plans have been carried out; positions are those after the last of them."""
        return len(self.executed)

    def cost(self, counts: Counts | None = None) -> CostValue:
        """Parameters and MACs (of one sample) under these counts of free axes; absent ones keep all units."""
        return self.cost_of(counts)

    def broken_guards(self, counts: Counts) -> list[GuardCheck]:
        """The comparisons in the model's code that would come out differently under these counts."""
        constraints = self.constraints
        return broken_guards(
            constraints.guards, self.axes, constraints.definitions, constraints.attribute_values, counts
        )

    def defines_integers(self, counts: Counts) -> bool:
        """Whether every attribute that sizes define stays whole: `4 * self.quarter == |C|` needs multiples of 4."""
        return all(
            definition.polynomial.evaluate(counted(counts)) % definition.divisor == 0
            for definition in self.constraints.definitions.values()
            if definition.divisor != 1
        )

    def looks_at(self, axes: Iterable[Free]) -> bool:
        """Whether a comparison, or an attribute that a size divides, depends on the counts of any of these axes."""
        wanted = set(axes)
        constraints = self.constraints
        divided = (d.polynomial.symbols for d in constraints.definitions.values() if d.divisor != 1)
        return any(not wanted.isdisjoint(check.axes) for check in constraints.guards) or any(
            not wanted.isdisjoint(symbols) for symbols in divided
        )

    def clusters_following(self, follow: str) -> list[Cluster]:
        """The clusters when "head_dims" or "heads" follow a width that the code ties to heads x head dim.

        Raises:
            ValueError: for another word.
        """
        if follow not in ("head_dims", "heads"):
            raise ValueError(f"follow must be 'head_dims' or 'heads', found {follow!r}")
        if follow == "head_dims":
            return self.clusters
        return find_clusters([group.axis for group in self.groups], self.constraints.counts, lead="outer").clusters

    def adopt(self, name: str, axis: Axis) -> Callable[[], None]:
        """Take in a parameter of one dimension that the model got after the trace; returns what undoes it."""
        before = self.cost_of, self.parameters, {group: group.members for group in self.groups}
        self.axes[name] = (axis,)
        self.parameters |= {name}
        for leaf in dict.fromkeys(leaves(axis)):
            if leaf in self.group_of:
                self.group_of[leaf].members += (Member(name, 0, axis, PRODUCED, (axis,)),)
        facts, program = self.programs[0].facts, self.programs[0].program
        self.cost_of = cost_model((self.axes[name] for name in self.parameters), facts.costs, _batch(program))

        def undo() -> None:
            del self.axes[name]
            self.cost_of, self.parameters, members = before
            for group, old in members.items():
                group.members = old

        return undo

    def withhold(self, axes: Iterable[Free], reason: Reason) -> None:
        """Freeze axes after all, and those that must keep in step with them."""
        given = set(axes)
        tied = [cluster for cluster in self.clusters if given.intersection(cluster.axes)]
        for axis in given.union(*(cluster.axes for cluster in tied)):
            axis.reason = axis.reason or reason
        self.clusters = [cluster for cluster in self.clusters if cluster not in tied]
        self.groups = [group for group in self.groups if group.axis.reason is None]
        self.group_of = {group.axis: group for group in self.groups}

    def frozen(self) -> list[FrozenRow]:
        """Every dimension (size above 1) that cannot be pruned, with the op and source line that froze it."""
        rows = []
        for tensor, axes in self.axes.items():
            for dim, axis in enumerate(axes):
                for leaf in dict.fromkeys(leaves(axis)):
                    if leaf.reason is not None:
                        rows.append(FrozenRow(tensor, dim, leaf.size, leaf.reason.text, leaf.reason.where))
        return rows

    def explain(self, tensor: str) -> str:
        """What each dimension of a tensor is, which groups lie on it, and why it is frozen where it is.

        Raises:
            KeyError: if the model has no such tensor.
        """
        if tensor not in self.axes:
            close = [name for name in self.axes if name.endswith(tensor.rpartition(".")[2])][:5]
            raise KeyError(f"the model has no tensor {tensor!r}; names are those of named_parameters, such as {close}")
        lines = [f"{tensor} {[axis.size for axis in self.axes[tensor]]}"]
        for dim, axis in enumerate(self.axes[tensor]):
            lines.append(f"  dim {dim}: {axis!r}")
            for leaf in dict.fromkeys(leaves(axis)):
                group = self.group_of.get(leaf)
                if leaf.reason is not None:
                    lines.append(f"    {leaf.size} frozen: {leaf.reason}")
                elif group is not None:
                    lines.append(f"    {group!r}")
        return "\n".join(lines)

    def ops_without_rule(self) -> dict[str, Any]:
        """Ops that no rule covers, with where each was first met. Their axes are frozen."""
        return {op: where for inferred in reversed(self.programs) for op, where in inferred.unruled.items()}


@collector_paused()
def build_graph(
    model: nn.Module, examples: Sequence[Example], unused: str = "freeze", modes: Sequence[str] = ("eval", "train")
) -> Graph:
    """Trace the model with every example, in evaluation and in training mode, into one graph.

    Raises:
        Exception: whatever the model itself raises, unchanged.
        TypeError: for something else than a module.
        ValueError: if `unused` is neither "freeze" nor "ignore".
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"a model must be a torch.nn.Module, found {type(model).__name__}: a function goes into the forward of "
            "one, a state dict is loaded into one"
        )
    if unused not in ("freeze", "ignore"):
        raise ValueError(f"unused must be 'freeze' or 'ignore', found {unused!r}")
    programs: list[Program] = [program for example in examples for program in trace_modes(model, example, modes)]
    tensors = dict(named_tensors(model))
    of_state = state_axes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    _share_storage(tensors, of_state)
    inferred = [infer(program, of_state) for program in programs]
    _only_stock_attention(model, inferred)
    copies = follow_copies(inferred, tensors, of_state)
    settle(inferred, of_state)
    homes = find_homes(model, inferred, of_state) if unused == "freeze" else None
    freeze_unused(inferred, of_state, homes, copies)
    freeze_unread_parts(inferred, of_state)
    constraints = collect(inferred, of_state)
    refreeze(constraints)
    free = list(
        dict.fromkeys(
            leaf for axes in of_state.values() for axis in axes for leaf in leaves(axis) if leaf.reason is None
        )
    )
    clusters = _scalable(free, constraints)
    for name, axes in of_state.items():
        of_state[name] = tuple(map(resolve, axes))
    marks, repairs, repaired = find_all_marks(inferred, of_state, constraints, dict(model.named_modules()))
    lanes = find_lanes(inferred, of_state)
    roles = [role for program in inferred for role in program.facts.roles]
    groups = find_groups(of_state, roles, marks, lanes, constraints.at_least_two)
    parameters = frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter))
    cost = cost_model(
        (of_state[name] for name in tensors if name in parameters), inferred[0].facts.costs, _batch(inferred[0].program)
    )
    graph = Graph(
        model, examples[0], of_state, inferred, constraints, groups, clusters.clusters, clusters.held, cost, parameters
    )
    graph.attention_layers = frozenset(path for program in inferred for path in program.facts.replaced_modules)
    graph.group_of = {group.axis: group for group in groups}
    graph.repairs, graph.repaired = repairs, repaired
    _name_ties(graph)
    return graph


def _share_storage(tensors: Mapping[str, torch.Tensor], of_state: Mapping[str, tuple[Axis, ...]]) -> None:
    """Tensors on one storage: the same view is the same tensor; overlapping views freeze."""
    by_storage: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel():
            by_storage.setdefault(tensor.untyped_storage()._cdata, []).append(name)
    for names in by_storage.values():
        for a, b in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
            x, y = tensors[a], tensors[b]
            reason = Reason(f"{a} and {b} share memory")
            if (x.shape, x.stride(), x.storage_offset()) == (y.shape, y.stride(), y.storage_offset()):
                for left, right in zip(of_state[a], of_state[b], strict=True):
                    unify(left, right, reason)
            else:
                for axis in (*of_state[a], *of_state[b]):
                    freeze(axis, reason)


def _scalable(free: Sequence[Free], constraints: Constraints) -> Clusters:
    """Clusters of all axes; what no scaling keeps true freezes the axes it names, and holds the others to numbers."""
    found = find_clusters(free, constraints.counts)
    while found.unmet:
        for constraint in found.unmet:
            for symbol in constraint.polynomial.symbols:
                assert isinstance(symbol, Free)
                symbol.reason = symbol.reason or Reason(f"the code needs {constraint}", constraint.where)
        refreeze(constraints)
        found = find_clusters(free, constraints.counts)
    return found


def _only_stock_attention(model: nn.Module, inferred: Sequence[Inferred]) -> None:
    """Surgery can lift the constraints of `nn.MultiheadAttention` itself, but not of other callers of its function."""
    for program in inferred:
        for path, axes in program.facts.replaced_modules.items():
            if type(model.get_submodule(path)) is not nn.MultiheadAttention:
                for axis in axes:
                    freeze(axis, Reason(f"{path or 'the model'} calls multi_head_attention_forward by itself"))


def _batch(program: Program) -> int:
    """Size of dim 0 if all inputs share it, else 1."""
    sizes = {value.shape[0] for value in program.inputs if value.shape}
    return sizes.pop() if len(sizes) == 1 else 1


def _name_ties(graph: Graph) -> None:
    for cluster in graph.clusters:
        names = [graph.group_of[axis].name for axis in cluster.axes if axis in graph.group_of]
        for axis in cluster.axes:
            if axis in graph.group_of:
                group = graph.group_of[axis]
                group.tied = [name for name in names if name != group.name]
