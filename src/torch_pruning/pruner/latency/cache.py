"""Measured times, kept on disk from one run to the next."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = "TORCH_PRUNING_CACHE"


def cache_folder() -> Path:
    """$TORCH_PRUNING_CACHE, or torch-pruning in the user's cache folder."""
    given = os.environ.get(FOLDER)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch-pruning"


class Times:
    """Milliseconds by op and sizes, for one device; what is missing is measured. `save` writes them to the folder.

    A file that cannot be read or written is as good as none: times are measured again.
    """

    def __init__(self, device: str, folder: Path | None = None) -> None:
        self.device = device
        self.path = (folder or cache_folder()) / "latency.json"
        self.known: dict[str, float] = self._read().get(device, {})
        self.new: dict[str, float] = {}

    def get(self, key: str, measure: Callable[[], float]) -> float:
        """The time of this key, measured if it is not known."""
        if key not in self.known:
            self.known[key] = self.new[key] = measure()
        return self.known[key]

    def save(self) -> None:
        """Add what was measured to the file; others may have written to it meanwhile."""
        if not self.new:
            return
        whole = self._read()
        whole[self.device] = {**whole.get(self.device, {}), **self.new}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, suffix=".json")
            with os.fdopen(descriptor, "w") as file:
                json.dump(whole, file)
            os.replace(name, self.path)
        except OSError:
            return
        self.new.clear()

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        rows = found.items() if isinstance(found, dict) else ()
        return {str(device): dict(times) for device, times in rows if isinstance(times, dict)}
