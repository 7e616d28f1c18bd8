"""Scores of units in lanes, against a count entry by entry."""

from __future__ import annotations

import itertools
import math

import drive
import models_attention
import models_convolutions
import models_grouped_queries
import models_stock_attention
import models_views
import pytest
import torch
from drive import Case

from torch_pruning.axes.expression import Free
from torch_pruning.axes.positions import owners_of_positions
from torch_pruning.graph.graph import build_graph
from torch_pruning.graph.groups import Group
from torch_pruning.importance.weight import MagnitudeImportance
from torch_pruning.trace.substitute import named_tensors

pytestmark = pytest.mark.models

LANED = [
    case
    for theme in (models_views, models_convolutions, models_stock_attention, models_attention, models_grouped_queries)
    for case in theme.CASES
    if any(stated.lanes > 1 for stated in case.groups)
]


def _entry_by_entry(group: Group, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum of |w| over the entries that belong to each unit in each lane: [lanes, units]."""
    scores = torch.zeros(math.prod(lane.size for lane in group.lanes), group.size)
    for member in group.members:
        owners = [[dict(found) for found in owners_of_positions(axis)] for axis in member.siblings]
        for index in itertools.product(*map(range, tensors[member.tensor].shape)):
            own: dict[Free, int] = owners[member.dim][index[member.dim]]
            if group.axis not in own:
                continue
            around = {lane: unit for dim, at in enumerate(index) for lane, unit in owners[dim][at].items()} | own
            lane_number = 0
            for lane in group.lanes:
                lane_number = lane_number * lane.size + around[lane]
            scores[lane_number, own[group.axis]] += tensors[member.tensor][index].abs()
    return scores


@pytest.mark.parametrize("case", LANED, ids=lambda case: case.name)
def test_scores_are_sums_over_the_entries_of_a_unit_in_its_lane(case: Case) -> None:
    graph = build_graph(drive.built(case), [case.example()])
    tensors = {name: tensor.detach() for name, tensor in named_tensors(graph.model)}
    laned = [group for group in graph.groups if group.lanes]
    assert laned
    criterion = MagnitudeImportance(1, "joint", normalizer=None, bias=True, target_types=None)
    for group in laned:
        assert torch.allclose(criterion(group, tensors), _entry_by_entry(group, tensors), rtol=1e-4)
