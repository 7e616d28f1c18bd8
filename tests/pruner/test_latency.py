"""Latency: ops run again at other widths, times interpolated between a grid, kept on disk, and set right by measuring.

Clocks are replaced where numbers matter: what a time depends on is then known, and the same on every machine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import BudgetError
from torch_pruning.graph.counts import counted
from torch_pruning.pruner.latency import cache, clock, meet, model
from torch_pruning.pruner.latency.cache import Times
from torch_pruning.pruner.latency.model import LatencyModel
from torch_pruning.pruner.latency.ops import all_work, runner, signature
from torch_pruning.pruner.selection import movable

CPU = torch.device("cpu")


def elements_of(key: str) -> float:
    """The elements of all tensors that a signature names: linear in each width by itself."""
    shapes = [*re.findall(r"\[([\d, ]+)\] (?:float|int|bool)", key), key.rpartition("-> [")[2].rstrip("]")]
    return sum(math.prod(int(size) for size in shape.split(",") if size.strip()) for shape in shapes) / 1000


class Computed(Times):
    """Times that follow the number of elements; nothing is measured or written."""

    def __init__(self) -> None:
        super().__init__("computed", Path("/nowhere"))

    def get(self, key: str, measure: Callable[[], float]) -> float:
        return elements_of(key)


class Grouped(nn.Module):
    """Grouped convolution, concatenation, pooling and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.c, self.norm = nn.Conv2d(32, 24, 1), nn.BatchNorm2d(24)
        self.up, self.head = nn.ConvTranspose2d(24, 12, 2, groups=2), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = self.norm(self.c(torch.cat([x, x + self.b(x)], 1)))
        return self.head(self.up(x).mean((2, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (lambda: nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 24), nn.Linear(24, 4)), (2, 8)),
    "grouped": (Grouped, (2, 3, 8, 8)),
    "resnet": (torchvision.models.resnet18, (1, 3, 32, 32)),
    "vit": (lambda: torchvision.models.VisionTransformer(16, 8, 2, 4, 32, 64, num_classes=10), (2, 3, 16, 16)),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 4], [4, 4], num_classes=5),
        (1, 3, 32, 32),
    ),
}


def built(name: str) -> tuple[nn.Module, tp.Graph]:
    make, shape = MODELS[name]
    module = make().eval()
    return module, tp.build_graph(module, [tp.Example(torch.randn(shape))])


@pytest.mark.parametrize("name", MODELS)
def test_ops_run_at_other_widths(name: str) -> None:
    _, graph = built(name)
    works = all_work(graph)
    assert works
    for share in (1.0, 0.5):
        counts = {a: n for c in movable(graph, set(), False) for a, n in c.counts(round(c.steps * share)).items()}
        for work in works:
            *inputs, result = work.shapes(counted(counts))
            found = runner(work, (*inputs, result), CPU)()
            first = found[0] if isinstance(found, (tuple, list)) else found
            assert tuple(first.shape) == result, work.call


@pytest.mark.parametrize("name", ["chain", "grouped", "vit"])
def test_times_that_are_linear_in_each_width_are_predicted_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph = built(name)
    monkeypatch.setattr(model, "model_milliseconds", lambda *_: 3.0)
    clusters = movable(graph, set(), False)
    latency = LatencyModel(graph, clusters, Computed())
    generator = torch.Generator().manual_seed(0)
    dense = sum(elements_of(signature(w, w.shapes(counted({})))) for w in latency.works)
    for _ in range(5):
        steps = [int(torch.randint(1, c.steps + 1, (), generator=generator)) for c in clusters]
        counts = {axis: n for c, t in zip(clusters, steps, strict=True) for axis, n in c.counts(t).items()}
        expected = sum(elements_of(signature(work, work.shapes(counted(counts)))) for work in latency.works)
        found = float(latency(torch.tensor([steps], dtype=torch.float64)))
        assert found == pytest.approx(3.0 * expected / dense, rel=0.02 if name == "grouped" else 1e-6)
        assert latency.steps_of(counts).tolist() == steps


def test_the_prediction_goes_through_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph = built("chain")
    monkeypatch.setattr(model, "model_milliseconds", lambda *_: 10.0)
    clusters = movable(graph, set(), False)
    latency = LatencyModel(graph, clusters, Computed())
    counts = {axis: n for c in clusters for axis, n in c.counts(c.steps // 2).items()}
    for measured in (8.0, 6.0, 1.0, 15.0):
        latency.calibrate(counts, measured)
        assert float(latency(latency.steps_of(counts)[None])) == pytest.approx(measured)


def test_a_budget_is_met_by_measuring_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole model takes longer than its ops and shrinks less; the second round knows."""
    _, graph = built("vit")

    def takes(graph: tp.Graph) -> float:
        return 1.0 + graph.cost().parameters / 10_000

    dense = takes(graph)
    monkeypatch.setattr(model, "Times", lambda *_: Computed())
    monkeypatch.setattr(model, "model_milliseconds", lambda *_: dense)
    measured: list[float] = []

    def measure(self: LatencyModel, choice: object) -> float:
        counts = {axis: kept.count for axis, kept in choice.items()}  # type: ignore[attr-defined]
        measured.append(1.0 + graph.cost(counts).parameters / 10_000)
        return measured[-1]

    monkeypatch.setattr(LatencyModel, "measure", measure)
    for scope in ("local", "global", "cost"):
        measured.clear()
        plan = tp.plan(graph, latency=0.7, scope=scope)
        assert plan.latency is not None
        assert plan.latency.measured == pytest.approx(0.7 * dense, rel=meet._CLOSE)
        assert plan.latency.predicted == pytest.approx(0.7 * dense, rel=meet._CLOSE)
        assert 1 < len(measured) <= meet._ROUNDS
        assert "predicted" in plan.summary()
    assert "ms, measured" in str(tp.PruneReport(plan))
    with pytest.raises(BudgetError, match=r"latency of at most 0\.\d+ ms was asked for; the lowest reachable is"):
        tp.plan(graph, latency=0.01)


def test_real_clocks_from_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 64)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.randn(64, 64)
    plan = tp.plan(module, x, latency=0.6)
    assert plan.latency is not None
    assert min(plan.latency.before, plan.latency.predicted, plan.latency.measured) > 0
    assert plan.after is not None
    assert plan.after.macs < plan.before.macs
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    (known,) = json.loads((tmp_path / "latency.json").read_text()).values()
    assert any(key.startswith("aten.linear") for key in known)


def test_a_pruner_takes_latency_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64))
    pruner = tp.Pruner(module, torch.randn(64, 64), latency=0.5)
    shares = [step.report.plan.latency.predicted / pruner.start.costs["latency"] for step in pruner.steps(2)]
    assert shares == pytest.approx([0.75, 0.5], abs=0.05)
    assert module[0].out_features < 512


# ---------------------------------------------------------------- the clock and the file


def test_the_model_is_measured_in_evaluation_mode_and_comes_back() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    module[0].eval()
    seen = []
    module.register_forward_hook(lambda module, *_: seen.append(module.training))
    assert clock.model_milliseconds(module, tp.Example(torch.randn(2, 4)), CPU, readings=1) > 0
    assert not any(seen)
    assert [m.training for m in module.modules()] == [True, False, True]


def test_times_are_kept_for_each_device(tmp_path: Path) -> None:
    first = Times("here", tmp_path)
    assert first.get("op", lambda: 2.0) == 2.0
    first.save()
    other = Times("there", tmp_path)
    assert other.get("op", lambda: 5.0) == 5.0
    other.save()
    again = Times("here", tmp_path)
    assert again.get("op", lambda: pytest.fail("is known")) == 2.0
    assert json.loads((tmp_path / "latency.json").read_text()) == {"here": {"op": 2.0}, "there": {"op": 5.0}}
    assert list(tmp_path.iterdir()) == [tmp_path / "latency.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"here": 3}'])
def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "latency.json").write_text(text)
    times = Times("here", tmp_path)
    assert times.get("op", lambda: 2.0) == 2.0
    times.save()
    assert Times("here", tmp_path).get("op", lambda: 3.0) == 2.0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    times = Times("here", tmp_path / "file" / "folder")
    times.get("op", lambda: 2.0)
    times.save()


def test_where_times_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, "/somewhere")
    assert cache.cache_folder() == Path("/somewhere")
    monkeypatch.delenv(cache.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache.cache_folder() == Path("/caches/torch-pruning")
