"""The ring `zoo` takes minutes and the extra of that name: it runs when asked for, with `-m zoo`."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("YOLO_OFFLINE", "true")  # its package asks the network on import whether there is one
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "zoo"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "zoo" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="takes minutes: run with -m zoo")
    for item in items:
        if item.get_closest_marker("zoo"):
            item.add_marker(skip)
