"""`Pruner`: the way to a budget in steps, with training in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from torch_pruning.graph.graph import Graph
from torch_pruning.pruner.decide import Start
from torch_pruning.pruner.latency.clock import device_of, model_milliseconds
from torch_pruning.pruner.plan import graph_of, options_of, plan_of, recovered
from torch_pruning.pruner.report import PruneReport
from torch_pruning.pruner.schedule import Schedule, budget_of_step, check_schedule
from torch_pruning.pruner.snapshot import Snapshot
from torch_pruning.pruner.sparsify import Regularizer
from torch_pruning.pruner.sparsify_penalties import Penalty
from torch_pruning.recovery.calibration import read_once
from torch_pruning.recovery.selection import with_calibration


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was carried out: its number, of how many, and what it did."""

    number: int
    total: int
    report: PruneReport

    def __str__(self) -> str:
        return f"step {self.number} of {self.total}\n{self.report}"


class Pruner:
    """Prunes a model to a budget in several steps. Options are those of `plan`; ratios and shares refer to the model at
    the start, whatever has gone since.

    `schedule`: how far each step goes: "linear", "cubic" (fast first), a function of the share of steps done, or the
    list of all budgets, which ends in the last. `optimizer` (or several) follows every step. With `calibration` each
    step recovers as `tp.prune(calibration=...)` does. With a `penalty` (`tp.GroupNormPenalty()`, say), `regularize`
    pushes the groups that are not ignored towards zero while training; `regularizer` also has it as a term of the loss.

    >>> import torch, torch_pruning as tp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> pruner = tp.Pruner(net, torch.randn(1, 4), pruning_ratio=0.5)
    >>> for step in pruner.steps(4):
    ...     print(step.number, net[0].out_features)  # train here
    1 14
    2 12
    3 10
    4 8
    """

    def __init__(
        self,
        model: nn.Module | Graph,
        example_inputs: Any = None,
        *,
        schedule: Schedule = "linear",
        optimizer: Any = None,
        unused: str = "freeze",
        calibration: Iterable[Any] | None = None,
        recovery: str = "least_squares",
        penalty: Penalty | None = None,
        **options: Any,
    ) -> None:
        self.options = options_of(**options)
        check_schedule(schedule, self.options.budget)
        self.schedule = schedule
        self.optimizer = optimizer
        self.graph = graph_of(model, example_inputs, unused)
        self.start = Start.of(self.graph)
        if self.options.budget.kind == "latency":
            now = model_milliseconds(self.model, self.graph.example, device_of(self.model))
            self.start = replace(self.start, costs={**self.start.costs, "latency": now})
        self.calibration = None if calibration is None else read_once(calibration)
        self.recovery = recovery
        self.penalty = penalty
        self.regularizer = self._regularizer()
        self.current_step = 0

    @property
    def model(self) -> nn.Module:
        return self.graph.model

    @property
    def importance(self) -> Any:
        """The criterion of the steps to come. One that was gathered over data wants a fresh one before each."""
        return self.options.importance

    @importance.setter
    def importance(self, criterion: Any) -> None:
        self.options = replace(self.options, importance=criterion)

    def regularize(self, model: nn.Module | None = None) -> None:
        """Add the gradient of the penalty to the gradients: call it between `backward` and `optimizer.step`.

        Raises:
            RuntimeError: if the pruner was built without a penalty.
            StalePlanError: if the model's parameters are not those of the graph as it is now.
        """
        if self.regularizer is None:
            raise RuntimeError(
                "regularize needs a penalty; found none: Pruner(..., penalty=torch_pruning.GroupNormPenalty())"
            )
        self.regularizer.regularize(model)

    def steps(
        self, number: int | None = None, *, metric: Callable[[nn.Module], float] | None = None, allowed: float = 0.0
    ) -> Iterator[Step]:
        """Prune, hand over to the loop's body (which trains), and so on, `number` times.

        With a `metric` (of the model, higher is better) the loop ends as soon as it is lower than at the start by more
        than `allowed` after the body; the model, its optimizer and this pruner are then exactly as they were after the
        last good step.

        Raises:
            BudgetError: for a budget that cannot be met. Steps before that one stay carried out.
        """
        total = self._number(number)
        best = metric(self.model) if metric is not None else 0.0
        while self.current_step < total:
            good = Snapshot(self.graph, self._optimizers()) if metric is not None else None
            strengths = {} if self.regularizer is None else self.regularizer.state_dict()
            done = self.current_step
            yield self.step(total)
            if metric is not None and good is not None and not metric(self.model) >= best - allowed:
                good.restore()
                self.regularizer = self._regularizer(strengths)
                self.current_step = done
                return

    def step(self, total: int | None = None, *, calibration: Iterable[Any] | None = None) -> Step:
        """The next of `total` steps (by default one, or as many as the list of budgets has).

        `calibration`: inputs to recover with after this step, in the place of those of the pruner.

        Raises:
            RuntimeError: after the last step.
            BudgetError: for a budget that cannot be met; nothing has changed then.
        """
        total = self._number(total)
        if self.current_step >= total:
            raise RuntimeError(f"all {total} steps are done: build a new Pruner to go on")
        number = self.current_step + 1
        dense = self.start.costs.get(self.options.budget.kind, 1.0)
        budget = budget_of_step(self.options.budget, self.schedule, number, total, dense)
        untouched = number == total and not self.graph.executed
        batches = self.calibration if calibration is None else read_once(calibration)
        importance = with_calibration(self.options.importance, self.graph, batches, tuple(self.options.ignore))
        options = replace(self.options, budget=budget, importance=importance)
        plan = plan_of(self.graph, options, None if untouched else self.start)
        report = PruneReport(plan, recovered(plan, batches, self.recovery, self.optimizer))
        self.current_step = number
        return Step(number, total, report)

    def _regularizer(self, strengths: Mapping[str, Tensor] | None = None) -> Regularizer | None:
        if self.penalty is None:
            return None
        regularizer = Regularizer(self.graph, self.penalty, ignore=self.options.ignore)
        regularizer.load_state_dict(strengths or regularizer.state_dict())
        return regularizer

    def _number(self, number: int | None) -> int:
        if number is None:
            listed = not isinstance(self.schedule, str) and not callable(self.schedule)
            return len(self.schedule) if listed else 1  # type: ignore[arg-type]
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"the number of steps must be a positive integer, found {number!r}")
        return number

    def _optimizers(self) -> Iterable[Any]:
        if self.optimizer is None:
            return ()
        return self.optimizer if isinstance(self.optimizer, (list, tuple)) else (self.optimizer,)
