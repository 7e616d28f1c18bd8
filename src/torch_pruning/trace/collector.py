"""Python's garbage collector, out of the way."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No search for cyclic garbage meanwhile.

    A trace makes many objects that all stay, so that searches find nothing, and each walks everything that the process
    has imported: as much time as the trace itself. It is switched on again only if it was on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
