"""Plans as data: saving, replaying, staleness, all-or-nothing."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning.errors import BudgetError, CheckError, StalePlanError
from torch_pruning.planning import surgery

pytestmark = pytest.mark.ops


class Attention(nn.Module):
    """Fused qkv, a grouped convolution and a residual: plans for it have blocks, scales and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 16, 1)
        self.grouped = nn.Conv1d(16, 16, 3, padding=1, groups=4)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 5)
        self.heads = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.stem(x).relu()).transpose(1, 2)
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, -1)
        return self.head((x + self.out(y)).mean(1))


def inputs() -> torch.Tensor:
    return torch.randn(2, 3, 7)


def plan_for(model: nn.Module, ratio: float = 0.5) -> tp.Plan:
    return tp.plan(model, inputs(), pruning_ratio=ratio, importance="random", seed=1)


def test_the_plan_of_the_test_model_has_everything() -> None:
    model = Attention()
    plan = plan_for(model)
    assert plan.blocks
    assert plan.scales
    assert plan.exact
    assert tp.verify(model, plan).exact


def test_a_plan_comes_back_from_json_and_replays_on_a_fresh_model() -> None:
    model, other = Attention(), Attention()
    other.load_state_dict(model.state_dict())
    plan = plan_for(model)
    again = tp.Plan.from_json(plan.to_json())
    assert again == plan
    assert again.exec(model=other) == plan.exec()
    x = inputs()
    assert torch.equal(model(x), other(x))
    assert str(model) == str(other)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1}'])
def test_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a plan of format"):
        tp.Plan.from_json(text)


@pytest.mark.parametrize("entry", ["shapes", "kept", "blocks", "changes", "scales", "replaced", "groups", "cost"])
def test_a_plan_with_a_broken_entry_is_refused(entry: str) -> None:
    data = json.loads(plan_for(Attention()).to_json())
    with pytest.raises(ValueError, match="expected a plan of format"):
        tp.Plan.from_json(json.dumps({**data, entry: 7}))


def test_planning_twice_gives_the_same_plan_and_touches_nothing() -> None:
    model = Attention()
    before = copy.deepcopy(model.state_dict())
    assert plan_for(model) == plan_for(model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_stale_plan_is_refused() -> None:
    model = Attention()
    first, second = plan_for(model), plan_for(model)
    first.exec()
    with pytest.raises(StalePlanError, match="plan again"):
        second.exec()


def test_ratio_zero_changes_nothing() -> None:
    model = Attention()
    plan = plan_for(model, 0.0)
    assert plan.removed == {}
    assert plan.exec() == 0


def test_a_crash_inside_surgery_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Attention()
    model(inputs()).sum().backward()
    plan = plan_for(model)
    tensors = {name: (id(p), p.clone(), p.grad.clone()) for name, p in model.named_parameters()}
    dictionaries = {name: dict(module.__dict__) for name, module in model.named_modules()}
    real, calls = surgery.assign, []

    def failing(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError("no memory left")
        real(*args)

    monkeypatch.setattr(surgery, "assign", failing)
    with pytest.raises(MemoryError):
        plan.exec()
    monkeypatch.undo()
    for name, parameter in model.named_parameters():
        identity, data, grad = tensors[name]
        assert id(parameter) == identity
        assert torch.equal(parameter, data)
        assert torch.equal(parameter.grad, grad)
    for name, module in model.named_modules():
        assert {k: v for k, v in module.__dict__.items() if isinstance(v, int)} == {
            k: v for k, v in dictionaries[name].items() if isinstance(v, int)
        }
    plan.exec()


def test_check_finds_a_plan_that_would_not_run_and_puts_the_model_back() -> None:
    model = Attention()
    before = copy.deepcopy(model.state_dict())
    broken = tp.plan(model, inputs(), pruning_ratio=0.5)
    del broken.kept["out.weight"][1]
    with pytest.raises(CheckError, match="does not run"):
        broken.exec()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model(inputs()).shape == (2, 5)


def test_pruning_a_pruned_model_again_and_again() -> None:
    model = Attention()
    for seed in range(3):
        plan = tp.plan(model, inputs(), pruning_ratio=0.3, importance="random", seed=seed)
        assert tp.verify(model, plan).exact
        plan.exec()
    assert model(inputs()).shape == (2, 5)


BUDGETS = [("macs", 0.5), ("macs", 0.25), ("params", 0.5), ("params", 0.3)]


@pytest.mark.parametrize(("kind", "share"), BUDGETS)
def test_budgets_are_met_to_within_the_cheapest_step(kind: str, share: float) -> None:
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 5))
    plan = tp.plan(model, torch.randn(3, 10), **{kind: share})
    attribute = "macs" if kind == "macs" else "parameters"
    before, after = getattr(plan.before, attribute), getattr(plan.after, attribute)
    assert after <= share * before
    plan.exec()
    counted = sum(p.numel() for p in model.parameters())
    assert counted == plan.after.parameters
    # one more unit anywhere would be too many
    widths = [model[0].out_features, model[2].out_features]
    for index in range(2):
        more = [*widths]
        more[index] += 1
        a, b = more
        cost = 10 * a + a * b + b * 5 + (0 if kind == "macs" else a + b + 5)
        assert cost > share * before


def test_a_budget_out_of_reach_names_the_lowest_one() -> None:
    model = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 5))
    with pytest.raises(BudgetError, match=r"the lowest reachable is 21"):
        tp.plan(model, torch.randn(1, 10), params=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of"),
        ({"macs": 0.5, "params": 0.5}, "exactly one of"),
        ({"pruning_ratio": 1.0}, "below 1"),
        ({"pruning_ratio": -0.1}, "at least 0"),
        ({"macs": 0}, "must be positive"),
        ({"macs": float("nan")}, "must be a number"),
        ({"pruning_ratio": 0.5, "round_to": 0}, "round_to"),
        ({"pruning_ratio": 0.5, "importance": "beauty"}, "importance must be one of"),
        ({"pruning_ratio": 0.5, "ignore": ["nothing.*"]}, "matches no tensor"),
        ({"pruning_ratio": 0.5, "ignore": [nn.ReLU()]}, "not in it"),
        ({"pruning_ratio": 0.5, "follow": "nobody"}, "follow must be"),
        ({"pruning_ratio": 0.5, "ratios": 0.5}, "ratios must be a dict"),
        ({"pruning_ratio": 0.5, "ratios": {"2": 0.5}}, "found '2'"),
        ({"pruning_ratio": 0.5, "importance": tp.importance.MagnitudeImportance}, r"make one, MagnitudeImportance\(\)"),
        ({"pruning_ratio": 0.5, "importance": lambda group: None}, "found NoneType for 0, by"),
        ({"pruning_ratio": 0.5, "importance": lambda group: "best"}, "found str for 0, by"),
    ],
)
def test_bad_requests_say_what_is_wrong(options: dict[str, object], message: str) -> None:
    model = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 5))
    with pytest.raises(ValueError, match=message):
        tp.plan(model, torch.randn(1, 10), **options)  # type: ignore[arg-type]


def test_modules_that_have_no_ratio_are_named() -> None:
    model = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 5))
    with pytest.raises(ValueError, match="found '2'"):
        tp.plan(model, torch.randn(1, 10), pruning_ratio=0.5, ratios={model[2]: 0.5})


def test_what_is_no_model_or_has_no_example_is_refused() -> None:
    model = nn.Linear(10, 4)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, found OrderedDict"):
        tp.plan(model.state_dict(), torch.randn(1, 10), macs=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="example_inputs is None"):
        tp.plan(model, macs=0.5)
    with pytest.raises(TypeError, match="example_inputs is None"):
        tp.Pruner(model, macs=0.5)


def test_numbers_of_numpy_are_numbers() -> None:
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    inputs = torch.randn(1, 3)
    ours = tp.plan(model, inputs, pruning_ratio=0.5, round_to=4, minimum=2)
    theirs = tp.plan(model, inputs, pruning_ratio=np.float32(0.5), round_to=np.int64(4), minimum=np.int64(2))
    assert theirs.to_json() == ours.to_json()


@pytest.mark.parametrize(("channels", "round_to", "ratio", "kept"), [(24, 8, 0.3, 16), (30, 4, 0.5, 16)])
def test_rounding(channels: int, round_to: int, ratio: float, kept: int) -> None:
    model = nn.Sequential(nn.Linear(3, channels), nn.ReLU(), nn.Linear(channels, 2))
    tp.prune(model, torch.randn(1, 3), pruning_ratio=ratio, round_to=round_to)
    assert model[0].out_features == kept


def test_tied_scores_remove_exactly_as_many_units_as_asked() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    plan = tp.plan(model, torch.randn(1, 3), pruning_ratio=0.3)
    assert plan.removed["0.weight"][0].tolist() == [7, 8, 9]


def test_scores_that_are_not_numbers_are_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 2))
    model[0].weight.data[4] = float("nan")
    with pytest.raises(ValueError, match=r"scores of 0 must be finite, found 1"):
        tp.plan(model, torch.randn(1, 3), pruning_ratio=0.3)


def test_a_criterion_of_the_users_own() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 2))
    plan = tp.plan(model, torch.randn(1, 3), pruning_ratio=0.3, importance=lambda group: torch.arange(group.size))
    assert plan.removed["0.weight"][0].tolist() == [0, 1, 2]


def test_ignored_layers_keep_their_outputs_while_their_inputs_shrink() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))
    tp.prune(model, torch.randn(1, 3), pruning_ratio=0.5, ignore=[model[2]])
    assert [tuple(model[i].weight.shape) for i in (0, 2, 4)] == [(5, 3), (8, 5), (2, 8)]


def test_heads_or_head_dims_follow_a_width_that_the_code_ties_to_both() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inp, self.qkv, self.out, self.head = (
                nn.Linear(6, 32),
                nn.Linear(32, 96),
                nn.Linear(32, 32),
                nn.Linear(32, 5),
            )
            self.heads = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.inp(x)
            b, t, c = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)
            return self.head(x + self.out(y))

    for follow, heads, width in (("head_dims", 4, 16), ("heads", 2, 16)):
        model, x = Tied(), torch.randn(2, 5, 6)
        plan = tp.plan(model, x, pruning_ratio=0.5, follow=follow)
        assert tp.verify(model, plan).exact
        plan.exec()
        assert (model.heads, model.inp.out_features) == (heads, width)
        assert model(x).shape == (2, 5, 5)
