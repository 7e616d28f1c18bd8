"""Schedules: how much of the way to the budget each of several steps goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch_pruning.pruner.budget import Budget

# A name; a function of the share of steps that are done, (0, 1] -> [0, 1]; or the budget of every step.
Schedule: TypeAlias = str | Callable[[float], float] | Sequence[float]


def linear(done: float) -> float:
    """Equal steps: the share of the way is the share of steps.

    >>> linear(0.25)
    0.25
    """
    return done


def cubic(done: float) -> float:
    """Fast first, slow near the end: 1 - (1 - t)^3.

    Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017, eq. 1:
    s(t) = s_f + (s_0 - s_f) (1 - t)^3 with s_0 = 0.

    >>> cubic(0.5)
    0.875
    """
    return 1 - (1 - done) ** 3


SCHEDULES: dict[str, Callable[[float], float]] = {"linear": linear, "cubic": cubic}


def check_schedule(schedule: Schedule, budget: Budget) -> None:
    """
    Raises:
        ValueError: for an unknown name, or a list of budgets that does not end in the budget.
    """
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {list(SCHEDULES)}, a function or a list, found {schedule!r}")
    elif not callable(schedule) and not (isinstance(schedule, Sequence) and list(schedule[-1:]) == [budget.value]):
        raise ValueError(
            f"a list of budgets must end in the budget itself, {budget.kind}={budget.value}; found {schedule!r}"
        )


def budget_of_step(budget: Budget, schedule: Schedule, step: int, steps: int, dense: float) -> Budget:
    """The budget of one of several steps, the last of which is that of all. `dense` is the cost before the first.

    Raises:
        ValueError: for a list of budgets with another number of entries, or a function that leaves [0, 1].
    """
    if not isinstance(schedule, str) and not callable(schedule):
        if len(schedule) != steps:
            raise ValueError(f"a schedule of {len(schedule)} budgets takes as many steps, found {steps}")
        return replace(budget, value=float(schedule[step - 1]))
    way = (SCHEDULES[schedule] if isinstance(schedule, str) else schedule)(step / steps)
    if not -1e-9 <= way <= 1 + 1e-9:
        raise ValueError(f"a schedule must stay in [0, 1], found {way} at {step / steps:.3g} of the steps")
    if step == steps:
        return budget
    if budget.kind == "pruning_ratio":
        return replace(budget, value=way * budget.value)
    whole = 1.0 if budget.value <= 1 else dense
    return replace(budget, value=whole + way * (budget.value - whole))
