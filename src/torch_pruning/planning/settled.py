"""Plans that fail their check: what that proves to depend on something unseen is left alone, and planned again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch_pruning.axes.expression import Reason
from torch_pruning.errors import CheckError
from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Plan

# Each attempt leaves at least one axis alone; code that refuses more often has something wrong with it as a whole.
ATTEMPTS = 8

Result = TypeVar("Result")


def carried_out(graph: Graph, decide: Callable[[], Plan], carry_out: Callable[[Plan], Result]) -> tuple[Plan, Result]:
    """The first plan that can be carried out, and what came of it.

    Where the check of a plan fails, the axes that were pruned at the op where it was noticed are frozen, with what the
    check said as the reason (`Graph.frozen`), and `decide` has to do without them.

    Raises:
        CheckError: if it fails without naming an axis, or time and again. The model is as it was.
    """
    for attempt in range(1, ATTEMPTS + 1):
        plan = decide()
        try:
            return plan, carry_out(plan)
        except CheckError as error:
            if not error.axes or attempt == ATTEMPTS:
                raise
            graph.withhold(error.axes, Reason(f"the pruned model was refused: {error}"))
    raise AssertionError("every attempt returns or raises")
