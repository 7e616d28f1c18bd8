"""Soft pruning: units are masked during the forward pass, and their entries live on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_pruning.axes.expression import Free
from torch_pruning.graph.exactness import inexact_under
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Block, Plan
from torch_pruning.rules.call import CONTRACTED
from torch_pruning.trace.substitute import named_tensors

_Slot = tuple[Any, Any]  # a container and a key in it


class SoftPruning:
    """The plan's units as zeros in every forward pass, while parameters, state dict and optimizer stay whole.

    Inside of the context hooks put masked tensors in the place of parameters for as long as a forward pass lasts.
    `straight_through`: gradients reach masked entries as if they were not masked, so that units recover and a later
    `update` may choose others. As few tensors as possible are masked then, since a gradient does not pass through one
    masked tensor to another: the columns of the consumers, where that makes the unit vanish. Otherwise all are, and
    masked entries get no gradient. An optimizer's weight decay and momentum reach them in any case.

    The masked model computes what the pruned one will (with the factors of `plan.scales` left out), so `harden` gives a
    plan without surprises. After He et al., "Soft Filter Pruning", IJCAI 2018, and the straight-through estimator of
    Bengio et al., 2013.

    Raises:
        ValueError: for a plan without its graph (read from a file), or one whose units show through buffers.
        StalePlanError: for a plan that was carried out.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> plan = tp.plan(net, torch.randn(1, 4), pruning_ratio=0.5)
    >>> with tp.SoftPruning(plan, straight_through=True) as soft:
    ...     net(torch.randn(3, 4)).sum().backward()  # and an optimizer's step, many times
    >>> soft.harden().exec()
    28
    """

    def __init__(self, plan: Plan, *, straight_through: bool = False) -> None:
        self.straight_through = straight_through
        self.masks: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._depth = 0
        self._swapped: list[tuple[_Slot, Tensor]] = []
        self.update(plan)

    def update(self, plan: Plan) -> None:
        """From now on mask the units of this plan instead.

        Raises:
            ValueError, StalePlanError: as the constructor.
        """
        if plan.graph is None or plan.choice is None:
            raise ValueError(
                "soft pruning needs a plan that was made in this process, found one without its graph: make it with "
                "tp.plan"
            )
        plan.fits(plan.graph.model)
        self.plan, self.graph = plan, plan.graph
        tensors: dict[str, Tensor] = dict(named_tensors(self.graph.model))
        self._parameters = {n: tensors[n] for n in plan.shapes if isinstance(tensors[n], nn.Parameter)}
        every = _members(self.graph, plan, self._parameters)
        _can_hide(self.graph, plan, every)
        dims = _as_dims(_fewest(self.graph, every) if self.straight_through else every)
        masks = {name: _mask(plan, name, dims.get(name, frozenset())) for name in self._parameters}
        self.masks = {name: m.to(tensors[name].device) for name, m in masks.items() if m is not None}

    def harden(self) -> Plan:
        """The plan that removes what is masked.

        Raises:
            StalePlanError: if the model has changed its shapes meanwhile.
        """
        self.plan.fits(self.graph.model)
        return self.plan

    def __enter__(self) -> SoftPruning:
        if self._handles:
            raise RuntimeError("soft pruning is on already: leave this context before entering it again")
        for module in self.graph.model.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                self._handles.append(module.register_forward_pre_hook(self._before, prepend=True))
                self._handles.append(module.register_forward_hook(self._after, always_call=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # ---- during a forward pass

    def _before(self, module: nn.Module, arguments: Any) -> None:
        """The outermost call masks what lies below it; with checkpointing that is a block, called again in backward."""
        if self._depth == 0:
            self._mask_below(module)
        self._depth += 1

    def _after(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            for (container, key), tensor in reversed(self._swapped):
                container[key] = tensor
            self._swapped = []

    def _mask_below(self, module: nn.Module) -> None:
        """A tensor that is held in several places is masked once, and stays one tensor."""
        masks = {id(self._parameters[name]): mask for name, mask in self.masks.items()}
        masked: dict[int, Tensor] = {}
        for (container, key), tensor in _places(module, masks):
            if id(tensor) not in masked:
                masked[id(tensor)] = self._masked(tensor, masks[id(tensor)])
            self._swapped.append(((container, key), tensor))
            container[key] = masked[id(tensor)]

    def _masked(self, tensor: Tensor, mask: Tensor) -> Tensor:
        masked: Callable[..., Tensor] = _Masked.apply
        return masked(tensor, mask.to(tensor.device), self.straight_through)


class _Masked(torch.autograd.Function):
    """Masked forwards; backwards too, or the identity.

    The mask is no saved tensor: a checkpointed block, which is masked from outside in the forward pass and by itself
    when it runs again, would count one more.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, mask: Tensor, straight_through: bool) -> Tensor:
        ctx.mask, ctx.straight_through = mask, straight_through
        return torch.where(mask, tensor, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient if ctx.straight_through else torch.where(ctx.mask, gradient, 0), None, None


_Member = tuple[str, int, Free]  # the slices of a tensor, along a dimension, that an axis owns there


def _mask(plan: Plan, name: str, dims: frozenset[int]) -> Tensor | None:
    """False where a removed position of one of these dimensions lies; None if there is none."""
    mask = torch.ones(plan.shapes[name], dtype=torch.bool)
    for dim, gone in plan.removed.get(name, {}).items():
        if dim in dims:
            mask.index_fill_(dim, gone, False)
    block = plan.blocks.get(name)
    if block is not None and block.dim in dims:
        _mask_block(mask, block)
    return None if bool(mask.all()) else mask


def _mask_block(mask: Tensor, block: Block) -> None:
    """Along `dim` each lane, a slab of `lane_dim`, keeps its own positions."""
    kept = torch.tensor(block.kept)  # (lanes, kept)
    rows = mask.movedim((block.lane_dim, block.dim), (0, 1))  # a view
    stays = torch.zeros(len(kept), rows.shape[1], dtype=torch.bool).scatter_(1, kept, True)
    stays = stays.repeat_interleave(rows.shape[0] // len(kept), dim=0)
    rows.logical_and_(stays.reshape(*stays.shape, *([1] * (rows.dim() - 2))))


def _members(graph: Graph, plan: Plan, tensors: Iterable[str] | None) -> dict[_Member, str]:
    """What the axes of a plan own of these tensors (of all, if None), with the role it plays there."""
    assert plan.choice is not None
    wanted = None if tensors is None else set(tensors)
    groups = [graph.group_of[axis] for axis in plan.choice if axis in graph.group_of]
    return {
        (member.tensor, member.dim, group.axis): member.role
        for group in groups
        for member in group.members
        if wanted is None or member.tensor in wanted
    }


def _can_hide(graph: Graph, plan: Plan, parameters: Iterable[_Member]) -> None:
    """Raises ValueError if units would show through a buffer, which is not masked: forward passes may update it."""
    shows = _noticed(graph, parameters) - _noticed(graph, _members(graph, plan, None))
    names = sorted(graph.group_of[axis].name for axis in shows if axis in graph.group_of)
    if names:
        raise ValueError(
            f"soft pruning masks parameters alone, and the units of {names[0]} would still add what buffers hold for "
            "them: leave this group out of the plan (ignore=), or register the buffers as parameters"
        )


def _fewest(graph: Graph, members: Mapping[_Member, str]) -> set[_Member]:
    """As few members as make every removed unit vanish, the columns of its consumers before what produces it.

    A gradient does not pass through a masked tensor to another one, nor past a ReLU that sees zeros.
    """
    masked = set(members)
    # A tensor with an axis on two dimensions is producer and consumer at once, so it stays masked.
    places = Counter((name, axis) for name, _, axis in masked)
    several = {member for member in masked if places[member[0], member[2]] > 1}
    removable = [member for member in members if members[member] != CONTRACTED and member not in several]
    tolerated = _noticed(graph, masked)
    masked.difference_update(removable)
    failed = _noticed(graph, masked) - tolerated
    # For these axes (those of a product of two activations, say), one member after the other.
    again = {axis: [member for member in members if member[2] is axis] for axis in failed}
    masked.update(member for of_axis in again.values() for member in of_axis)
    for turn in zip_longest(*again.values()):
        dropped = {member for member in turn if member is not None and member not in several}
        failed = _noticed(graph, masked - dropped) - tolerated
        masked -= {member for member in dropped if member[2] not in failed}
    return masked


def _noticed(graph: Graph, masked: Iterable[_Member]) -> set[Free]:
    """The axes of which some sum in the traces would see removed units if just these members were zero there."""
    by_name: dict[str, set[Free]] = {}
    for name, _, axis in masked:
        by_name.setdefault(name, set()).add(axis)
    zero = {name: frozenset(axes) for name, axes in by_name.items()}
    return {axis for inferred in graph.programs for axis in inexact_under(inferred, graph.axes, zero)}


def _as_dims(members: Iterable[_Member]) -> dict[str, frozenset[int]]:
    dims: dict[str, set[int]] = {}
    for name, dim, _ in members:
        dims.setdefault(name, set()).add(dim)
    return {name: frozenset(found) for name, found in dims.items()}


def _places(module: nn.Module, wanted: Mapping[int, Tensor]) -> Iterator[tuple[_Slot, Tensor]]:
    """Every place below a module that holds one of the tensors with these identities."""
    for child in module.modules():
        attributes = vars(child)
        inside = [item for item in attributes.values() if isinstance(item, (list, dict))]
        for container in (attributes, *inside):
            entries = container.items() if isinstance(container, dict) else enumerate(container)
            for key, item in list(entries):
                if isinstance(item, Tensor) and id(item) in wanted:
                    yield (container, key), item
