"""Exactly as many units as asked for, or an error that says what can be had: scopes, floors, rounding, heads, ties."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import BudgetError
from torch_pruning.graph.groups import Group


def chain(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, with a ReLU after all but the last."""
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def kept(plan: tp.Plan) -> dict[str, int]:
    return {group.name: group.kept for group in plan.groups}


def scores_by_name(scores: dict[str, list[float]]) -> Callable[[Group], Tensor]:
    return lambda group: torch.tensor(scores[group.name])


def units_removed(plan: tp.Plan) -> int:
    return sum(group.size - group.kept for group in plan.groups)


X = torch.randn(2, 4)


# ---------------------------------------------------------------- local


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [10, 20, 40])
def test_local_removes_the_share_from_every_group(ratio: float, size: int) -> None:
    plan = tp.plan(chain(4, size, size, 3), X, pruning_ratio=ratio)
    assert kept(plan) == {"0": size - round(ratio * size - 1e-9), "2": size - round(ratio * size - 1e-9)}


def test_ratio_0_removes_nothing() -> None:
    for scope in ("local", "global", "isomorphic"):
        plan = tp.plan(chain(4, 10, 3), X, pruning_ratio=0, scope=scope)
        assert plan.groups == ()
        assert plan.exec() == 0


def test_ratio_just_under_1_leaves_one_unit_in_every_group() -> None:
    assert kept(tp.plan(chain(4, 10, 20, 3), X, pruning_ratio=0.999999)) == {"0": 1, "2": 1}


def test_a_ratio_that_rounds_to_nothing_is_an_error() -> None:
    with pytest.raises(BudgetError, match=r"rounds to no unit anywhere; the closest reachable ratios are 0 and 0\.1 "):
        tp.plan(chain(4, 10, 3), X, pruning_ratio=0.01)


def test_round_to_8_with_24_channels_and_ratio_a_tenth() -> None:
    with pytest.raises(BudgetError, match=r"closest reachable ratios are 0 and 0\.3333"):
        tp.plan(chain(4, 24, 3), X, pruning_ratio=0.1, round_to=8)
    assert kept(tp.plan(chain(4, 24, 80, 3), X, pruning_ratio=0.1, round_to=8)) == {"2": 72}


def test_6_channels_with_round_to_8_stay() -> None:
    with pytest.raises(BudgetError, match="no group may lose units"):
        tp.plan(chain(4, 6, 3), X, pruning_ratio=0.5, round_to=8)
    assert kept(tp.plan(chain(4, 6, 16, 3), X, pruning_ratio=0.5, round_to=8)) == {"2": 8}


@pytest.mark.parametrize(("ratio", "count"), [(0.3, 24), (0.45, 16), (0.2, 24), (0.6, 16)])
def test_rounding_goes_to_the_nearer_side(ratio: float, count: int) -> None:
    assert kept(tp.plan(chain(4, 32, 3), X, pruning_ratio=ratio, round_to=8)) == {"0": count}


def test_nothing_that_could_go_is_an_error() -> None:
    with pytest.raises(BudgetError, match=r"no group may lose units: the closest reachable ratio is 0"):
        tp.plan(nn.Linear(4, 3), X, pruning_ratio=0.5)


def test_a_bottleneck_of_one_unit_stays() -> None:
    for scope in ("local", "global", "isomorphic"):
        plan = tp.plan(chain(4, 10, 1, 10, 3), X, pruning_ratio=0.5, scope=scope)
        assert "2" not in kept(plan)
        assert units_removed(plan) == 10
        plan.exec()


# ---------------------------------------------------------------- global


@pytest.mark.parametrize("removed", range(0, 29))
def test_global_removes_exactly_the_lowest(removed: int) -> None:
    model = chain(4, 10, 20, 3)
    values = {"0": torch.rand(10).tolist(), "2": torch.rand(20).tolist()}
    ratio = removed / 30
    limit = sorted(values["0"])[:-1] + sorted(values["2"])[:-1]
    expected = sorted(limit)[:removed]
    plan = tp.plan(model, X, pruning_ratio=ratio, scope="global", importance=scores_by_name(values))
    gone = [values[g.name][unit] for g in plan.groups for unit in g.removed]
    assert sorted(gone) == pytest.approx(expected)


@pytest.mark.parametrize("removed", [1, 7, 15, 27, 28])
def test_global_with_all_scores_equal_removes_exactly_k_and_the_last_first(removed: int) -> None:
    plan = tp.plan(
        chain(4, 10, 20, 3), X, pruning_ratio=removed / 30, scope="global", importance=lambda g: torch.ones(g.size)
    )
    assert units_removed(plan) == removed
    for group in plan.groups:
        assert group.removed == tuple(range(group.kept, group.size))
    assert kept(plan)["2"] == max(1, 20 - removed)


def test_global_names_the_closest_ratio_when_floors_forbid_more() -> None:
    with pytest.raises(BudgetError, match=r"29 of 30 units .* at most 28 can go, .* reachable ratio is 0\.9333"):
        tp.plan(chain(4, 10, 20, 3), X, pruning_ratio=0.97, scope="global")
    with pytest.raises(BudgetError, match=r"at most 20 can go"):
        tp.plan(chain(4, 10, 20, 3), X, pruning_ratio=0.7, scope="global", minimum=5)


def test_max_pruning_ratio_holds_under_every_scope() -> None:
    low = {"0": [0.0] * 10, "2": [1.0] * 20}
    for scope in ("local", "global", "isomorphic"):
        plan = tp.plan(
            chain(4, 10, 20, 3),
            X,
            pruning_ratio=0.5,
            scope=scope,
            max_pruning_ratio=0.6,
            importance=scores_by_name(low),
        )
        assert units_removed(plan) == 15
        assert kept(plan)["0"] >= 4
    for budget in ({"macs": 0.5}, {"params": 0.5}, {"memory": 0.6}):
        for scope in ("local", "global", "isomorphic", "cost"):
            plan = tp.plan(
                chain(4, 10, 20, 3), X, scope=scope, max_pruning_ratio=0.6, importance=scores_by_name(low), **budget
            )
            assert all(group.kept >= 0.4 * group.size for group in plan.groups)


def test_more_than_max_pruning_ratio_is_an_error_that_names_it() -> None:
    with pytest.raises(BudgetError, match=r"closest reachable ratio is 0\.3"):
        tp.plan(chain(4, 10, 3), X, pruning_ratio=0.5, max_pruning_ratio=0.3)


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_scores_that_are_not_numbers_are_an_error_in_every_scope(scope: str) -> None:
    model = chain(4, 10, 20, 3)
    model[2].weight.data[4] = float("nan")
    with pytest.raises(ValueError, match=r"scores of .* must be finite, found \d+"):
        tp.plan(model, X, pruning_ratio=0.3, scope=scope)


def test_minimum_holds() -> None:
    assert kept(tp.plan(chain(4, 10, 20, 3), X, pruning_ratio=0.9, minimum=4)) == {"0": 4, "2": 4}


class Two(nn.Module):
    """Two convolutional branches of one structure, and one with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
        self.b = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
        self.c = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.a(x) + self.b(x) + self.c(x)).mean((2, 3)))


def test_isomorphic_ranks_groups_of_one_structure_together() -> None:
    scores = {"a.0": 0.0, "b.0": 1.0, "c.0": 5.0, "a.1": 2.0}

    def importance(group: Group) -> Tensor:
        return torch.full((group.size,), scores[group.name]) + torch.linspace(0, 0.1, group.size)

    plan = tp.plan(Two(), torch.randn(1, 3, 8, 8), pruning_ratio=0.25, scope="isomorphic", importance=importance)
    assert kept(plan) == {"a.0": 4, "c.0": 6, "a.1": 3}


# ---------------------------------------------------------------- ratios of their own


def test_ratios_by_module_name_pattern_and_parameter() -> None:
    model = chain(4, 10, 20, 40, 3)
    assert kept(tp.plan(model, X, pruning_ratio=0.5, ratios={model[0]: 0.2})) == {"0": 8, "2": 10, "4": 20}
    assert kept(tp.plan(model, X, pruning_ratio=0.5, ratios={"2": 0.0, "4.*": 0.25})) == {"0": 5, "4": 30}
    assert kept(tp.plan(model, X, pruning_ratio=0.5, ratios={model[4].weight: 0.1})) == {"0": 5, "2": 10, "4": 36}
    assert kept(tp.plan(model, X, pruning_ratio=0, ratios={model: 0.5, "0": 0.1})) == {"0": 9, "2": 10, "4": 20}


def test_a_tuple_shares_one_ranking() -> None:
    model = chain(4, 10, 10, 10, 3)
    scores = {"0": [1.0] * 10, "2": [2.0] * 10, "4": [0.0] * 10}
    plan = tp.plan(model, X, pruning_ratio=0.1, ratios={(model[0], model[2]): 0.4}, importance=scores_by_name(scores))
    assert kept(plan) == {"0": 2, "4": 9}


def test_ratios_hold_beside_a_budget() -> None:
    model = chain(4, 10, 20, 40, 3)
    for scope in ("local", "global", "cost"):
        plan = tp.plan(model, X, macs=0.5, scope=scope, ratios={"2": 0.1})
        assert kept(plan)["2"] == 18
        assert plan.after.macs <= plan.before.macs / 2


def test_keys_that_name_nothing_are_errors() -> None:
    model = chain(4, 10, 3)
    with pytest.raises(ValueError, match="must produce an axis that may be pruned"):
        tp.plan(model, X, pruning_ratio=0.5, ratios={"2": 0.1})
    with pytest.raises(ValueError, match="matches no tensor"):
        tp.plan(model, X, pruning_ratio=0.5, ratios={"nothing": 0.1})
    with pytest.raises(ValueError, match=r"ratios is the share .* found 1\.5"):
        tp.plan(model, X, pruning_ratio=0.5, ratios={"0": 1.5})


def test_ignored_parameters_stay() -> None:
    model = chain(4, 10, 20, 3)
    assert kept(tp.plan(model, X, pruning_ratio=0.5, ignore=[model[0].weight])) == {"2": 10}
    assert kept(tp.plan(model, X, pruning_ratio=0.5, ignore=model[0].weight)) == {"2": 10}
    with pytest.raises(ValueError, match="not in it"):
        tp.plan(model, X, pruning_ratio=0.5, ignore=[nn.Parameter(torch.zeros(3))])


# ---------------------------------------------------------------- heads


class Attention(nn.Module):
    """Four heads of eight, in a residual stream of 16, and a wider layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(16, 96), nn.Linear(32, 16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(self.up(x).relu())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"qkv#2": 4, "up": 12}),
        ({"head_ratio": 0.25}, {"qkv": 3, "qkv#2": 4, "up": 12}),
        ({"head_ratio": 0.5, "head_dim_ratio": 0.0}, {"qkv": 2, "up": 12}),
        ({"head_dim_ratio": 0.25}, {"qkv#2": 6, "up": 12}),
        ({"head_ratio": 0.25, "round_to": 8, "ratios": {"up": 0.3}}, {"qkv": 3, "up": 16}),
        ({"head_ratio": {"qkv": 0.75}, "ratios": {"up": 0.0}}, {"qkv": 1, "qkv#2": 4}),
    ],
)
def test_heads_move_by_their_own_ratio(options: dict[str, object], expected: dict[str, int]) -> None:
    model, x = Attention().eval(), torch.randn(2, 5, 16)
    plan = tp.plan(model, x, pruning_ratio=0.5, **options)
    assert kept(plan) == expected
    assert tp.verify(model, plan, rescale=True).exact
    plan.exec()
    assert model.heads == expected.get("qkv", 4)
    assert model(x).shape == x.shape


def test_heads_keep_their_ratio_under_a_budget() -> None:
    model, x = Attention().eval(), torch.randn(2, 5, 16)
    for scope in ("local", "global", "isomorphic", "cost"):
        plan = tp.plan(model, x, macs=0.5, head_ratio=0.25, scope=scope)
        assert kept(plan)["qkv"] == 3
        assert plan.after.macs <= plan.before.macs / 2


def test_head_ratio_without_heads_is_an_error() -> None:
    with pytest.raises(ValueError, match="head_ratio is for models with heads"):
        tp.plan(chain(4, 10, 3), X, pruning_ratio=0.5, head_ratio=0.5)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_groups_of_a_convolution_are_no_heads(layer: Callable[..., nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer(8, 8, 3, groups=4), nn.Conv2d(8, 2, 1))
    with pytest.raises(ValueError, match="head_ratio is for models with heads"):
        tp.plan(model, torch.randn(1, 3, 6, 6), pruning_ratio=0.5, head_ratio=0.5)


# ---------------------------------------------------------------- counts that are tied


class Halves(nn.Module):
    """chunk: both halves keep equally many units."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.left, self.right = nn.Linear(4, 20), nn.Linear(10, 3), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.both(x).chunk(2, -1)
        return self.left(a.relu()) + self.right(b.relu())


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_tied_axes_keep_equally_many(scope: str) -> None:
    model = Halves()
    plan = tp.plan(model, X, pruning_ratio=0.3, scope=scope)
    assert [group.kept for group in plan.groups] == [7, 7]
    plan.exec()
    assert model(X).shape == (2, 3)


# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic", "cost"])
@pytest.mark.parametrize("kind", ["macs", "params", "memory"])
def test_no_further_step_fits(scope: str, kind: str) -> None:
    model = chain(4, 30, 20, 40, 3)
    graph = tp.build_graph(model, [tp.Example(X)])
    from torch_pruning.pruner.budget import Budget
    from torch_pruning.pruner.decide import target_of

    target = target_of(graph, graph.clusters, Budget(kind, 0.5))
    plan = tp.plan(graph, scope=scope, **{kind: 0.5})
    left = kept(plan)
    steps = torch.tensor(
        [[left.get(graph.group_of[c.axes[0]].name, c.steps) for c in graph.clusters]], dtype=torch.float64
    )
    assert float(target.cost(steps)) <= target.limit
    for index, cluster in enumerate(graph.clusters):
        if steps[0, index] < cluster.steps:
            more = steps.clone()
            more[0, index] += 1
            assert float(target.cost(more)) > target.limit


def test_costs_are_those_of_the_graph() -> None:
    from torch_pruning.pruner.budget import Budget
    from torch_pruning.pruner.decide import target_of

    graph = tp.build_graph(Attention().eval(), [tp.Example(torch.randn(2, 5, 16))])
    clusters = graph.clusters
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        steps = [int(torch.randint(1, c.steps + 1, (), generator=generator)) for c in clusters]
        counts = {axis: n for c, t in zip(clusters, steps, strict=True) for axis, n in c.counts(t).items()}
        for kind, attribute in (("macs", "macs"), ("params", "parameters")):
            target = target_of(graph, clusters, Budget(kind, 1.0))
            assert float(target.cost(torch.tensor([steps]).double())) == getattr(graph.cost(counts), attribute)


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic", "cost"])
@pytest.mark.parametrize(("budget", "lowest"), [({"macs": 0.01}, "8"), ({"params": 11.0}, "13"), ({"memory": 9.0}, "")])
def test_a_budget_that_cannot_be_met_names_the_lowest(scope: str, budget: dict[str, float], lowest: str) -> None:
    with pytest.raises(BudgetError, match=rf"of at most .* the lowest reachable is {lowest}"):
        tp.plan(chain(4, 20, 20, 3), X, scope=scope, **budget)


def test_memory_is_the_parameters_and_the_largest_activations() -> None:
    from torch_pruning.pruner.memory import memory_cost

    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    graph = tp.build_graph(model, [tp.Example(X)])
    weights = 4 * (50 + 33)
    # The input stays with the caller; the largest moment is the ReLU, with what it reads and what it writes.
    (value,) = memory_cost(graph, graph.clusters)(torch.tensor([[10.0]], dtype=torch.float64)).tolist()
    assert value == weights + 4 * 2 * (4 + 10 + 10)
    (value,) = memory_cost(graph, graph.clusters)(torch.tensor([[3.0]], dtype=torch.float64)).tolist()
    assert value == 4 * (15 + 12) + 4 * 2 * (4 + 3 + 3)


def test_cost_scope_needs_a_cost() -> None:
    with pytest.raises(ValueError, match="weighs importance against a cost"):
        tp.plan(chain(4, 10, 3), X, pruning_ratio=0.5, scope="cost")


@pytest.mark.parametrize("kind", ["macs", "params", "memory"])
def test_cost_aware_keeps_at_least_what_the_other_scopes_keep(kind: str) -> None:
    model = chain(4, 30, 20, 40, 3)
    generator = torch.Generator().manual_seed(1)
    scores = {
        name: torch.rand(size, generator=generator).square().tolist()
        for name, size in zip("024", (30, 20, 40), strict=True)
    }

    def importance_kept(scope: str) -> float:
        plan = tp.plan(model, X, scope=scope, importance=scores_by_name(scores), **{kind: 0.5})
        left = kept(plan)
        return sum(sum(sorted(values)[-left.get(name, len(values)) :]) for name, values in scores.items())

    best = importance_kept("cost")
    assert best >= importance_kept("local")
    assert best >= importance_kept("global")


def test_cost_aware_is_optimal_where_costs_add_up() -> None:
    """Two hidden layers beside each other: parameters are a sum over both, so every choice can be tried."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = chain(4, 6, 3), chain(4, 7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.a(x), self.b(x)], -1)

    generator = torch.Generator().manual_seed(2)
    scores = {"a.0": torch.rand(6, generator=generator), "b.0": torch.rand(7, generator=generator)}
    best = {name: torch.cat([torch.zeros(1), s.sort(descending=True).values.cumsum(0)]) for name, s in scores.items()}
    for limit in range(30, 141, 10):
        plan = tp.plan(Beside(), X, params=limit, scope="cost", importance=lambda g: scores[g.name])
        left = {"a.0": 6, "b.0": 7, **kept(plan)}
        found = float(best["a.0"][left["a.0"]] + best["b.0"][left["b.0"]])
        possible = [
            float(best["a.0"][a] + best["b.0"][b])
            for a in range(1, 7)
            for b in range(1, 8)
            if 8 * a + 3 + 12 * b + 7 <= limit
        ]
        # Off by less than one unit's importance, the last step: marginal allocation rounds down.
        assert max(possible) - found <= 0.5 * max(float(s.max()) for s in scores.values())
