"""What goes with a layer's channels, for every way in which layers depend on each other; each against the oracle."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.api.models import Concatenated, Grouped, Heads, OneAxisTwice, Shared, Split, TrainingHead, TwoWidths
from torch import Tensor, nn
from torchvision.models import VisionTransformer, alexnet, densenet121, resnet18, vgg11
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation import deeplabv3_resnet50

import torch_pruning as pruning
from torch_pruning import layers
from torch_pruning.errors import ConstraintError, FrozenAxisError, PositionError

pytestmark = pytest.mark.models

Graph = pruning.DependencyGraph
PIXELS = torch.Size((2, 3, 64, 64))


def steps(plan: pruning.DependencyPlan) -> list[tuple[str, str, list[int], int]]:
    """(function, layer or parameter, positions, parameters removed) of the steps that are not mere operators."""
    return [
        (row.dependency.handler.__name__, row.dependency.target.path, row.idxs, row.num_pruned)
        for row in plan.rows
        if "aten." not in row.dependency.target.text
    ]


def check(model: nn.Module, plan: pruning.DependencyPlan, inputs: Tensor, gradients: bool = True) -> None:
    """The oracle before; the promised number of parameters and the same output shapes after. The model is pruned."""
    assert sum(row.num_pruned for row in plan.rows) == plan.exec(dry_run=True) > 0
    verification = pruning.verify(model, plan, inputs, rescale=True, gradients=gradients)
    assert plan.exact
    assert verification.exact, verification
    shapes = [tensor.shape for tensor in _tensors(model(inputs))]
    before = pruning.utils.count_params(model)
    assert plan.exec() == before - pruning.utils.count_params(model)
    assert [tensor.shape for tensor in _tensors(model(inputs))] == shapes


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return [t for item in (outputs.values() if isinstance(outputs, dict) else outputs) for t in _tensors(item)]


def with_narrow_head(model: Any, features: int) -> Any:
    """The published model with 20 hidden features instead of 4096, for speed."""
    model.classifier = nn.Sequential(nn.Linear(features, 20), nn.ReLU(), nn.Linear(20, 5))
    return model.eval()


def small_vit() -> VisionTransformer:
    return VisionTransformer(32, 16, num_layers=2, num_heads=12, hidden_dim=12 * 8, mlp_dim=64, num_classes=5).eval()


# ---------------------------------------------------------------- published models


def test_convolution_to_convolution() -> None:
    model = with_narrow_head(alexnet(), 256 * 6 * 6)
    plan = (
        Graph()
        .build_dependency(model, torch.randn(PIXELS))
        .get_pruning_plan(model.features[0], pruning.prune_conv, [0, 5])
    )
    assert steps(plan) == [
        ("prune_conv", "features.0", [0, 5], 2 * (3 * 11 * 11 + 1)),
        ("prune_related_conv", "features.3", [0, 5], 2 * 192 * 5 * 5),
    ]
    check(model, plan, torch.randn(PIXELS))


def test_convolution_to_linear_by_flattening() -> None:
    model = with_narrow_head(vgg11(), 512 * 7 * 7)
    plan = (
        Graph()
        .build_dependency(model, torch.randn(PIXELS))
        .get_pruning_plan(model.features[18], pruning.prune_conv, [3])
    )
    assert steps(plan) == [
        ("prune_conv", "features.18", [3], 512 * 9 + 1),
        ("prune_related_linear", "classifier.0", list(range(3 * 49, 4 * 49)), 49 * 20),
    ]
    check(model, plan, torch.randn(PIXELS))


def test_convolution_to_linear_by_global_pooling_and_skip() -> None:
    model = resnet18().eval()
    plan = (
        Graph()
        .build_dependency(model, torch.randn(PIXELS))
        .get_pruning_plan(model.fc, pruning.prune_related_linear, [1, 300])
    )
    pruned = {path: count for _, path, _, count in steps(plan)}
    assert [idxs for _, _, idxs, _ in steps(plan)] == [[1, 300]] * len(pruned)
    assert pruned.pop("fc") == 2 * 1000
    assert pruned.pop("layer4.1.conv1") == 2 * 512 * 9
    assert pruned == {
        "layer4.1.bn2": 4, "layer4.1.conv2": 2 * 512 * 9, "layer4.0.bn2": 4, "layer4.0.conv2": 2 * 512 * 9,
        "layer4.0.downsample.1": 4, "layer4.0.downsample.0": 2 * 256,
    }  # fmt: skip
    check(model, plan, torch.randn(PIXELS))


def test_concatenation_in_a_dense_block() -> None:
    model = densenet121().eval()
    graph = Graph().build_dependency(model, torch.randn(PIXELS))
    # Channel 64 + 1 of the third layer's input is channel 1 of what the first layer has added to the stem's 64.
    third = model.features.denseblock1.denselayer3
    plan = graph.get_pruning_plan(third.conv1, pruning.prune_related_conv, [0, 64 + 1, 64 + 32 + 2])
    made = {path: idxs for function, path, idxs, _ in steps(plan) if function == "prune_conv"}
    assert made == {
        "features.conv0": [0],
        "features.denseblock1.denselayer1.conv2": [1],
        "features.denseblock1.denselayer2.conv2": [2],
    }
    used = {path: idxs for function, path, idxs, _ in steps(plan) if function == "prune_related_conv"}
    assert used["features.denseblock1.denselayer2.conv1"] == [0, 65]
    assert used["features.denseblock1.denselayer3.conv1"] == [0, 65, 98]
    assert used["features.transition1.conv"] == [0, 65, 98]
    check(model, plan, torch.randn(PIXELS))


def test_concatenation_in_a_pyramid() -> None:
    model = deeplabv3_resnet50(weights_backbone=None, num_classes=4).eval()
    graph = Graph().build_dependency(model, torch.randn(PIXELS))
    aspp = model.classifier[0]
    plan = graph.get_pruning_plan(aspp.project[0], pruning.prune_related_conv, [7, 256 + 9, 4 * 256 + 255])
    assert [(path, idxs) for function, path, idxs, _ in steps(plan) if function == "prune_conv"] == [
        ("classifier.0.convs.0.0", [7]),
        ("classifier.0.convs.1.0", [9]),
        ("classifier.0.convs.4.1", [255]),
    ]
    check(model, plan, torch.randn(PIXELS), gradients=False)


def test_grouped_convolutions_of_a_published_model() -> None:
    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5, groups=32, width_per_group=4).eval()
    graph = Graph().build_dependency(model, torch.randn(PIXELS))
    block = model.layer1[0]
    one_per_group = [4 * group + group % 4 for group in range(32)]
    plan = graph.get_pruning_plan(block.conv1, pruning.prune_conv, one_per_group)
    assert [(path, idxs) for _, path, idxs, _ in steps(plan)] == [
        (path, one_per_group) for path in ("layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2")
    ]
    check(model, plan, torch.randn(PIXELS))
    assert block.conv2.weight.shape == (128, 3, 3, 3)
    plan = graph.get_pruning_plan(block.conv2, pruning.prune_group_conv, [0, 1, 2, 3])
    assert steps(plan)[0][:3] == ("prune_group_conv", "layer1.0.conv2", [0, 1, 2, 3])
    assert ("prune_conv", "layer1.0.conv1", [0, 1, 2], 3 * 64) in steps(plan)
    check(model, plan, torch.randn(PIXELS))
    assert block.conv2.groups == 31


def test_whole_head_of_a_vision_transformer() -> None:
    model, inputs = small_vit(), torch.randn(2, 3, 32, 32)
    graph = Graph().build_dependency(model, inputs)
    attention = model.encoder.layers[1].self_attention
    plan = graph.get_pruning_plan(attention.out_proj, pruning.prune_related_linear, range(8, 16))
    path = "encoder.layers.encoder_layer_1.self_attention"
    of_head = [part * 96 + position for part in range(3) for position in range(8, 16)]
    assert steps(plan) == [
        ("prune_related_linear", f"{path}.out_proj", list(range(8, 16)), 8 * 96),
        ("prune_multihead_attention", path, of_head, 3 * 8 * (96 + 1)),
    ]
    check(model, plan, inputs)
    assert attention.num_heads == 11
    assert attention.out_proj.in_features == 88


def test_one_position_of_a_head_is_refused_with_the_sets_that_can_go() -> None:
    model = small_vit()
    graph = Graph().build_dependency(model, torch.randn(2, 3, 32, 32))
    layer = model.encoder.layers[1].self_attention.out_proj
    with pytest.raises(PositionError) as refused:
        graph.get_pruning_plan(layer, pruning.prune_related_linear, [14])
    same_of_each = ", ".join(str(8 * head + 6) for head in range(12))
    assert f"[8..15] or [{same_of_each}] (or equally many in each of 12 lanes of 8" in str(refused.value)


def test_one_position_of_every_head_of_a_vision_transformer() -> None:
    model, inputs = small_vit(), torch.randn(2, 3, 32, 32)
    graph = Graph().build_dependency(model, inputs)
    attention = model.encoder.layers[0].self_attention
    different = [8 * head + head % 5 for head in range(12)]
    plan = graph.get_pruning_plan(attention.out_proj, pruning.prune_related_linear, different)
    check(model, plan, inputs)
    assert (attention.num_heads, attention.head_dim) == (12, 7)


# ---------------------------------------------------------------- models written out


def test_split() -> None:
    model, inputs = Split().eval(), torch.randn(2, 3, 8, 8)
    graph = Graph().build_dependency(model, inputs)
    # The halves of a chunk must stay equally long.
    with pytest.raises(ConstraintError, match="must follow"):
        graph.get_pruning_plan(model.stem, pruning.prune_conv, [1])
    plan = graph.get_pruning_plan(model.stem, pruning.prune_conv, [1, 6 + 4])
    assert steps(plan) == [
        ("prune_conv", "stem", [1, 10], 2 * 28),
        ("prune_related_conv", "right", [4], 5),
        ("prune_related_conv", "left", [1], 5),
    ]
    check(model, plan, inputs)


def test_concatenation_and_flattening_at_once() -> None:
    model, inputs = Concatenated().eval(), torch.randn(2, 3, 9, 9)
    graph = Graph().build_dependency(model, inputs)
    plan = graph.get_pruning_plan(model.head, pruning.prune_related_linear, [*range(4, 8), *range(28, 32)])
    assert steps(plan) == [
        ("prune_related_linear", "head", [4, 5, 6, 7, 28, 29, 30, 31], 8 * 4),
        ("prune_conv", "left", [1], 28),
        ("prune_conv", "right", [2], 28),
    ]
    check(model, plan, inputs)
    with pytest.raises(PositionError, match=r"position 1 can only go .* \[0..3\]"):
        graph.get_pruning_plan(model.head, pruning.prune_related_linear, [1])


def test_a_branch_cannot_vanish() -> None:
    model = Concatenated().eval()
    graph = Graph().build_dependency(model, torch.randn(2, 3, 9, 9))
    with pytest.raises(PositionError, match="at least one unit of every axis must stay; found all 3"):
        graph.get_pruning_plan(model.head, pruning.prune_related_linear, range(20, 32))


def test_grouped_convolution_channels_and_whole_groups() -> None:
    model, inputs = Grouped().eval(), torch.randn(2, 3, 8, 8)
    graph = Graph().build_dependency(model, inputs)
    with pytest.raises(PositionError, match=r"\[3..5\] or \[1, 4, 7, 10\] \(or equally many in each of 4 lanes of 3"):
        graph.get_pruning_plan(model.stem, pruning.prune_conv, [4])
    with pytest.raises(PositionError, match=r"found \[1, 1, 1, 2\]"):
        graph.get_pruning_plan(model.stem, pruning.prune_conv, [0, 4, 8, 9, 11])
    with pytest.raises(PositionError, match="whole groups"):
        graph.get_pruning_plan(model.grouped, pruning.prune_group_conv, [0, 2, 4, 6])
    # The second group as a whole, and one channel of each of the others.
    plan = graph.get_pruning_plan(model.stem, pruning.prune_conv, [1, 3, 4, 5, 6, 11])
    assert [(function, path, idxs) for function, path, idxs, _ in steps(plan)] == [
        ("prune_conv", "stem", [1, 3, 4, 5, 6, 11]),
        ("prune_batchnorm", "norm", [1, 3, 4, 5, 6, 11]),
        ("prune_group_conv", "grouped", [2, 3]),
        ("prune_related_conv", "grouped", [1, 3, 4, 5, 6, 11]),
        ("prune_related_conv", "head", [2, 3]),
    ]
    check(model, plan, inputs)
    assert model.grouped.weight.shape == (6, 2, 3, 3)
    assert model.grouped.groups == 3


def test_inputs_and_outputs_of_one_layer_are_counted_once() -> None:
    model, inputs = OneAxisTwice().eval(), torch.randn(2, 4)
    plan = Graph().build_dependency(model, inputs).get_pruning_plan(model.layer, pruning.prune_linear, [2, 0])
    assert steps(plan) == [
        ("prune_linear", "layer", [0, 2], 2 * 6 + 2),
        ("prune_linear", "stem", [0, 2], 2 * 4 + 2),
        ("prune_related_linear", "layer", [0, 2], 2 * 4),
        ("prune_parameter", "scale", [0, 2], 2),
        ("prune_buffer", "shift", [0, 2], 0),
        ("prune_related_linear", "head", [0, 2], 2 * 3),
    ]
    assert "prune_parameter on scale (Parameter of shape [6])>, Index=[0, 2], NumPruned=2]" in str(plan)
    check(model, plan, inputs)


def test_shared_layers_and_tied_tables_come_once() -> None:
    model, inputs = Shared().eval(), torch.randint(0, 11, (2, 5))
    plan = Graph().build_dependency(model, inputs).get_pruning_plan(model.head, pruning.prune_related_linear, [4])
    assert steps(plan) == [
        ("prune_related_linear", "head", [4], 11),
        ("prune_related_linear", "layer", [4], 6),
        ("prune_linear", "layer", [4], 5 + 1),
    ]
    check(model, plan, inputs)
    assert model.head.weight is model.table.weight


def test_parametrized_layer_is_one_step() -> None:
    """What computes its weight belongs to the layer; magnitude and direction go together, by inputs and by outputs."""
    first, second = (nn.utils.parametrizations.weight_norm(nn.Linear(*sizes)) for sizes in ((4, 6), (6, 5)))
    model, inputs = nn.Sequential(first, nn.ReLU(), second).double().eval(), torch.randn(3, 4).double()
    kept = [0, 2, 3, 5]
    direction = second.parametrizations.weight
    with torch.no_grad():
        # The norm of a row is over the inputs that are left.
        rows = torch._weight_norm(direction.original1[:, kept], direction.original0, 0)
        expected = nn.functional.linear(torch.relu(first(inputs))[:, kept], rows, second.bias)
    plan = Graph().build_dependency(model, inputs).get_pruning_plan(first, pruning.prune_linear, [1, 4])
    assert [(dependency.handler.__name__, dependency.layer) for dependency, _ in plan.plan] == [
        ("prune_linear", first), ("relu", None), ("prune_related_linear", second)
    ]  # fmt: skip
    assert [row.num_pruned for row in plan.rows] == [2 * (4 + 1 + 1), 0, 2 * 5]
    assert plan.exec() == 22
    torch.testing.assert_close(model(inputs), expected, rtol=1e-12, atol=0)


def test_what_runs_in_training_only_is_listed_too() -> None:
    model, inputs = TrainingHead().eval(), torch.randn(2, 4)
    graph = Graph().build_dependency(model, inputs)
    plan = graph.get_pruning_plan(model.stem, pruning.prune_linear, [5])
    assert [
        (dependency.trigger.__name__, dependency.handler.__name__, dependency.target.path)
        for dependency, _ in plan.plan
    ] == [
        ("prune_linear", "prune_linear", "stem"),
        ("prune_linear", "relu", "TrainingHead"),
        ("relu", "prune_related_linear", "head"),
        ("relu", "tanh", "TrainingHead"),
        ("tanh", "prune_related_linear", "auxiliary"),
    ]
    check(model, plan, inputs)
    with pytest.raises(FrozenAxisError, match="dimension 1 of a model output"):
        graph.get_pruning_plan(model.auxiliary, pruning.prune_linear, [0])


@pytest.mark.parametrize(
    ("idxs", "split"), [(range(4, 8), [1]), ([1, 5, 9], [1]), ([0, 5, 10], [0, 5, 10])], ids=["head", "same", "lanes"]
)
def test_every_operator_is_listed_once(idxs: Sequence[int], split: list[int]) -> None:
    """Also where it is reached through heads and through head dims; positions are those of what shrinks there."""
    model, inputs = Heads().eval(), torch.randn(2, 5, 4)
    plan = Graph().build_dependency(model, inputs).get_pruning_plan(model.inner, pruning.prune_linear, idxs)
    assert [(row.dependency.handler.__name__, row.idxs) for row in plan.rows] == [
        ("prune_linear", list(idxs)),
        ("view", split),
        ("transpose", split),
        ("tanh", split),
        ("transpose", split),
        ("flatten", list(idxs)),
        ("prune_related_linear", list(idxs)),
    ]
    check(model, plan, inputs)


def test_followers_are_named() -> None:
    model = TwoWidths().eval()
    graph = Graph().build_dependency(model, torch.randn(2, 7, 5))
    with pytest.raises(ConstraintError) as refused:
        graph.get_pruning_plan(model.stem, pruning.prune_linear, [1])
    assert "stem 12 -> 11" in str(refused.value)
    assert "qkv" in str(refused.value).partition("must follow")[0]
    assert "torch_pruning.plan" in str(refused.value)
    # With the heads' own width the same holds; the values are not asked for by the code.
    with pytest.raises(ConstraintError, match="stem"):
        graph.get_pruning_plan(model.out, pruning.prune_related_linear, range(4))


FUNCTIONS_OF_LAYERS: list[tuple[nn.Module, Any, Any]] = [
    (nn.BatchNorm1d(6), pruning.prune_batchnorm, layers.prune_batchnorm_in_channels),
    (nn.PReLU(6), pruning.prune_prelu, layers.prune_prelu_out_channels),
    (nn.InstanceNorm1d(6, affine=True), layers.prune_instancenorm_out_channels, layers.prune_instancenorm_in_channels),
    (nn.Conv1d(6, 6, 1, groups=6), pruning.prune_group_conv, layers.prune_depthwise_conv_in_channels),
    (nn.Conv1d(6, 6, 1, groups=6), pruning.prune_conv, pruning.prune_related_conv),
    (nn.BatchNorm1d(6, affine=False), pruning.prune_batchnorm, layers.prune_batchnorm_out_channels),
]


@pytest.mark.parametrize(("layer", "function", "other"), FUNCTIONS_OF_LAYERS)
def test_layers_of_one_width(layer: nn.Module, function: Any, other: Any) -> None:
    """Such a layer can be the root; both its names give the same plan."""
    model = nn.Sequential(nn.Conv1d(2, 6, 3), layer, nn.Conv1d(6, 3, 1)).eval()
    inputs = torch.randn(4, 2, 9)
    graph = Graph().build_dependency(model, inputs)
    plans = [graph.get_pruning_plan(model[1], each, [1, -1]) for each in (function, other)]
    assert [row[1:] for row in steps(plans[0])] == [row[1:] for row in steps(plans[1])]
    assert [path for _, path, _, _ in steps(plans[0])] == ["1", "0", "2"]
    check(model, plans[0], inputs)


TRANSPOSED: list[tuple[nn.Module, Any, Sequence[int], tuple[int, ...]]] = [
    (nn.ConvTranspose1d(6, 4, 2), pruning.prune_conv, [1], (6, 3, 2)),
    (nn.ConvTranspose1d(6, 4, 2), pruning.prune_related_conv, [1, 5], (4, 4, 2)),
    (nn.ConvTranspose1d(6, 4, 2, groups=2), pruning.prune_conv, [0, 3], (6, 1, 2)),
    (nn.ConvTranspose1d(6, 4, 2, groups=2), pruning.prune_related_conv, [0, 3], (4, 2, 2)),
    (nn.ConvTranspose1d(6, 4, 2, groups=2), pruning.prune_group_conv, [0, 1], (3, 2, 2)),
    (nn.Conv1d(6, 4, 2, groups=2), pruning.prune_related_conv, [0, 3], (4, 2, 2)),
    (nn.Conv1d(6, 4, 2, groups=2), pruning.prune_related_conv, [0, 1, 2], (2, 3, 2)),
]


@pytest.mark.parametrize(("layer", "function", "idxs", "shape"), TRANSPOSED)
def test_widths_of_convolutions(layer: nn.Module, function: Any, idxs: list[int], shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Conv1d(2, 6, 3), layer, nn.Conv1d(4, 3, 1)).eval()
    inputs = torch.randn(4, 2, 9)
    plan = Graph().build_dependency(model, inputs).get_pruning_plan(model[1], function, idxs)
    check(model, plan, inputs)
    assert model[1].weight.shape == shape
