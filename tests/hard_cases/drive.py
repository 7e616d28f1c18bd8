"""What every hard case goes through: its groups are as stated, random plans equal masking, the pruned model trains on.

A case states *all* groups of its model, so an engine that freezes too much fails as surely as one that couples wrongly.
"""

from __future__ import annotations

import contextlib
import copy
import linecache
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.errors import BudgetError
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.importance.weight import RandomImportance
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.verify import TOLERANCE, verify
from torch_pruning.pruner.allot import Rounding, admissible_steps, choose_units, keeping_guards, random_choice
from torch_pruning.pruner.plan import plan
from torch_pruning.trace.program import Where, tensors_in
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example

RATIO = 0.4
SEEDS = (0, 1, 2)

# Count-only statistics: removal changes them by a factor that the counts determine, which a plan can fold into a
# parameter. Groups that are marked for one of these reasons only must be exact ...
COUNT_ONLY = ("mean", "rms norm", "default scale of attention", "its size is used as a number", "averaged over heads")
# ... except in these cases, where nothing is folded: there they must be reported as inexact.
NOT_FOLDED = frozenset(
    [
        "stock_returned_weights",
        "scale_by_attribute",
        "mean_over_channels",
        "number_of_size",
        "number_in_a_tensor",
        "filled_with_width",
        "imported_logarithm",
        "halved_as_number",
        "rounded_quotient",
        "rotary_complex_numbers",
        "computed_by_float",
        "squares_of_patches",
        "third_by_float",
        "global_response_without_weight",
    ]
)


@dataclass(frozen=True, slots=True)
class Units:
    """One group that must exist: dimensions it lies on ("a:0 b:1", ".weight" may be left out), units, lanes.

    With a `reason` it must be inexact for that reason (a part of the text) at a source line that contains `line`.
    `held` groups keep their count while another factor of the same width moves; `guarded` ones because a comparison in
    the code would come out differently. The mark of a `cautious` one is more than its model needs.
    """

    members: str
    units: int
    lanes: int = 1
    reason: str = ""
    line: str = ""
    held: bool = False
    guarded: bool = False
    cautious: bool = False


@dataclass(frozen=True, slots=True)
class Frozen:
    """One dimension that must be frozen, in part at least, by an op and a line whose texts contain these."""

    member: str
    reason: str
    line: str


@dataclass(frozen=True, slots=True)
class Case:
    """A small model, how it is called, and everything that may be pruned in it."""

    model: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    groups: tuple[Units, ...]
    frozen: tuple[Frozen, ...] = ()
    train: bool = True  # whether training mode is deterministic, so that the oracle can look at it too
    forward_fn: Callable[[nn.Module, Any], Any] | None = None
    training_inputs: Callable[[], Any] | None = None  # where training mode refuses `inputs`

    @property
    def name(self) -> str:
        return getattr(self.model, "__name__", str(self.model))

    def exact(self, stated: Units) -> bool:
        """Whether removing units of a stated group equals masking them."""
        return not stated.reason or (stated.reason in COUNT_ONLY and self.name not in NOT_FOLDED)

    def example(self) -> Example:
        return Example(self.inputs(), self.forward_fn)


def built(case: Case) -> nn.Module:
    """The model with nothing at its default: constant vectors and running statistics get values of their own."""
    model = case.model().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.dim() == 1 and tensor.numel() > 1 and tensor.std() == 0:
                tensor += 0.1 + 0.8 * torch.rand_like(tensor)
    return model


def images(*shape: int) -> Callable[[], Tensor]:
    """A maker of one floating-point input of this shape."""
    return lambda: torch.randn(*shape)


# ---------------------------------------------------------------- stated groups


def check_groups(case: Case) -> None:
    """The groups of the graph are the stated ones, no more and no fewer, and what is frozen says why."""
    model, example = built(case), case.example()
    before = _state(model)
    graph = build_graph(model, [example])
    _assert_same(before, _state(model))
    found: list[Group] = []
    for stated in case.groups:
        found.append(_match(case, graph, stated, found))
    extra = [group for group in graph.groups if group not in found]
    assert not extra, f"not stated: {extra}\n{_show(graph)}"
    for stated, group in zip(case.groups, found, strict=True):
        _check_group(case, stated, group, graph)
    for row in case.frozen:
        _check_frozen(row, graph)


def _match(case: Case, graph: Graph, stated: Units, taken: Sequence[Group] = ()) -> Group:
    """A group that is not taken, with the stated units, that lies on all the stated dimensions."""
    wanted = [_member(graph, text) for text in stated.members.split()]
    fits = [
        group
        for group in graph.groups
        if group not in taken
        and group.size == stated.units
        and math.prod(lane.size for lane in group.lanes) == stated.lanes
        and set(wanted) <= {(member.tensor, member.dim) for member in group.members}
    ]
    assert fits, f"no group {stated}\n{_show(graph)}"
    # Of several that fit, as the two halves of one weight may, the first that has the stated exactness.
    return next((group for group in fits if group.exact == case.exact(stated)), fits[0])


def _member(graph: Graph, text: str) -> tuple[str, int]:
    name, _, dim = text.rpartition(":")
    name = name if name in graph.axes else f"{name}.weight"
    assert name in graph.axes, f"{text}: no such tensor, there are {list(graph.axes)}"
    return name, int(dim)


def _check_group(case: Case, stated: Units, group: Group, graph: Graph) -> None:
    assert group.exact == case.exact(stated), f"{stated}: {group}\n{_show(graph)}"
    if not group.exact:
        seen = [(mark.text, source(mark.where)) for mark in group.marks]
        assert any(stated.reason in text and stated.line in line for text, line in seen), f"{stated}: {seen}"
    assert (group.axis in graph.held) == stated.held, f"{stated}: held by {graph.held.get(group.axis)}"


def _check_frozen(stated: Frozen, graph: Graph) -> None:
    tensor, dim = _member(graph, stated.member)
    rows = [(row.reason, source(row.where)) for row in graph.frozen() if (row.tensor, row.dim) == (tensor, dim)]
    assert any(stated.reason in reason and stated.line in line for reason, line in rows), f"{stated}: {rows}"


def source(where: Where | None) -> str:
    """The line of code of a place."""
    return linecache.getline(where.file, where.line).strip() if where is not None else ""


def _show(graph: Graph) -> str:
    axes = "\n".join(f"  {name} {list(axes)}" for name, axes in graph.axes.items())
    frozen = "\n".join(f"  {row.tensor}:{row.dim} ({row.size}) {row.reason} {row.where}" for row in graph.frozen())
    return "\n".join(["groups:", *(f"  {g} lanes {g.lanes}" for g in graph.groups), "axes:", axes, "frozen:", frozen])


# ---------------------------------------------------------------- random plans


def random_plan(graph: Graph, seed: int, *, exact_only: bool) -> Plan:
    """A plan that removes the same share of every cluster, units chosen at random, in every lane on its own."""
    return build_plan(graph, random_choice(graph, RATIO, exact_only=exact_only, seed=seed))


def uneven_plan(graph: Graph, seed: int) -> Plan:
    """A plan over all exact groups in which every cluster loses a share of its own, at least one step."""
    counts: dict[Free, int] = {}
    for number, cluster in enumerate(graph.clusters, seed):
        steps = admissible_steps(cluster, graph, Rounding())
        if exact_axes(graph).issuperset(cluster.axes) and len(steps) > 1:
            # Single units change layouts as well: that has a test of its own.
            several = [t for t in steps[:-1] if min(cluster.counts(t).values()) > 1]
            several = several or steps[:-1]
            counts.update(cluster.counts(several[number % len(several)]))  # neighbours differ
    counts = keeping_guards(graph, counts)
    return build_plan(graph, choose_units(graph, counts, RandomImportance(seed), dict(named_tensors(graph.model))))


def exact_axes(graph: Graph) -> set[Free]:
    """The axes that may be pruned without pruning an inexact group with them."""
    return {
        axis
        for cluster in graph.clusters
        for axis in cluster.axes
        if all(graph.group_of[other].exact for other in cluster.axes if other in graph.group_of)
    }


def check_exactness(case: Case) -> None:
    """Random plans over all exact groups equal masking, in values and gradients, in every deterministic mode.

    One of them removes different shares: what must stay equally large then has to be known, and not only in proportion.
    """
    if not any(case.exact(stated) for stated in case.groups):
        return
    for seed in SEEDS:
        # A plan that happens to remove only what the outputs do not show is drawn again.
        assert any(_is_exact(case, draw) for draw in (seed, seed + 10, seed + 20)), f"nothing was seen from seed {seed}"


def _is_exact(case: Case, seed: int) -> bool:
    """Asserts that one random plan equals masking; False if the outputs hardly show what it removes."""
    torch.manual_seed(seed)
    model = built(case)
    graph = build_graph(model, [case.example()])
    chosen = random_plan(graph, seed, exact_only=True) if seed % 10 else uneven_plan(graph, seed)
    pruned = {change.name for change in chosen.groups}
    matched: list[Group] = []
    for stated in case.groups:
        matched.append(_match(case, graph, stated, matched))
        if matched[-1].axis in exact_axes(graph):
            assert (matched[-1].name in pruned) != stated.guarded, f"{stated}: pruned are {pruned}"
    before = _state(model)
    seen = [verify(model, chosen, mode=mode) for mode in (("eval", "train") if case.train else ("eval",))]
    _assert_same(before, _state(model))
    chosen.check()
    _assert_same(before, _state(model))
    for each in seen:
        assert each.exact or each.degenerate, f"seed {seed}: {each}\n{chosen}\n{_show(graph)}"
        assert each.error <= TOLERANCE, f"seed {seed}: {each}\n{chosen}\n{_show(graph)}"
    return all(each.exact for each in seen)


def check_marks_are_true(case: Case) -> None:
    """Each inexact group is inexact: pruning it alone differs from masking. An untrue mark costs prunability."""
    for stated in case.groups:
        if case.exact(stated) or stated.held or stated.guarded or stated.cautious:
            continue
        model = built(case)
        graph = build_graph(model, [case.example()])
        axis = _match(case, graph, stated).axis
        together = next(cluster for cluster in graph.clusters if axis in cluster.axes).axes
        choice = random_choice(graph, RATIO)
        chosen = build_plan(graph, {other: kept for other, kept in choice.items() if other in together})
        seen = [verify(model, chosen, mode=mode) for mode in (("eval", "train") if case.train else ("eval",))]
        assert any(not each.exact for each in seen), f"{stated} is exact: {seen}"


# ---------------------------------------------------------------- training on


def check_training_on(case: Case) -> None:
    """A plan over all groups, inexact ones too: it checks, runs with the same output shapes, and trains on."""
    model = built(case).train()
    example = case.example()
    graph = build_graph(model, [example])
    chosen = random_plan(graph, 7, exact_only=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    training = Example((case.training_inputs or case.inputs)(), case.forward_fn)
    _loss, dense_shapes = _step(model, training, optimizer)  # the loss stays referenced, as in any training loop
    before = _state(model)
    chosen.check()
    _assert_same(before, _state(model))
    count = sum(parameter.numel() for parameter in model.parameters())
    removed = chosen.exec(optimizer)
    assert count - sum(parameter.numel() for parameter in model.parameters()) == removed
    assert bool(removed) == bool(case.groups)
    assert [p for p in model.parameters() if p.requires_grad] == trained or not case.groups
    after, shapes = _step(model, training, optimizer)
    assert shapes == dense_shapes
    assert torch.isfinite(after)
    for parameter in trained:
        for entry in optimizer.state.get(parameter, {}).values():
            assert entry.dim() == 0 or entry.shape == parameter.shape
    model.eval()
    assert [o.shape for o in _outputs(model, example)] == _eval_shapes(case)


def _eval_shapes(case: Case) -> list[torch.Size]:
    return [out.shape for out in _outputs(case.model().eval(), case.example())]


def _outputs(model: nn.Module, example: Example) -> list[Tensor]:
    out = example.call(model, copy.deepcopy(example.inputs))
    return [tensor for tensor, opaque in tensors_in(out) if not opaque]


def _step(model: nn.Module, example: Example, optimizer: torch.optim.Optimizer) -> tuple[Tensor, list[torch.Size]]:
    outputs = _outputs(model, example)
    differentiable = [out for out in outputs if out.requires_grad]
    loss = sum((out.float().square().mean() for out in differentiable), torch.zeros(()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, [out.shape for out in outputs]


def check_public_call(case: Case) -> None:
    """`plan` takes every model at a plain ratio, avoids what the code's comparisons forbid, and says the same twice."""
    model = built(case)
    graph = build_graph(model, [case.example()])
    if all(stated.held or stated.guarded for stated in case.groups):
        with contextlib.suppress(BudgetError):  # nothing may go, or nothing together with the rest
            plan(graph, pruning_ratio=RATIO).exec()
        return
    chosen, again = (plan(graph, pruning_ratio=RATIO) for _ in range(2))
    assert chosen == again
    dense_shapes = _eval_shapes(case)
    chosen.exec()
    assert [out.shape for out in _outputs(model, case.example())] == dense_shapes
    assert chosen.groups, f"nothing was pruned\n{_show(graph)}"


# ---------------------------------------------------------------- the model as it was


def _state(model: nn.Module) -> dict[str, Any]:
    """Identity and contents of everything on the model that an analysis might leave changed."""
    state: dict[str, Any] = {"rng": torch.get_rng_state()}
    for path, module in model.named_modules():
        state[f"{path} training"] = module.training
        state[f"{path} class"] = type(module)
        if not isinstance(module, torch.jit.ScriptModule):
            for key, item in vars(module).items():
                if isinstance(item, int | float | str | tuple):
                    state[f"{path}.{key}"] = (type(item), item)
    for name, tensor in named_tensors(model):
        state[name] = (id(tensor), type(tensor), tensor.requires_grad, tensor.detach().clone())
    return state


def _assert_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, old in before.items():
        new = after[key]
        olds, news = (old, new) if isinstance(old, tuple) else ((old,), (new,))
        for a, b in zip(olds, news, strict=True):
            same = torch.equal(a, b) if isinstance(a, Tensor) else a == b
            assert same, f"{key} changed from {old} to {new}"


def owners(graph: Graph, tensor: str, dim: int) -> list[Group]:
    """The groups on one dimension of a tensor, left to right."""
    return [graph.group_of[leaf] for leaf in dict.fromkeys(leaves(graph.axes[tensor][dim])) if leaf in graph.group_of]


__all__ = ["Case", "Frozen", "Units", "check_exactness", "check_groups", "check_marks_are_true", "images"]
