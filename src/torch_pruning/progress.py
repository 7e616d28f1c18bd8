"""Progress bars, for work that turns out to take longer than a moment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")

SWITCH = "TORCH_PRUNING_PROGRESS"
_OFF = ("0", "off", "no", "false")
_PATIENCE = 1.5  # seconds during which nobody wonders what is going on

# The display of the work around this one: work inside gets a line on it, for a terminal shows one display at a time.
_around: ContextVar[Bar | None] = ContextVar("_around", default=None)


class Bar:
    """One line of a display that appears with the first step after `_PATIENCE` seconds."""

    def __init__(self, description: str, total: float | None, outer: Bar | None) -> None:
        self.description = description
        self.total = total
        self.outer = outer
        self.done = 0.0
        self.started = time.monotonic()
        self.display: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, steps: float = 1) -> None:
        """So many steps of the work are done."""
        self.done += steps
        if self._task is None and self._wanted():
            self._show()
        if self.display is not None and self._task is not None:
            self.display.update(self._task, completed=self.done)

    def _wanted(self) -> bool:
        return time.monotonic() - self.started > _PATIENCE and _visible()

    def _show(self) -> None:
        shared = self.outer.display if self.outer is not None else None
        self.display = _new_display() if shared is None else shared
        self._task = self.display.add_task(self.description, total=self.total)

    def close(self) -> None:
        """Take the line away, and the display if it was opened for this line."""
        if self.display is None or self._task is None:
            return
        if self.outer is not None and self.display is self.outer.display:
            self.display.remove_task(self._task)
        else:
            self.display.stop()


def _visible() -> bool:
    """Whether anybody looks: standard error is a terminal, and the user has not switched progress off."""
    off = os.environ.get(SWITCH, "").strip().lower() in _OFF
    return not off and sys.stderr is not None and sys.stderr.isatty()


def _new_display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn as Line
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), Line(), MofNCompleteColumn(), TimeElapsedColumn())
    display = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    display.start()
    return display


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Bar]:
    """A bar whose `advance(steps)` the work calls; `total` is the number of steps, if it is known.

    It appears on standard error with the first step after 1.5 seconds, and goes away at the end. Nothing appears where
    standard error is no terminal, or where the environment variable TORCH_PRUNING_PROGRESS is 0, off, no or false.

    >>> with progress("Summing", total=3) as bar:
    ...     for number in (1, 2, 3):
    ...         bar.advance()
    """
    bar = Bar(description, total, _around.get())
    token = _around.set(bar)
    try:
        yield bar
    finally:
        _around.reset(token)
        bar.close()


def track(iterable: Iterable[Item], description: str, total: float | None = None) -> Iterator[Item]:
    """The items, with a bar as in `progress`. `total` is their number; that of a list or the like is known.

    >>> sum(track([1, 2, 3], "Summing"))
    6
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    bar = Bar(description, total, _around.get())  # never the one around others: a generator may be left half-way
    try:
        for item in iterable:
            yield item
            bar.advance()
    finally:
        bar.close()
