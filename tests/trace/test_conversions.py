"""`int(size / 2)` keeps its source where the files of a model call `int`; nothing else about `int` changes for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.tracer import Example

FILE = """
import torch
from torch import nn
{above}

class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(4, 2)
        self.seen = ""

    def forward(self, x: torch.Tensor, fail: bool = False) -> torch.Tensor:
        x = self.first(x)
        half: int | None = int(x.shape[-1] / 2)
        assert isinstance(half, int) and isinstance(True, (int, str)) and not isinstance("", int)
        assert int("7") + int("ff", 16) + int(2.9) + int(torch.tensor(4)) + int() == 268
        assert not fail
        return self.last(x[:, :half] + x[:, half:])
"""


def written(folder: Path, above: str = "") -> ModuleType:
    path = folder / "halves.py"
    path.write_text(FILE.format(above=above))
    spec = importlib.util.spec_from_file_location("halves", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["halves"] = module
    spec.loader.exec_module(module)
    return module


def units(module: Any) -> set[str]:
    graph = build_graph(module.Halves(), [Example(torch.randn(3, 4))])
    return {group.name for group in graph.groups}


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    sys.modules.pop("halves", None)


def test_the_source_is_kept_and_the_file_left_as_it_was(tmp_path: Path) -> None:
    module = written(tmp_path)
    assert units(module) == {"first"}
    assert "int" not in vars(module)


@pytest.mark.parametrize(
    "above", ["KINDS = {int: 'whole'}", "Size = int | str", "BIG = int.from_bytes(b'a', 'big')", "int = int"]
)
def test_a_file_that_hands_int_on_keeps_it(tmp_path: Path, above: str) -> None:
    module = written(tmp_path, above)
    assert units(module) == set()
    assert vars(module).get("int", int) is int


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    module = written(tmp_path)
    module.Halves.forward.__defaults__ = (True,)
    with pytest.raises(AssertionError):
        build_graph(module.Halves(), [Example(torch.randn(3, 4))])
    assert "int" not in vars(module)
