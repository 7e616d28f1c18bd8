"""Every exception of the package. Each is also a builtin that Python itself would have raised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class PruningError(Exception):
    """Base of all errors of this package."""


class TraceError(PruningError, RuntimeError):
    """The model could not be recorded in any of the tracing modes."""


class RuleError(PruningError, LookupError):
    """An op rule is missing, registered twice, or broke its contract."""


class PositionError(PruningError, ValueError):
    """Positions that cannot be removed: malformed, out of range, or not whole images of units."""


class FrozenAxisError(PruningError, ValueError):
    """The axis asked for cannot be pruned; the message says which op froze it, and where."""


class ConstraintError(PruningError, ValueError):
    """A removal that breaks a relation between sizes in the code; the message names what would have to follow."""


class BudgetError(PruningError, ValueError):
    """A budget that no admissible choice of units meets; the message gives the closest reachable value."""


class ImportanceError(PruningError, ValueError):
    """Scores that cannot be given: statistics are missing, nothing can be scored, or the numbers are none."""


class StalePlanError(PruningError, RuntimeError):
    """The plan was made for other names or shapes than the model has now."""


class CheckError(PruningError, RuntimeError):
    """The pruned model would not run as predicted: a size or the sequence of ops differs.

    `axes` are the pruned ones at the op where it was noticed; none where that is not known.
    """

    def __init__(self, message: str, axes: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.axes = tuple(axes)


class OptimizerError(PruningError, ValueError):
    """The optimizer holds state that cannot follow the pruned parameters."""


class CalibrationError(PruningError, ValueError):
    """Calibration inputs that are missing, not like the example inputs, or on which the model is not finite."""
