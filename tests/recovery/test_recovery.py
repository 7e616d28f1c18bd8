"""What recovery promises of any model: never worse, all or nothing, in every form that calibration inputs come in."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from tests.recovery.models import MODELS, Decoder, GatedBlock, Residual, settled
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning import recovery
from torch_pruning.errors import CalibrationError, CheckError, StalePlanError
from torch_pruning.recovery.coroutine import Coroutine


def error(model: nn.Module, dense: Tensor, x: Tensor) -> float:
    """The squared error of the outputs, relative to their variance."""
    with torch.no_grad():
        return float((model.eval()(x) - dense).square().mean() / dense.var())


def everything(model: nn.Module) -> dict[str, Any]:
    state = {name: tensor.clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    return {
        **state,
        "parameters": [id(p) for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "random": torch.get_rng_state(),
        "python": random.getstate(),
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[key].equal(b[key]) if isinstance(a[key], Tensor) else a[key] == b[key] for key in a
    )


@pytest.mark.parametrize("name", MODELS)
def test_no_layer_is_worse_than_without_and_the_model_is_better(name: str) -> None:
    make, inputs = MODELS[name]
    x = inputs()
    model = settled(make(), x)
    with torch.no_grad():
        dense = model(x)
    losses = {}
    for method in ("none", "least_squares"):
        pruned = copy.deepcopy(model)
        report = recovery.execute(
            tp.plan(pruned, x[:2], pruning_ratio=0.5, importance="random"), x.split(8), method=method
        )
        losses[method] = error(pruned, dense, x)
        assert all(row.after <= row.before for row in report.solved)
    changed = [row for row in report.solved if row.after < 0.99 * row.before]
    assert len(changed) >= 3
    assert losses["least_squares"] < 0.9 * losses["none"]


def test_tied_weights_are_left_alone_and_named() -> None:
    model = Decoder().eval()
    x = torch.randint(31, (8, 12))
    report = recovery.reconstruct(tp.plan(model, x[:1], pruning_ratio=0.5), [x])
    assert [row.name for row in report.refused] == ["embedding.weight"]
    assert "aten.embedding" in report.refused[0].reason
    assert "left alone" in report.summary()
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize("name", ["o", "down"])
def test_values_and_gated_units_are_made_up_for_by_what_reads_them(name: str) -> None:
    """Head dims of values per head, and hidden units of the feed-forward net: the sum that the layer adds to is met."""
    model = GatedBlock(width=16, heads=4, groups=2).double().eval()
    x = torch.randn(32, 10, 16).double()
    plan = tp.plan(model, x[:1], pruning_ratio=0.25, importance="random")
    assert plan.kept[f"{name}.weight"][1]
    report = recovery.reconstruct(plan, x.split(8))
    (row,) = (row for row in report.solved if row.weight == f"{name}.weight")
    assert row.after < 0.9 * row.before


class Cracked(nn.Module):
    """A network whose hidden layer fails, or gives what is not finite, from the nth call on."""

    def __init__(self, calls: int, fails: bool) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.calls, self.fails = [0, calls], fails

    def forward(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        x = self.norm(self.first(x))
        if self.calls[0] > self.calls[1]:
            if self.fails:
                raise RuntimeError("cracked")
            x = x * float("nan")
        return self.last(x)


@pytest.mark.parametrize("method", ["batch_norm", "mean", "least_squares"])
def test_model_is_untouched_after_a_failure(method: str) -> None:
    """It fails in the dense run, in the pruned run, in the middle of the batch norms: wherever it is looked at
    again."""
    failures, batches = 0, torch.randn(3, 8, 4).unbind()
    for calls in range(30):
        model = Cracked(10**9, True)
        model.first.training = False
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
        plan = tp.plan(model, torch.randn(2, 4), pruning_ratio=0.5)
        model.calls[:] = [0, calls]
        before = everything(model)
        try:
            recovery.execute(plan, batches, method=method, optimizer=optimizer)
        except (CalibrationError, CheckError, RuntimeError):
            model.calls[1] = 10**9
            assert same(before, everything(model)), f"touched when call {calls} fails"
            assert optimizer.state[model.first.weight]["momentum_buffer"].shape == (8, 4)
            failures += 1
        else:
            assert model.first.out_features == 4
            assert optimizer.state[model.first.weight]["momentum_buffer"].shape == (4, 4)
            break
    assert failures >= 3, "the model was hardly looked at"


def test_values_that_are_not_finite_are_refused() -> None:
    model = Cracked(10**9, False)
    plan = tp.plan(model, torch.randn(2, 4), pruning_ratio=0.5)
    model.calls[:] = [0, 0]
    batch = torch.randn(8, 4)
    before = everything(model)
    with pytest.raises(CalibrationError, match=r"finite.*last\.weight in batch 0"):
        recovery.reconstruct(plan, [batch])
    assert same(before, everything(model))


def test_modes_random_state_and_inputs_come_back_after_success() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(8, 2))
    model[1].eval()
    x = torch.randn(32, 4)
    state, inputs = torch.get_rng_state(), x.clone()
    recovery.reconstruct(tp.plan(model, x[:1], pruning_ratio=0.5), [x])
    assert [module.training for module in model] == [True, False, True, True]
    assert torch.get_rng_state().equal(state)
    assert x.equal(inputs)
    assert not model[3].weight.is_inference()
    model(x).sum().backward()
    assert model[3].weight.grad.shape == (2, 4)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.last(torch.relu(self.a(a) + self.b(b)))


ONE, A, B = torch.randn(40, 3), torch.randn(40, 3), torch.randn(40, 2)
LABELS = torch.zeros(40)
FORMS = [
    (ONE[:1], [ONE], ONE),
    (ONE[:1], [(ONE, LABELS)], ONE),
    (ONE[:1], [[ONE, {"label": LABELS}]], ONE),
    ((ONE[:1],), [ONE], ONE),
    ((A[:1], B[:1]), [(A, B)], (A, B)),
    ((A[:1], B[:1]), [[A, B, LABELS]], (A, B)),
    ({"a": A[:1], "b": B[:1]}, [{"b": B, "labels": LABELS, "a": A}], (A, B)),
    (ONE[:1], torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ONE, LABELS), batch_size=40), ONE),
]


@pytest.mark.parametrize(("example", "calibration", "inputs"), FORMS)
def test_batches_come_as_the_example_does(example: Any, calibration: Any, inputs: Any) -> None:
    alone = isinstance(inputs, Tensor)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)) if alone else Several()
    expected = copy.deepcopy(model)
    recovery.reconstruct(tp.plan(expected, inputs, pruning_ratio=0.5), [inputs])
    recovery.reconstruct(tp.plan(model, example, pruning_ratio=0.5), calibration)
    assert all(a.equal(b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize(
    ("example", "calibration", "message"),
    [
        (ONE, [], "at least one batch"),
        (ONE, ONE, "put it into a list"),
        (ONE, 3, "found one int"),
        (ONE, [{"x": ONE}], "a tensor"),
        ((A, B), [(A,)], "at least 2 entries"),
        ({"a": A, "b": B}, [{"a": A}], r"dict with \['b'\]"),
    ],
)
def test_other_batches_are_refused(example: Any, calibration: Any, message: str) -> None:
    model = nn.Linear(3, 8) if isinstance(example, Tensor) else Several()
    model = nn.Sequential(model, nn.Linear(8, 2)) if isinstance(example, Tensor) else model
    plan = tp.plan(model, example, pruning_ratio=0.5)
    before = everything(model)
    with pytest.raises(CalibrationError, match=message):
        recovery.reconstruct(plan, calibration)
    assert same(before, everything(model))


def test_an_unknown_method_is_refused_with_or_without_batches() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    for calibration in (None, [ONE]):
        with pytest.raises(ValueError, match="method must be one of"):
            tp.prune(model, ONE, pruning_ratio=0.5, calibration=calibration, recovery="prayer")
    assert model[0].out_features == 8


def test_a_plan_without_a_graph_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    plan = tp.Plan.from_json(tp.plan(model, ONE[:1], pruning_ratio=0.5).to_json())
    with pytest.raises(StalePlanError, match="plan again"):
        recovery.reconstruct(plan, [ONE])


@pytest.mark.parametrize(
    "wrong", [{"method": "magic"}, {"layers": "some"}, {"rows": 0}, {"held_out": 1.0}, {"strengths": ()}]
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        recovery.Options(**wrong)


def test_a_new_bias_is_known_to_graph_and_optimizer() -> None:
    """The layer is trained and pruned again as if it had always had one."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(64, 4)
    graph = tp.build_graph(model, [tp.Example(x[:1])])
    recovery.compensate_mean(tp.plan(graph, pruning_ratio=0.5), [x], optimizer=optimizer)
    assert model[2].bias.shape == (4,)
    assert any(parameter is model[2].bias for parameter in optimizer.param_groups[0]["params"])
    assert graph.cost().parameters == sum(p.numel() for p in model.parameters())
    recovery.compensate_mean(tp.plan(graph, pruning_ratio=0.5), [x], optimizer=optimizer)
    assert model[2].bias.shape == (2,)
    model(x).sum().backward()
    optimizer.step()


def test_rows_that_are_looked_at_are_few_and_the_same() -> None:
    x = torch.randn(64, 3, 10, 10)
    model = settled(Residual(), x)
    copies = [copy.deepcopy(model), copy.deepcopy(model)]
    for pruned in copies:
        report = recovery.reconstruct(tp.plan(pruned, x[:2], pruning_ratio=0.5), x.split(16), rows=1024)
        assert max(row.rows for row in report.solved) == 1024
    assert all(a.equal(b) for a, b in zip(copies[0].parameters(), copies[1].parameters(), strict=True))


class Routed(nn.Module):
    """Whether the second expert runs depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.often, self.seldom = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.often(x) + (self.seldom(x) if x.shape[0] > 4 else 0)
        return self.last(torch.relu(x))


def test_batches_may_take_different_ways() -> None:
    model = Routed()
    x = torch.randn(60, 3)
    plan = tp.plan(model, x[:8], pruning_ratio=0.5)
    report = recovery.reconstruct(plan, [x[:4], x[4:30], x[30:]])
    assert {row.weight: row.rows for row in report.solved} == {
        "often.weight": 60,
        "seldom.weight": 56,
        "last.weight": 60,
    }


def test_a_coroutine_passes_errors_on_and_can_be_left() -> None:
    left = []

    def fails(pause: Any) -> None:
        pause(1)
        raise KeyError("inside")

    def waits(pause: Any) -> None:
        try:
            pause(1)
        finally:
            left.append(True)

    run = Coroutine(fails)
    assert run.resume() == 1
    with pytest.raises(KeyError, match="inside"):
        run.resume()
    assert run.resume() is None
    run = Coroutine(waits)
    run.resume()
    run.close()
    assert left == [True]
    run.close()


class Remembering(nn.Module):
    """Its last layer reads what an earlier one left on the module: runs side by side would read each other's."""

    def __init__(self, remembers: bool) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.remembers = remembers
        self.left = None

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        if self.remembers:
            self.left = x
        y = torch.tanh(self.middle(x))
        return self.last(y * (self.left if self.remembers else x))


def test_models_that_leave_something_on_themselves_are_run_one_batch_at_a_time() -> None:
    x = torch.randn(96, 4)
    plain, remembering = Remembering(False), Remembering(True)
    remembering.load_state_dict(plain.state_dict())
    for model in (plain, remembering):
        recovery.reconstruct(tp.plan(model, x[:1], pruning_ratio=0.5), x.split(24))
    for a, b in zip(plain.parameters(), remembering.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert remembering.left is None


def test_half_precision_is_solved_in_a_higher_one() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
    x = torch.randn(256, 8)
    half, x_half = copy.deepcopy(model).bfloat16(), x.bfloat16()
    with torch.no_grad():
        dense = model(x)
    recovery.reconstruct(tp.plan(model, x[:1], pruning_ratio=0.25), x.split(64))
    recovery.reconstruct(tp.plan(half, x_half[:1], pruning_ratio=0.25), x_half.split(64))
    assert half[2].weight.dtype == torch.bfloat16
    with torch.no_grad():
        found = float((half(x_half).float() - dense).square().mean() / dense.var())
    assert found < error(model, dense, x) + 1e-3
