"""The plan of one removal, with its steps in dependency order."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from torch import nn

from torch_pruning.axes.expression import Free
from torch_pruning.axes.positions import Choice, Kept
from torch_pruning.dependency.rows import Dependency, Root, Row
from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import Executed, Graph
from torch_pruning.planning.plan import Plan

if TYPE_CHECKING:
    from torch_pruning.dependency.graph import DependencyGraph


@dataclass(slots=True)
class DependencyPlan(Plan):
    """What goes when positions of one layer go: a `Plan` that lists its steps. Prints one row per step.

    A plan that was made before another one was carried out still means the same channels: it finds their new positions.
    """

    rows: list[Row] = field(default_factory=list)
    root: Root | None = None
    owner: DependencyGraph | None = field(default=None, repr=False, compare=False)
    epoch: int = 0

    @property
    def plan(self) -> list[tuple[Dependency, list[int]]]:
        """(dependency, idxs) of every step; idxs are positions along the step's own dimension."""
        return [(row.dependency, list(row.idxs)) for row in self.rows]

    def exec(
        self, optimizer: Any = None, dry_run: bool = False, *, model: nn.Module | None = None, check: bool = True
    ) -> int:
        """Prune the model in place; returns the number of parameters removed. `dry_run` only counts them.

        All or nothing: after an error the model is as it was. See `Plan.exec` for `optimizer`, `model` and `check`.

        Raises:
            StalePlanError: if what the plan means is gone, or the model was changed by other means.
            CheckError: if the pruned model would not run as predicted.
        """
        self.refresh()
        if dry_run:
            return self.parameters_removed
        return Plan.exec(self, optimizer, model=model, check=check)

    def check(self, model: nn.Module | None = None) -> None:
        """Prune, run on fake tensors, compare every size and the sequence of ops, and put everything back."""
        self.refresh()
        Plan.check(self, model)

    def refresh(self) -> None:
        """Follow the plans that were carried out since this one was made.

        Raises:
            StalePlanError: if channels that this plan is to remove have gone already.
        """
        if self.owner is None or self.graph is None or self.root is None or self.choice is None:
            return
        if self.epoch == self.graph.epoch:
            return
        current = self.owner.plan_of_units(self.root, since(self.choice, self.graph, self.epoch, self.root))
        for entry in fields(self):
            setattr(self, entry.name, getattr(current, entry.name))

    def __str__(self) -> str:
        if not self.rows:
            return self.summary()
        lines = [str(row) for row in self.rows]
        return "\n".join(
            ["", "-------------", *lines, f"{self.parameters_removed} parameters will be pruned", "-------------", ""]
        )


def since(choice: Choice, graph: Graph, epoch: int, root: Root) -> Choice:
    """The same units after all that was carried out since an epoch.

    Raises:
        StalePlanError: if some of them have gone already.
    """
    for executed in graph.executed[epoch:]:
        choice = _moved(choice, executed, root)
    return choice


def _moved(choice: Choice, executed: Executed, root: Root) -> Choice:
    """The same units as they are numbered after a plan was carried out.

    Raises:
        StalePlanError: if that plan removed some of them, or renumbered lanes.
    """
    moved: dict[Free, Kept] = {}
    for axis, kept in choice.items():
        since = executed.choice.get(axis)
        if any(lane in executed.choice for lane in kept.lanes) or (since is not None and (since.lanes or kept.lanes)):
            raise StalePlanError(
                f"the plan removes units of {axis.name} lane by lane, or they were renumbered lane by lane since it "
                f"was made for {root.path}: get the plan again"
            )
        if since is None:
            moved[axis] = kept
            continue
        stays, left = set(kept.rows[()]), since.rows[()]
        gone = sorted(set(range(executed.sizes[axis])) - stays - set(left))
        if gone:
            raise StalePlanError(
                f"the plan for {root.path} removes units {gone} of {axis.name}, which have gone since it was made: "
                "get the plan again for what is there now"
            )
        moved[axis] = Kept({(): tuple(new for new, old in enumerate(left) if old in stays)})
        if moved[axis].count == 0:
            raise StalePlanError(
                f"the plan for {root.path} removes the units of {axis.name} that others have left: "
                "nothing would be left"
            )
    return moved
