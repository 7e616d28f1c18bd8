"""The per-layer functions under the names of Torch-Pruning 1.x, each against the layer with its slices taken out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import PositionError

KINDS = [
    "conv",
    "depthwise_conv",
    "batchnorm",
    "linear",
    "prelu",
    "layernorm",
    "embedding",
    "parameter",
    "multihead_attention",
    "groupnorm",
    "instancenorm",
    "lstm",
]
NAMES = [f"prune_{kind}_{side}_channels" for kind in KINDS for side in ("out", "in")]


@pytest.mark.parametrize("name", NAMES)
def test_function_is_found_in_all_places_and_equals_itself(name: str) -> None:
    function = getattr(tp, name)
    assert function is getattr(tp.function, name) is getattr(tp.pruner.function, name)
    assert function == getattr(tp, name)
    assert function in [getattr(tp, name)]
    assert {function: 1}[getattr(tp, name)] == 1


def test_layer_norm_keeps_the_order_of_few_left_of_many() -> None:
    layer = nn.LayerNorm(768)
    nn.init.normal_(layer.weight)
    gone = torch.randperm(768)[: 768 - 231].tolist()
    kept = [i for i in range(768) if i not in set(gone)]
    expected = layer.weight.detach()[kept]
    assert tp.prune_layernorm_out_channels(layer, gone) is layer
    assert torch.equal(layer.weight, expected)
    assert layer.normalized_shape == (231,)


LSTMS = {
    "plain": {},
    "stacked": {"num_layers": 2},
    "two directions": {"bidirectional": True, "num_layers": 2},
    "projected": {"proj_size": 4, "num_layers": 2},
    "no bias": {"bias": False},
}


@pytest.mark.parametrize("kind", LSTMS)
@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU])
def test_recurrent_states_equal_those_of_the_masked_layer(kind: str, build: Any) -> None:
    options = LSTMS[kind]
    if build is nn.GRU and "proj_size" in options:
        pytest.skip("GRU has no projection")
    torch.manual_seed(0)
    layer = build(3, 6, batch_first=True, **options).double()
    x, gone = torch.randn(2, 5, 3).double(), [1, 3]
    width = options.get("proj_size", 6)
    kept = [i for i in range(width) if i not in gone]
    expected = masked_states(layer, gone, width)(x)[0]
    tp.prune_lstm_out_channels(layer, gone)
    found = layer(x)[0]
    directions = 2 if layer.bidirectional else 1
    positions = [i + d * width for d in range(directions) for i in kept]
    assert found.shape == (2, 5, len(positions))
    assert torch.allclose(found, expected[..., positions], atol=1e-12)
    assert tp.DependencyGraph().get_out_channels(layer) == len(kept)


def masked_states(layer: Any, gone: list[int], width: int) -> Any:
    """A copy whose states at `gone` go nowhere: the weights that read them are zero."""
    import copy

    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for name, weight in copied.named_parameters():
            if "weight_hh" in name:
                weight[:, gone] = 0
            if "weight_ih" in name and "_l0" not in name:
                for direction in range(2 if layer.bidirectional else 1):
                    weight[:, [i + direction * width for i in gone]] = 0
    return copied


def test_recurrent_inputs() -> None:
    layer = nn.LSTM(5, 4, bidirectional=True, num_layers=2)
    expected = [layer.weight_ih_l0[:, [0, 2, 4]].clone(), layer.weight_ih_l0_reverse[:, [0, 2, 4]].clone()]
    tp.prune_lstm_in_channels(layer, [1, 3])
    assert layer.input_size == 3
    assert torch.equal(layer.weight_ih_l0, expected[0])
    assert torch.equal(layer.weight_ih_l0_reverse, expected[1])
    assert layer(torch.randn(2, 1, 3))[0].shape == (2, 1, 8)


@pytest.mark.parametrize("name", ["prune_multihead_attention_out_channels", "prune_multihead_attention_in_channels"])
def test_attention_loses_its_width_and_keeps_its_heads(name: str) -> None:
    layer = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    weight, bias = layer.in_proj_weight.detach().clone(), layer.in_proj_bias.detach().clone()
    kept = [0, 1, 2, 4, 5, 6]
    rows = [i + part * 8 for part in range(3) for i in kept]
    assert getattr(tp, name)(layer, [3, 7]) is layer
    assert (layer.embed_dim, layer.num_heads, layer.head_dim) == (6, 2, 3)
    assert torch.equal(layer.in_proj_weight, weight[rows][:, kept])
    assert torch.equal(layer.in_proj_bias, bias[rows])
    x = torch.randn(4, 1, 6)
    assert layer(x, x, x)[0].shape == (4, 1, 6)
    with pytest.raises(PositionError, match="heads"):
        getattr(tp, name)(layer, [0])
    assert layer.embed_dim == 6
    with pytest.raises(TypeError, match="one width"):
        getattr(tp, name)(nn.MultiheadAttention(8, 2, kdim=4), [0, 1])


def test_parameter_keeps_its_identity_and_gradient() -> None:
    parameter = nn.Parameter(torch.arange(12.0).view(3, 4))
    (parameter * 2).sum().backward()
    assert tp.prune_parameter_out_channels(parameter, [1, -1]) is parameter
    assert parameter.tolist() == [[0, 2], [4, 6], [8, 10]]
    assert parameter.grad is not None
    assert parameter.grad.shape == (3, 2)
    tp.prune_parameter_in_channels(parameter, [0], dim=0)
    assert parameter.tolist() == [[4, 6], [8, 10]]
    with pytest.raises(TypeError, match="Parameter"):
        tp.prune_parameter_out_channels(torch.ones(3), [0])  # type: ignore[type-var]


class Channels(tp.BasePruningFunc):
    def prune_out_channels(self, layer: Any, idxs: Any) -> nn.Module:
        return tp.prune_linear_out_channels(layer, idxs)

    def prune_in_channels(self, layer: Any, idxs: Any) -> nn.Module:
        return tp.prune_linear_in_channels(layer, idxs)

    def get_out_channels(self, layer: Any) -> int:
        return layer.out_features

    def get_in_channels(self, layer: Any) -> int:
        return layer.in_features


def test_base_of_users_functions() -> None:
    layer, pruner = nn.Linear(4, 6), Channels()
    assert pruner(layer, [0, 1], dry_run=True) == (layer, 10)
    assert layer.out_features == 6
    copied, removed = pruner(layer, [0], to_output=False, inplace=False)
    assert (copied.in_features, layer.in_features, removed) == (3, 4, 6)
    with pytest.raises(PositionError):
        pruner(layer, range(6))
    assert layer.out_features == 6
    assert pruner.prune_out_channels == pruner.prune_out_channels
    assert pruner.get_out_channel_groups(layer) == pruner.get_in_channel_groups(layer) == 1


def test_shrunken_parameter_of_a_users_function_trains_on() -> None:
    layer = nn.Linear(4, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    first = layer(torch.randn(2, 4)).sum()
    first.backward()
    weight = layer.weight
    kept: Any = Tensor([0, 2, 5]).long()
    assert Channels()._prune_parameter_and_grad(layer.weight, kept, 0) is weight
    Channels()._prune_parameter_and_grad(layer.bias, kept, 0)
    assert layer.weight.grad is not None
    assert layer.weight.grad.shape == (3, 4)
    layer(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    assert layer.weight.shape == (3, 4)
