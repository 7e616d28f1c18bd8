"""The hard cases, one table of small models per theme, each through the same laws."""

from __future__ import annotations

import drive
import models_attention
import models_control
import models_convolutions
import models_experts
import models_grouped_queries
import models_layers
import models_numbers
import models_parametrized
import models_shapes
import models_sizes
import models_stock_attention
import models_tensors
import models_views
import models_zoo
import pytest
import torch
from drive import Case
from torch import nn

from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.tracer import Example

pytestmark = [
    pytest.mark.models,
    # Of the processor's LSTM; the numbers are right.
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
]

THEMES = (
    models_views,
    models_shapes,
    models_convolutions,
    models_stock_attention,
    models_attention,
    models_grouped_queries,
    models_experts,
    models_layers,
    models_parametrized,
    models_tensors,
    models_control,
    models_sizes,
    models_zoo,
    models_numbers,
)
CASES = [pytest.param(case, id=case.name) for theme in THEMES for case in theme.CASES]


@pytest.mark.parametrize("case", CASES)
def test_groups_are_as_stated(case: Case) -> None:
    drive.check_groups(case)


@pytest.mark.parametrize("case", CASES)
def test_random_plans_equal_masking(case: Case) -> None:
    drive.check_exactness(case)


@pytest.mark.parametrize("case", CASES)
def test_marks_are_true(case: Case) -> None:
    drive.check_marks_are_true(case)


@pytest.mark.parametrize("case", CASES)
def test_one_call_prunes_it(case: Case) -> None:
    drive.check_public_call(case)


@pytest.mark.parametrize("case", CASES)
def test_trains_on_after_a_plan_over_all_groups(case: Case) -> None:
    drive.check_training_on(case)


@pytest.mark.parametrize("model_class", [models_control.decides_on_its_output, models_control.decides_in_an_argument])
def test_without_data_what_a_trace_made_last_is_an_output(model_class: type[nn.Module]) -> None:
    with torch.device("meta"):
        graph = build_graph(model_class().eval(), [Example(torch.empty(16, 6))])
    assert graph.programs[0].program.failure is not None
    frozen = {(row.tensor, row.dim): row.reason for row in graph.frozen()}
    assert "the trace ended here" in frozen["c.weight", 0]
