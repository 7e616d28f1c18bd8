"""Every random network satisfies the oracle; what it marks inexact runs all the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_architectures.strategies import Block, RandomNet, networks

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import random_choice
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models

# Networks on which an earlier version was wrong.
FOUND: list[tuple[list[Block], list[Block], str, int]] = []


def check(images: list[Block], tokens: list[Block], flatten: str, seed: int) -> None:
    torch.manual_seed(seed)
    net = RandomNet(images, tokens, flatten).eval()
    x = torch.randn(2, 3, 4, 4)
    graph = tp.build_graph(net, [Example(x)])
    assert graph.ops_without_rule() == {}
    assert graph.groups, "nothing can be pruned"
    exact = build_plan(graph, random_choice(graph, 0.4, exact_only=True, seed=seed))
    for mode in ("eval", "train"):
        seen = tp.verify(net, exact, rescale=True, mode=mode)
        assert seen.shapes_equal
        assert seen.error <= 1e-9, f"{mode}: {seen}\n{exact}"
        assert seen.gradient_error is not None
        assert seen.gradient_error <= 1e-9, f"{mode}: {seen}\n{exact}"
    every = build_plan(graph, random_choice(graph, 0.4, seed=seed))
    every.exec()
    assert net(x).shape == (2, 5)
    again = build_plan(graph, random_choice(graph, 0.4, exact_only=True, seed=seed + 1))
    assert tp.verify(net, again, rescale=True).error <= 1e-9


@settings(max_examples=120)
@given(networks(), st.integers(0, 3))
def test_random_architectures_satisfy_the_oracle(network: tuple[list[Block], list[Block], str], seed: int) -> None:
    check(*network, seed)


@pytest.mark.parametrize(("images", "tokens", "flatten", "seed"), FOUND)
def test_networks_that_were_wrong_once(images: list[Block], tokens: list[Block], flatten: str, seed: int) -> None:
    check(images, tokens, flatten, seed)
