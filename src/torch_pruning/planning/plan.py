"""A plan: which positions of which tensors go, as plain data that can be printed, saved and applied anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.errors import StalePlanError
from torch_pruning.planning.depth import DepthChange

if TYPE_CHECKING:
    from torch import nn

    from torch_pruning.axes.positions import Choice
    from torch_pruning.graph.cost import CostValue
    from torch_pruning.graph.graph import Graph

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Block:
    """Kept positions of `dim` that depend on the lane; lanes are equal contiguous blocks of `lane_dim`.

    `kept` is [lanes, k]; rows of lanes that go as a whole repeat another row.
    """

    lane_dim: int
    dim: int
    kept: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """A number on a module (or in a container or config object on it) that surgery rewrites."""

    source: AttributeSource
    old: int | float | None
    new: int | float


@dataclass(frozen=True, slots=True)
class GroupChange:
    """How many units of a group go. `removed` lists them, per lane if they differ."""

    name: str
    size: int
    kept: int
    removed: tuple[int, ...] | tuple[tuple[int, ...], ...]
    exact: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one run of the example: of the model before, as predicted, and as measured on a pruned copy."""

    before: float
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class CustomizedCut:
    """Positions that the user's pruner of a layer takes from its outputs, or inputs; `removed` parameter elements."""

    path: str
    pruner: Any
    outputs: bool
    idxs: tuple[int, ...]
    removed: int


@dataclass(slots=True)
class Plan:
    """What will be removed, in the coordinates of the model as it was when the plan was made.

    `kept` holds ordered gather indices by tensor and dimension; `blocks` those that depend on a lane; `scales` factors
    to fold into parameters; `replaced` the layers that get another class; `depth` the blocks that go; `biases` the
    layers that recovery has given a bias, with its size, which is zero at first wherever else the plan is carried out;
    `shapes` is the fingerprint.
    """

    shapes: dict[str, tuple[int, ...]]
    kept: dict[str, dict[int, tuple[int, ...]]]
    blocks: dict[str, Block] = field(default_factory=dict)
    changes: tuple[AttributeChange, ...] = ()
    scales: dict[tuple[str, int, tuple[int, ...]], float] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    groups: tuple[GroupChange, ...] = ()
    before: CostValue | None = None
    after: CostValue | None = None
    latency: Latency | None = field(default=None, compare=False)
    graph: Graph | None = field(default=None, repr=False, compare=False)
    choice: Choice | None = field(default=None, repr=False, compare=False)
    customized: tuple[CustomizedCut, ...] = ()
    unread: tuple[AttributeSource, ...] = field(default=(), compare=False)  # integers nobody read that look like sizes
    depth: DepthChange | None = None
    biases: dict[str, int] = field(default_factory=dict)
    # The same without the blocks, in the names and on the graph of the model that has lost them.
    shorter: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def removed(self) -> dict[str, dict[int, torch.Tensor]]:
        """Sorted positions that go, by tensor name and dimension."""
        result: dict[str, dict[int, torch.Tensor]] = {}
        for tensor, dims in self.kept.items():
            for dim, kept in dims.items():
                stays = set(kept)
                gone = [position for position in range(self.shapes[tensor][dim]) if position not in stays]
                result.setdefault(tensor, {})[dim] = torch.tensor(gone, dtype=torch.long)
        return result

    @property
    def attributes(self) -> dict[str, dict[str, tuple[Any, Any]]]:
        """{module path: {attribute: (old, new)}}"""
        result: dict[str, dict[str, tuple[Any, Any]]] = {}
        for change in self.changes:
            name = str(AttributeSource("", change.source.steps))
            result.setdefault(change.source.module, {})[name] = (change.old, change.new)
        return result

    @property
    def exact(self) -> bool:
        """Whether the pruned model equals the original with the removed slices set to zero."""
        return all(group.exact for group in self.groups)

    @property
    def parameters_removed(self) -> int:
        """Elements that go from all parameters, each counted once."""
        assert self.before is not None
        assert self.after is not None
        return self.before.parameters - self.after.parameters + sum(cut.removed for cut in self.customized)

    # ---- carrying out

    def exec(self, optimizer: Any = None, *, model: nn.Module | None = None, check: bool = True) -> int:
        """Prune the model in place; returns the number of parameters removed.

        `optimizer` (or several, or any object with `state` and `param_groups`) follows. `model` applies the plan to
        another model with the same tensor names and shapes. All or nothing: after an error the model is as it was.

        Raises:
            StalePlanError: if the model's tensors are not those the plan was made for.
            CheckError: if the pruned model would not run as predicted.
        """
        from torch_pruning.planning.execute import execute

        return execute(self, model, optimizer, check)

    def check(self, model: nn.Module | None = None) -> None:
        """Prune, run on fake tensors, compare every size and the sequence of ops, and put everything back.

        Raises:
            CheckError: with the module, the source line and both sizes of the first difference.
        """
        from torch_pruning.planning.execute import trial

        trial(self, model)

    def fits(self, model: nn.Module) -> None:
        """Raises StalePlanError unless every tensor of the plan is on the model, in the recorded shape."""
        from torch_pruning.trace.substitute import named_tensors

        if self.graph is not None and self.graph.outdated:
            raise StalePlanError(
                "blocks were removed from the model since the plan was made, and names now mean other layers: plan "
                "again for the model as it is now"
            )
        if self.depth is not None:
            self.depth.fits(model)
        found = {name: tuple(tensor.shape) for name, tensor in named_tensors(model)}
        for name, shape in self.shapes.items():
            if found.get(name) != shape:
                raise StalePlanError(
                    f"the plan was made for {name} of shape {list(shape)}; found "
                    f"{list(found[name]) if name in found else 'no such tensor'}: plan again for the model as it is now"
                )

    # ---- showing and saving

    def summary(self) -> str:
        """One line per group that loses units, and the totals."""
        lines = [] if self.depth is None else [f"{path}: removed" for path in self.depth.removed]
        for change in self.depth.changes if self.depth is not None else ():
            lines.append(f"{change.source}: {change.old} -> {change.new}")
        for group in self.groups:
            note = "" if group.exact else f"   inexact: {group.reason}"
            lines.append(f"{group.name}: {group.size} -> {group.kept}{note}")
        for path, cls in self.replaced.items():
            lines.append(f"{path}: becomes {cls}")
        lines += [f"{path}: gets a bias" for path in self.biases]
        if self.before is not None and self.after is not None:
            lines.append(f"parameters {self.before.parameters:,} -> {self.after.parameters:,}")
            lines.append(f"MACs       {self.before.macs:,} -> {self.after.macs:,}")
        if self.latency is not None:
            of = self.latency
            lines.append(f"latency    {of.before:.2f} ms -> {of.predicted:.2f} predicted, {of.measured:.2f} measured")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def to_json(self) -> str:
        """The plan as text; `Plan.from_json` reads it back. Nothing in it is executed on loading.

        Raises:
            ValueError: for a plan with customized layers, whose pruners are code.
        """
        if self.customized:
            raise ValueError(
                f"a plan as text holds no code; found customized layers {[cut.path for cut in self.customized]}, which "
                "their pruners prune: save DependencyGraph.pruning_history() and replay that"
            )
        return json.dumps(
            {
                "format": _FORMAT,
                "shapes": self.shapes,
                "kept": {t: {str(d): k for d, k in dims.items()} for t, dims in self.kept.items()},
                "blocks": {t: [b.lane_dim, b.dim, b.kept] for t, b in self.blocks.items()},
                "changes": [[c.source.module, c.source.steps, c.old, c.new] for c in self.changes],
                "scales": [[*key, factor] for key, factor in self.scales.items()],
                "replaced": self.replaced,
                "groups": [[g.name, g.size, g.kept, g.removed, g.exact, g.reason] for g in self.groups],
                "biases": self.biases,
                "depth": None if self.depth is None else self.depth.to_data(),
                "cost": [[c.parameters, c.macs] if c else None for c in (self.before, self.after)],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote; carry it out with `exec(model=...)`.

        Raises:
            ValueError: if the text is no plan of this format.
        """
        refusal = f"expected a plan of format {_FORMAT}, found {str(text)[:60]!r}: save it with Plan.to_json"
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != _FORMAT:
                raise ValueError(refusal)
            return cls._of_data(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(refusal) from error

    @classmethod
    def _of_data(cls, data: dict[str, Any]) -> Plan:
        from torch_pruning.graph.cost import CostValue

        before, after = (CostValue(*cost) if cost else None for cost in data["cost"])
        return cls(
            {name: tuple(shape) for name, shape in data["shapes"].items()},
            {t: {int(d): tuple(k) for d, k in dims.items()} for t, dims in data["kept"].items()},
            {t: Block(lane_dim, dim, _tuples(kept)) for t, (lane_dim, dim, kept) in data["blocks"].items()},
            tuple(
                AttributeChange(AttributeSource(m, _tuples(steps)), old, new) for m, steps, old, new in data["changes"]
            ),
            {(tensor, dim, tuple(positions)): factor for tensor, dim, positions, factor in data["scales"]},
            dict(data["replaced"]),
            tuple(GroupChange(n, s, k, _tuples(r), e, why) for n, s, k, r, e, why in data["groups"]),
            before,
            after,
            depth=None if data.get("depth") is None else DepthChange.from_data(data["depth"]),
            biases=dict(data.get("biases", {})),
        )


def _tuples(item: Any) -> Any:
    return tuple(map(_tuples, item)) if isinstance(item, list) else item


def counts_of(choice: Choice) -> Mapping[Any, int]:
    """How many units each axis of a choice keeps."""
    return {axis: kept.count for axis, kept in choice.items()}
