"""Counting, printing, drawing, measuring and saving under the names of Torch-Pruning 1.x."""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer, mobilenet_v2, resnet18

import torch_pruning as tp
from torch_pruning.errors import StalePlanError

PIXELS = torch.randn(1, 3, 32, 32)


def vit() -> VisionTransformer:
    return VisionTransformer(32, 16, num_layers=2, num_heads=4, hidden_dim=24, mlp_dim=20, num_classes=5).eval()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm, self.head = nn.Embedding(11, 6), nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.table(tokens))[0])


@pytest.mark.parametrize("build", [resnet18, mobilenet_v2])
def test_operations_against_an_independent_counter(build: Any) -> None:
    model = build().eval()
    with FlopCounterMode(display=False) as counter:
        model(PIXELS)
    macs, params = tp.utils.count_ops_and_params(model, PIXELS)
    assert macs == counter.get_total_flops() // 2
    assert params == sum(p.numel() for p in model.parameters())


def test_batch_size_does_not_distort_operations_and_attention_counts() -> None:
    model = vit()
    one, _ = tp.utils.count_ops_and_params(model, PIXELS)
    assert one == tp.utils.count_ops_and_params(model, torch.randn(5, 3, 32, 32))[0]
    tokens, width, heads = 5, 24, 4
    linear = 3 * 16 * 16 * width * (tokens - 1)
    block = tokens * width * (4 * width + 2 * 20) + 2 * heads * tokens * tokens * (width // heads)
    assert one == linear + 2 * block + width * 5
    lstm, _ = tp.utils.count_ops_and_params(Recurrent(), torch.zeros(3, 7, dtype=torch.long))
    assert lstm == 7 * (4 * 8 * (6 + 8) + 8 * 3)


def test_operations_by_layer() -> None:
    model = resnet18().eval()
    macs, params, layer_macs, layer_params = tp.utils.count_ops_and_params(model, PIXELS.repeat(2, 1, 1, 1), True)
    assert layer_macs[model] == macs
    assert layer_params[model] == params
    assert layer_macs[model.conv1] == 64 * 3 * 49 * 16 * 16
    assert layer_macs[model.fc] == 512 * 1000
    assert sum(layer_macs[m] for m in model.modules() if not list(m.children())) == macs
    assert layer_params[model.layer1] == sum(p.numel() for p in model.layer1.parameters())


def test_flatten_as_list() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    assert [t is o for t, o in zip(tp.utils.flatten_as_list([a, {"x": (b, None)}, c]), [a, b, c], strict=True)]
    assert tp.utils.flatten_as_list(a)[0] is a


def test_printed_model_shows_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(RuntimeError, match="before_pruning"):
        tp.utils.print_tool.after_pruning(model)
    tp.utils.print_tool.before_pruning(model)
    tp.prune(model, torch.randn(1, 4), pruning_ratio=0.5)
    text = tp.utils.print_tool.after_pruning(model)
    assert capsys.readouterr().out == text + "\n"
    assert sum(" => " in line for line in text.splitlines()) == 2
    assert "(2): Linear(in_features=8, out_features=2, bias=True) => (2): Linear(in_features=4" in text
    tp.utils.print_tool.after_pruning(model, do_print=False)
    assert capsys.readouterr().out == ""


def test_measurements_leave_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(), nn.BatchNorm1d(64)).train()
    model[2].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []

    def run(model: nn.Module, inputs: Tensor) -> Tensor:
        seen.append((model.training, torch.is_grad_enabled()))
        return model(inputs)

    x = torch.randn(8, 64)
    mean, deviation = tp.utils.benchmark.measure_latency(model, x, repeat=3, warmup=2, run_fn=run)
    assert mean > 0 <= deviation
    assert seen == [(False, False)] * 5
    assert tp.utils.benchmark.measure_fps(model, x, repeat=3, warmup=1) > 0
    assert tp.utils.benchmark.measure_throughput(model, x, repeat=3, warmup=1) > 0
    assert [m.training for m in model] == [True, True, False]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="repeat"):
        tp.utils.benchmark.measure_latency(model, x, repeat=0)


def test_memory_at_the_peak_on_the_cpu() -> None:
    model = nn.Sequential(nn.Linear(100, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    x = torch.randn(50, 100)
    own = 4 * (100 * 1000 + 1000 * 10 + x.numel())
    assert tp.utils.benchmark.measure_memory(model, x) == own + 4 * (2 * 50 * 1000)  # before and after the ReLU
    smaller = tp.utils.benchmark.measure_memory(model[:1], x)
    assert smaller == 4 * (100 * 1000 + x.numel() + 50 * 1000)


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = resnet18().eval()
    graph = tp.DependencyGraph().build_dependency(model, PIXELS)
    for draw in (tp.utils.draw_groups, tp.utils.draw_dependency_graph, tp.utils.draw_computational_graph):
        _, axes = draw(graph, save_as=tmp_path / f"{draw.__name__}.png", title="here", figsize=(4, 4), dpi=50)
        assert (tmp_path / f"{draw.__name__}.png").stat().st_size > 1000
        assert axes.get_title() == "here"
        marked = axes.images[0].get_array()
        assert 0 < marked.sum() < marked.size
    _, axes = tp.utils.draw_groups(graph, save_as=None)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    marked = axes.images[0].get_array()
    assert marked[labels.index("conv1"), labels.index("layer1.0.conv2")] == 1
    assert marked[labels.index("conv1"), labels.index("layer4.0.conv2")] == 0


# ---------------------------------------------------------------- saving


MODELS: dict[str, tuple[Any, Any]] = {
    "resnet18": (resnet18, PIXELS),
    "vision transformer": (vit, PIXELS),
    "recurrent": (Recurrent, torch.tensor([[1, 2, 3]])),
}


@pytest.mark.parametrize("name", MODELS)
def test_pruned_model_comes_back_from_plain_data(name: str, tmp_path: Path) -> None:
    build, inputs = MODELS[name]
    model = build().eval()
    tp.prune(model, inputs, pruning_ratio=0.5, head_ratio=0.5 if name == "vision transformer" else 0.0)
    tp.save(model, tmp_path / "pruned.pth")
    loaded = torch.load(tmp_path / "pruned.pth", weights_only=True)
    fresh = build().eval()
    identities = dict(fresh.named_parameters())
    assert tp.load_state_dict(fresh, loaded) is fresh
    assert torch.equal(fresh(inputs), model(inputs))
    assert repr(fresh) == repr(model)
    assert all(parameter is identities[n] for n, parameter in fresh.named_parameters())
    assert torch.equal(tp.load(tmp_path / "pruned.pth", model=build().eval())(inputs), model(inputs))
    again = tp.prune(fresh, inputs, pruning_ratio=0.3)
    assert again.after.parameters < again.before.parameters


def test_nothing_that_is_loaded_runs_code() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("code ran",))

    stream = BytesIO()
    tp.save({"x": Evil()}, stream)
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        tp.load(stream)


def test_state_of_another_model_is_refused_and_changes_nothing() -> None:
    model, other = nn.Sequential(nn.Linear(4, 8)), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(StalePlanError, match=r"1\.bias"):
        tp.load_state_dict(model, tp.state_dict(other))
    with pytest.raises(StalePlanError, match="dimensions"):
        tp.load_state_dict(model, tp.state_dict(nn.Sequential(nn.Conv1d(4, 8, 1))))
    with pytest.raises(ValueError, match="state dict"):
        tp.load_state_dict(model, other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
