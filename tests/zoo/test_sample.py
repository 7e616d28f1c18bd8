"""A fixed sample of all zoos through the oracle. All of them: `make zoo-torchvision`, `make zoo-timm`, ..."""

from __future__ import annotations

import csv
import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]  # of the libraries that the models come from

# Drawn by benchmarks/zoo/sample.py.
with (Path(__file__).parent / "sample.csv").open(newline="") as file:
    SAMPLE = [(row["zoo"], row["model"], float(row["prunable_share"])) for row in csv.DictReader(file)]


@cache
def _cases(zoo: str) -> dict[str, Any]:
    return {case.name: case for case in importlib.import_module(f"{zoo}_zoo").cases()}


@pytest.mark.parametrize(("zoo", "model", "share"), SAMPLE, ids=[f"{zoo}-{model}" for zoo, model, _ in SAMPLE])
def test_is_exact_runs_and_trains(zoo: str, model: str, share: float) -> None:
    assert find_spec(zoo) is not None, f"{zoo} is not installed: make zoo-sample does it"
    measure = importlib.import_module("measure")
    row = measure.measure(_cases(zoo)[model], measure.Options())
    assert row["status"] == "exact", row
    assert row["prunable_share"] >= share - 0.001, "less can be pruned than when the sample was drawn"
