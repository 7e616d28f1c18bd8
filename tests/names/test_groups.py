"""Groups under the names of Torch-Pruning 1.x: rows, pruning, histories; against the oracle and by count."""

import pickle
from io import BytesIO
from typing import Any

import pytest
import torch
from tests.api.models import Concatenated, Grouped, Heads, OneAxisTwice, Shared, Split
from torch import Tensor, nn
from torchvision.models import resnet18

import torch_pruning as tp
from torch_pruning.errors import FrozenAxisError, PositionError, StalePlanError

PIXELS = torch.Size((1, 3, 32, 32))


class Flattened(nn.Module):
    """A convolution, flattened into a linear layer: 4 positions of the linear layer per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(self.norm(self.conv(x)), 2).flatten(1))


def build(model: nn.Module, inputs: Any, **options: Any) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(model.eval(), inputs, **options)


def layers_of(group: tp.Group) -> list[tuple[str, str, list[int], list[int]]]:
    """(function, layer, idxs, root_idxs) of the rows with a layer or parameter."""
    return [
        (item.dep.handler.__name__, item.dep.target.path, item.idxs, item.root_idxs)
        for item in group
        if item.dep.target.module is not None
    ]


def test_rows_name_layers_functions_and_positions() -> None:
    model = Flattened()
    group = build(model, torch.randn(PIXELS)).get_pruning_group(model.conv, tp.prune_conv_out_channels, idxs=[1, 4])
    linear = [4, 5, 6, 7, 16, 17, 18, 19]
    assert layers_of(group) == [
        ("prune_conv_out_channels", "conv", [1, 4], [1, 4]),
        ("prune_batchnorm_out_channels", "norm", [1, 4], [1, 4]),
        ("prune_linear_in_channels", "head", linear, [1, 1, 1, 1, 4, 4, 4, 4]),
    ]


def test_user_loops_over_a_group_work() -> None:
    """The ways in which criteria of users take a group apart."""
    model = Flattened()
    group = build(model, torch.randn(PIXELS)).get_pruning_group(model.conv, tp.prune_conv_out_channels, list(range(6)))
    found = []
    channels = [tp.prune_conv_out_channels, tp.prune_conv_in_channels, tp.prune_linear_in_channels]
    for dep, idxs in group:
        layer, prune_fn = dep.target.module, dep.handler
        if prune_fn in channels or (prune_fn == tp.prune_batchnorm_out_channels and layer.affine):
            found.append((layer, len(idxs)))
        assert dep.layer is layer
        assert dep.pruning_fn is prune_fn
    assert found == [(model.conv, 6), (model.norm, 6), (model.head, 24)]
    assert group[0].dep is group[0][0]
    assert group[0].idxs is group[0][1]
    assert len(group) == len(list(group)) == len(group.items)
    assert group[0].dep.source.name == group[0].dep.target.name == f"conv ({model.conv})"
    assert group[0].dep.trigger is tp.prune_conv_out_channels


def test_printed_group_has_a_line_per_row() -> None:
    model = Flattened()
    group = build(model, torch.randn(PIXELS)).get_pruning_group(model.conv, tp.prune_conv_out_channels, [1, 4])
    lines = [line for line in str(group).splitlines() if line.startswith("[")]
    assert len(lines) == len(group)
    assert lines[0].endswith("len(idxs)=2 (root)")
    assert "prune_linear_in_channels on head (Linear(in_features=24" in lines[-1]
    assert "idxs (8) =[4, 5, 6, 7, 16, 17, 18, 19]" in group.details()


@pytest.mark.parametrize(
    ("build_model", "inputs", "layer", "function", "idxs"),
    [
        (Flattened, torch.randn(PIXELS), "conv", tp.prune_conv_out_channels, [1, 4]),
        (Flattened, torch.randn(PIXELS), "head", tp.prune_linear_in_channels, [4, 5, 6, 7]),
        (Split, torch.randn(PIXELS), "stem", tp.prune_conv_out_channels, [0, 7]),
        (Grouped, torch.randn(PIXELS), "grouped", tp.prune_conv_in_channels, [0, 4, 6, 11]),
        (Grouped, torch.randn(PIXELS), "grouped", tp.prune_depthwise_conv_out_channels, [2, 3]),
        (Concatenated, torch.randn(PIXELS), "head", tp.prune_linear_in_channels, [0, 1, 2, 3, 20, 21, 22, 23]),
        (OneAxisTwice, torch.randn(2, 4), "stem", tp.prune_linear_out_channels, [0, 5]),
        (Shared, torch.tensor([[1, 2]]), "table", tp.prune_embedding_out_channels, [3]),
        (Heads, torch.randn(2, 5, 4), "inner", tp.prune_linear_out_channels, [0, 4, 8]),
    ],
)
def test_group_is_what_the_oracle_allows(
    build_model: Any, inputs: Tensor, layer: str, function: Any, idxs: list[int]
) -> None:
    model = build_model()
    graph = build(model, inputs)
    group = graph.get_pruning_group(model.get_submodule(layer), function, idxs)
    verification = tp.verify(model, graph.plan_of_group(group, None), inputs, rescale=True)
    assert verification.exact, verification
    before, old = tp.utils.count_params(model), model(inputs).shape
    assert graph.check_pruning_group(group)
    assert group.prune() == before - tp.utils.count_params(model) > 0
    assert model(inputs).shape == old
    assert graph.pruning_history() == [[layer, function not in INPUTS, idxs]]


INPUTS = [tp.prune_linear_in_channels, tp.prune_conv_in_channels]


def test_all_groups_from_output_to_input_each_width_once() -> None:
    model = resnet18()
    groups = list(build(model, torch.randn(PIXELS)).get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
    assert groups[0].root.path == "fc"
    assert "output" in (groups[0].protected or "")
    assert [group.protected for group in groups[1:]] == [None] * 12
    assert sum(len(group.idxs) for group in groups[1:]) == 3 * (64 + 128 + 256 + 512)
    produced = [layer for group in groups for f, layer, _, _ in layers_of(group) if f == "prune_conv_out_channels"]
    assert sorted(produced) == sorted(name for name, m in model.named_modules() if isinstance(m, nn.Conv2d))


def test_the_loop_of_the_readme_prunes_every_width_and_the_outputs_too() -> None:
    model = resnet18()
    graph = build(model, torch.randn(PIXELS))
    for group in graph.get_all_groups(ignored_layers=[model.conv1], root_module_types=[nn.Conv2d, nn.Linear]):
        group.prune(idxs=[2, 4, 6])
    assert model.conv1.out_channels == model.layer1[1].conv2.out_channels == 64
    assert model.layer1[0].conv1.out_channels == 61
    assert model.layer4[1].conv2.out_channels == 509
    assert model(torch.randn(PIXELS)).shape == (1, 997)
    fresh = resnet18()
    replayed = build(fresh, torch.randn(PIXELS))
    replayed.load_pruning_history(graph.pruning_history())
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    fresh.load_state_dict(model.state_dict())
    x = torch.randn(PIXELS)
    assert torch.equal(fresh.eval()(x), model.eval()(x))


def test_ignored_layers_keep_their_outputs_and_may_lose_inputs() -> None:
    model = Flattened()
    groups = list(build(model, torch.randn(PIXELS)).get_all_groups(ignored_layers=[model.head]))
    assert [group.root.path for group in groups] == ["conv"]
    assert "head" in [layer for _, layer, _, _ in layers_of(groups[0])]


def test_group_of_all_positions_describes_and_cannot_go() -> None:
    model = Flattened()
    graph = build(model, torch.randn(PIXELS))
    group = graph.get_pruning_group(model.conv, tp.prune_conv_out_channels, list(range(6)))
    assert group[-1].idxs == list(range(24))
    assert group[-1].root_idxs == [position // 4 for position in range(24)]
    assert not graph.check_pruning_group(group)
    with pytest.raises(PositionError, match="at least one"):
        group.prune()
    assert graph.pruning_history() == []
    group.prune(idxs=[0])
    assert model.head.in_features == 20


def test_outputs_go_only_by_a_group() -> None:
    model = Flattened()
    graph = build(model, torch.randn(PIXELS))
    with pytest.raises(FrozenAxisError, match="output"):
        graph.get_pruning_plan(model.head, tp.prune_linear, [0])
    group = graph.get_pruning_group(model.head, tp.prune_linear_out_channels, [0, 2])
    assert "output" in (group.protected or "")
    assert group.prune() == 2 * (24 + 1)
    assert model(torch.randn(PIXELS)).shape == (1, 3)
    assert model.head.out_features == 3


def test_group_made_before_another_one_went_finds_its_channels() -> None:
    model = Flattened()
    graph = build(model, torch.randn(PIXELS))
    early = graph.get_pruning_group(model.conv, tp.prune_conv_out_channels, [4])
    kept = model.conv.weight[[2, 3, 5]].clone()
    graph.get_pruning_group(model.conv, tp.prune_conv_out_channels, [0, 1]).prune()
    early.prune()
    assert torch.equal(model.conv.weight, kept)
    assert graph.pruning_history() == [["conv", True, [0, 1]], ["conv", True, [2]]]
    with pytest.raises(StalePlanError, match="gone"):
        early.prune()


def test_history_is_plain_and_safe_to_load() -> None:
    model = Heads()
    graph = build(model, torch.randn(2, 5, 4))
    graph.get_pruning_group(model.inner, tp.prune_linear_out_channels, [1, 5, 9]).prune()
    graph.exec_units({graph.groups[0].axis: next(iter(kept_but_first(graph)))}, record_history=True)
    stream = BytesIO()
    torch.save(graph.pruning_history(), stream)
    stream.seek(0)
    history = torch.load(stream, weights_only=True)
    fresh = Heads()
    replayed = build(fresh, torch.randn(2, 5, 4))
    replayed.load_pruning_history(history)
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    assert replayed.pruning_history() == history == pickle.loads(pickle.dumps(history))


def kept_but_first(graph: tp.DependencyGraph) -> Any:
    from torch_pruning.axes.positions import Kept

    yield Kept({(): tuple(range(1, graph.groups[0].axis.size))})


@pytest.mark.parametrize("entry", ["conv", ["conv"], ["elsewhere", True, [0]], {"units": {"elsewhere": [0]}}, {}])
def test_history_of_another_form_or_model_is_refused(entry: Any) -> None:
    model = Flattened()
    graph = build(model, torch.randn(PIXELS))
    before = tp.utils.count_params(model)
    with pytest.raises(ValueError, match=r"entry|model"):
        graph.load_pruning_history([entry])
    assert tp.utils.count_params(model) == before
    assert graph.pruning_history() == []


def test_widths_and_sides_of_functions() -> None:
    graph = tp.DependencyGraph()
    assert graph.get_out_channels(nn.Conv2d(4, 6, 1, groups=2)) == 6
    assert graph.get_in_channels(nn.Conv2d(4, 6, 1, groups=2)) == 4
    assert graph.get_in_channels(nn.ConvTranspose2d(4, 6, 1, groups=2)) == 4
    assert graph.get_out_channels(nn.ConvTranspose2d(4, 6, 1, groups=2)) == 6
    assert graph.get_out_channels(nn.Linear(3, 5)) == 5
    assert graph.get_in_channels(nn.Linear(3, 5)) == 3
    assert graph.get_out_channels(nn.BatchNorm2d(5, affine=False)) == 5
    assert graph.get_in_channels(nn.BatchNorm2d(5, affine=False, track_running_stats=False)) == 5
    assert graph.get_out_channels(nn.LayerNorm((3, 5), elementwise_affine=False)) == 5
    assert graph.get_out_channels(nn.LSTM(3, 5)) == 5
    assert graph.get_in_channels(nn.LSTM(3, 5)) == 3
    assert graph.get_out_channels(nn.MultiheadAttention(8, 2)) == 8
    assert graph.get_out_channels(nn.Parameter(torch.ones(2, 7))) == 7
    with pytest.raises(TypeError, match="ReLU"):
        graph.get_out_channels(nn.ReLU())
    for kind in ("conv", "linear", "multihead_attention", "lstm"):
        assert graph.is_out_channel_pruning_fn(getattr(tp, f"prune_{kind}_out_channels"))
        assert not graph.is_out_channel_pruning_fn(getattr(tp, f"prune_{kind}_in_channels"))
        assert graph.is_in_channel_pruning_fn(getattr(tp, f"prune_{kind}_in_channels"))
        assert not graph.is_in_channel_pruning_fn(getattr(tp, f"prune_{kind}_out_channels"))
    for kind in ("batchnorm", "depthwise_conv", "prelu", "layernorm", "embedding", "parameter", "groupnorm"):
        assert graph.is_out_channel_pruning_fn(getattr(tp, f"prune_{kind}_out_channels"))
        assert not graph.is_in_channel_pruning_fn(getattr(tp, f"prune_{kind}_in_channels"))
    assert not graph.is_out_channel_pruning_fn(print)


def test_parameter_without_a_layer_as_root() -> None:
    model = OneAxisTwice()
    graph = build(model, torch.randn(2, 4))
    group = graph.get_pruning_group(model.scale, tp.prune_parameter_out_channels, [1])
    assert layers_of(group)[0] == ("prune_parameter_out_channels", "scale", [1], [1])
    assert group[0].dep.target.module is model.scale
    group.prune()
    assert model.stem.out_features == model.head.in_features == len(model.scale) == len(model.shift) == 5
    assert model.scale in graph.module2node
    assert model.stem in graph.module2node


def test_interactive_use_keeps_an_optimizer_going() -> None:
    model = Flattened().train()
    inputs = torch.randn(4, 3, 32, 32)
    graph = tp.DependencyGraph().build_dependency(model, inputs)
    optimizer = torch.optim.Adam(model.parameters())
    loss = model(inputs).square().mean()
    loss.backward()
    optimizer.step()
    graph.get_pruning_group(model.conv, tp.prune_conv_out_channels, [0]).prune(optimizer=optimizer)
    model(inputs).square().mean().backward()
    optimizer.step()
    assert optimizer.state[model.conv.weight]["exp_avg"].shape == model.conv.weight.shape == (5, 3, 3, 3)


def test_positions_of_one_group_of_a_convolution_are_dealt_out_in_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1, groups=2), nn.Conv2d(4, 5, 1))
    graph = build(model, torch.randn(1, 3, 4, 4))
    wide = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, list(range(8)))
    in_order, spread = list(range(8)), [0, 2, 4, 6]
    assert [row[1:] for row in layers_of(wide)] == [
        ("0", in_order, in_order),
        ("1", [0, 1, 2, 3], spread),
        ("1", in_order, in_order),
        ("2", [0, 1, 2, 3], spread),
    ]
    narrow = graph.get_pruning_group(model[1], tp.prune_conv_out_channels, list(range(4)))
    assert {tuple(roots) for _, layer, _, roots in layers_of(narrow) if layer == "0"} == {(0, 0, 1, 1, 2, 2, 3, 3)}
