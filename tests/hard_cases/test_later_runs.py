"""Models that go another way in later runs: by what they keep from the first one, or by their data."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import StalePlanError
from torch_pruning.graph.graph import build_graph
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import random_choice
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models


class keeps_positions(nn.Module):
    """Positions of its pixels are computed in the first run, and found in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.b = nn.Conv2d(8, 2, 1)
        self.shape: Any = None
        self.grid = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        if self.shape != x.shape[2:]:
            self.grid = torch.arange(x.shape[2] * x.shape[3]).view(x.shape[2:]).float()
            self.shape = x.shape[2:]
        return x + self.grid


class keeps_a_width(nn.Module):
    """A table as wide as the features is computed in the first run, and would no longer fit after pruning."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        if self.table is None:
            self.table = torch.zeros(x.shape[1])
        return self.b(x + self.table)


class picks_rows(nn.Module):
    """As many rows as the data say, and one op more if there are many."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        rows = x[x.sum(1) > 0]
        return rows.flatten() if len(rows) > 100 else rows.flatten().abs()


class reads_positions(nn.Module):
    """As many positions of a table as there are rows that the data pick."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)
        self.table = nn.Buffer(torch.randn(100, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        rows = x[x.sum(1) > 0]
        return self.c(rows + self.table[: len(rows)])


class cached_by_function(nn.Module):
    """Frequencies from a cached method: one that a trace computed would be no tensor that a later run can use."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)
        self.steps = torch.arange(1.0, 5.0)

    @functools.lru_cache(maxsize=None)  # noqa: B019, UP033
    def table(self, rows: int) -> Tensor:
        return self.steps[:rows].cos()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) * self.table(x.shape[0])[:, None]


def remembered(function: Any) -> Any:
    """A decorator of one's own around a cache, which only its closure holds."""
    cached = functools.lru_cache(maxsize=None)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return cached(*args)

    return call


class cached_in_a_closure(cached_by_function):
    """The same behind two decorators."""

    table = remembered(remembered(cached_by_function.table.__wrapped__))


def _plan(model: nn.Module, x: Tensor) -> tp.Plan:
    graph = build_graph(model, [Example(x)])
    return build_plan(graph, random_choice(graph, 0.4))


def test_what_was_kept_from_a_run_after_the_trace_is_followed() -> None:
    model, x = keeps_positions().eval(), torch.randn(2, 3, 9, 9)
    plan = _plan(model, x)
    assert plan.parameters_removed
    expected = model(x)
    plan.check()
    plan.exec()
    assert model(x).shape == expected.shape
    assert model.a.out_channels < 8


def test_what_was_kept_and_would_not_fit_is_refused() -> None:
    model, x = keeps_a_width().eval(), torch.randn(4, 6)
    plan = _plan(model, x)
    assert plan.parameters_removed
    before = model(x)
    with pytest.raises(StalePlanError, match="keeps something from a run since then"):
        plan.exec()
    assert torch.equal(model(x), before)
    _plan(model, x).exec()  # planned anew, the table is pruned along
    assert model(x).shape == before.shape
    assert model.table is not None
    assert model.table.shape == (model.a.out_features,) != (8,)


def _pruned_to_other_rows(model: nn.Module) -> None:
    """Prune it; the number of rows that it gives depends on data, and is another one then."""
    x = torch.randn(40, 6)
    plan = _plan(model, x)
    assert plan.parameters_removed
    rows = model(x).shape
    plan.exec()
    assert model(x).shape != rows, "this test needs data for which the rows differ"


def test_rows_that_the_data_decide_may_be_others_after_pruning() -> None:
    torch.manual_seed(0)
    _pruned_to_other_rows(picks_rows().eval())


def test_a_table_is_read_as_far_as_the_data_say() -> None:
    torch.manual_seed(0)
    model = reads_positions().eval()
    _pruned_to_other_rows(model)
    assert model.table.shape == (100, model.b.out_features) != (100, 7)


class drops_by_function(nn.Module):
    """Dropout by a function, at a rate of the model's own; batch norm after what is equal for equal samples."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.b = nn.Linear(16, 8)
        self.again = nn.BatchNorm1d(8)
        self.c = nn.Linear(8, 5)
        self.rate = 0.3

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.b(self.norm(self.a(x)).relu()))
        return self.c(torch.nn.functional.dropout(x, self.rate, self.training))


def test_training_mode_is_compared_without_dropout_and_on_samples_that_differ() -> None:
    torch.manual_seed(0)
    model, x = drops_by_function().eval(), torch.randn(1, 6)
    plan = _plan(model, x)
    seen = tp.verify(model, plan, mode="train", rescale=True)
    assert seen.exact, seen
    assert model.rate == 0.3


@pytest.mark.parametrize("make", [cached_by_function, cached_in_a_closure])
def test_caches_of_functions_keep_nothing_of_a_trace_or_a_comparison(make: type[nn.Module]) -> None:
    model, x = make().eval(), torch.randn(4, 6)
    plan = _plan(model, x)
    expected = model(x)
    assert tp.verify(model, plan, rescale=True).exact
    assert torch.equal(model(x), expected)
    plan.exec()
    assert model(x).dtype == torch.float32
