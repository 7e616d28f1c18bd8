"""A function that can stop in the middle, hand something out, and go on later: a forward pass that waits for others.

The function runs in a thread of its own, because the code between here and the place where it stops is the user's.
Only one of the two threads runs at any time, so there is nothing to lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class _Stop(BaseException):
    """Unwinds a function that will not be continued. No Exception, so that no handler of the user's takes it."""


class Coroutine(Generic[Item]):
    """`function(pause)` runs up to each `pause(item)`; `resume` returns that item, or None once it has returned.

    >>> run = Coroutine(lambda pause: [pause(1), pause(2)])
    >>> run.resume(), run.resume(), run.resume()
    (1, 2, None)
    """

    def __init__(self, function: Callable[[Callable[[Item], None]], Any]) -> None:
        self._function = function
        self._item: Item | None = None
        self._error: BaseException | None = None
        self._stopped = False
        self._ended = False
        self._mine = threading.Semaphore(0)
        self._theirs = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def resume(self) -> Item | None:
        """Run to the next pause.

        Raises:
            BaseException: whatever the function raised, unchanged.
        """
        if self._ended:
            return None
        self._item = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._theirs.release()
        self._mine.acquire()
        if self._ended:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return self._item

    def close(self) -> None:
        """Unwind the function where it stands."""
        if self._thread is None or self._ended:
            self._ended = True
            return
        self._stopped = True
        self._theirs.release()
        self._mine.acquire()
        self._thread.join()

    def _pause(self, item: Item) -> None:
        self._item = item
        self._mine.release()
        self._theirs.acquire()
        if self._stopped:
            raise _Stop

    def _run(self) -> None:
        try:
            self._function(self._pause)
        except _Stop:
            pass
        except BaseException as error:
            self._error = error
        self._ended = True
        self._mine.release()
