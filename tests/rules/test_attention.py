"""nn.MultiheadAttention: its rule by the oracle, and the layer that surgery puts in its place against the stock one."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rules.attention_models import SETTINGS, WIDTH, Setting, disagreements, graph_of
from torch_pruning.planning.attention import FreeMultiheadAttention

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # torch on nested tensors and on masks of two types
]


@pytest.mark.parametrize("setting", SETTINGS, ids=repr)
def test_pruned_attention_equals_the_masked_one(setting: Setting) -> None:
    assert disagreements(setting) == []


@pytest.mark.parametrize("setting", SETTINGS, ids=repr)
def test_heads_head_dims_and_widths_are_groups_of_their_own(setting: Setting) -> None:
    groups = {group.name: group.size for group in graph_of(setting).groups}
    heads_named = not setting.average
    sizes = sorted([2, 6, *(() if heads_named else (3,)), *((6, 5, 4) if setting.key_widths else (6,))])
    assert sorted(groups.values()) == sizes


def both(setting: Setting) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    """The stock layer, and a copy that was converted."""
    stock = setting.layer()
    converted = copy.deepcopy(stock)
    FreeMultiheadAttention.convert(converted)
    return stock, converted


def run(layer: nn.MultiheadAttention, setting: Setting) -> list[Tensor]:
    torch.manual_seed(4)
    return [tensor for tensor in layer(*setting.inputs(), **setting.options()) if tensor is not None]


def all_equal(expected: Any, found: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("setting", SETTINGS, ids=repr)
def test_converted_layer_computes_what_the_stock_one_does(setting: Setting, training: bool) -> None:
    """In training the same units drop out, as both draw the same random numbers."""
    stock, converted = both(setting)
    for layer in (stock, converted):
        layer.dropout = 0.3
        layer.train(training)
    all_equal(run(stock, setting), run(converted, setting))


COMBINATIONS = [
    Setting(
        f"{mask=} {padding=} {causal=} {need_weights=} {average=} {batched=} {bias_kv=}",
        mask=None if causal else mask,
        padding=padding,
        causal=causal,
        need_weights=need_weights,
        average=average,
        batched=batched,
        bias_kv=bias_kv,
        zero_attention=bias_kv,
    )
    for mask in (None, "bool", "float", "per head")
    for padding in (None, "bool", "float")
    for causal in (False, True)
    for need_weights in (False, True)
    for average in (False, True)
    for batched in (False, True)
    for bias_kv in (False, True)
]


def test_converted_layer_agrees_in_all_combinations_of_arguments() -> None:
    for setting in COMBINATIONS:
        stock, converted = both(setting)
        all_equal(run(stock, setting), run(converted, setting))


def test_gradients_are_those_of_the_stock_layer() -> None:
    setting = Setting("gradients", need_weights=True, bias_kv=True)
    gradients = []
    for layer in both(setting):
        sum(tensor.square().sum() for tensor in run(layer, setting)).backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    all_equal(*gradients)


def test_converted_layer_is_still_one_with_the_same_state() -> None:
    stock, converted = both(SETTINGS[0])
    assert isinstance(converted, nn.MultiheadAttention)
    assert converted.state_dict().keys() == stock.state_dict().keys()
    fresh = SETTINGS[0].layer()
    fresh.load_state_dict(converted.state_dict())
    all_equal(run(stock, SETTINGS[0]), run(fresh, SETTINGS[0]))


def test_converted_layer_can_be_copied_and_pickled() -> None:
    setting = SETTINGS[0]
    _, converted = both(setting)
    expected = run(converted, setting)
    buffer = io.BytesIO()
    torch.save(converted, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(converted),
        pickle.loads(pickle.dumps(converted)),
        torch.load(buffer, weights_only=False),
    ]
    for other in copies:
        assert type(other) is FreeMultiheadAttention
        all_equal(expected, run(other, setting))


def test_only_the_stock_layer_is_converted() -> None:
    class Mine(nn.MultiheadAttention):
        pass

    with pytest.raises(TypeError, match="Mine"):
        FreeMultiheadAttention.convert(Mine(WIDTH, 3))


def test_causal_without_a_mask_is_refused_as_by_the_stock_layer() -> None:
    x = torch.randn(2, 4, WIDTH).double()
    for layer in both(SETTINGS[0]):
        with pytest.raises(RuntimeError, match="attn_mask"):
            layer(x, x, x, is_causal=True)


def convert_inside(model: nn.Module) -> nn.Module:
    converted = copy.deepcopy(model)
    for module in list(converted.modules()):
        if type(module) is nn.MultiheadAttention:
            FreeMultiheadAttention.convert(module)
    return converted


@pytest.fixture
def fast_path() -> Any:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with gradients"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("masked", [False, True], ids=["open", "causal"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["tokens first", "batch first"])
@pytest.mark.usefixtures("fast_path")
def test_inside_an_encoder_with_the_fast_path_on(
    batch_first: bool, masked: bool, padded: bool, gradients: bool
) -> None:
    """Without gradients, batch first and padded, the stock encoder packs the sequences into a nested tensor."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    stock = nn.TransformerEncoder(layer, 2).double().eval()
    x = torch.randn(3, 5, 8).double()
    padding = torch.arange(5) >= torch.tensor([4, 3, 1])[:, None] if padded else None
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if masked else None
    x = x if batch_first else x.transpose(0, 1)
    with torch.set_grad_enabled(gradients):
        outs = [model(x, mask, src_key_padding_mask=padding) for model in (stock, convert_inside(stock))]
    if padded:  # what stands at padded positions is anybody's
        rows = ~padding if batch_first else ~padding.t()
        outs = [out[rows[: out.shape[0], : out.shape[1]]] for out in outs]
    all_equal(*outs)


@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with gradients"])
@pytest.mark.usefixtures("fast_path")
def test_inside_a_decoder_with_the_fast_path_on(gradients: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    stock = nn.TransformerDecoder(layer, 2).double().eval()
    target, memory = torch.randn(3, 4, 8).double(), torch.randn(3, 5, 8).double()
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    with torch.set_grad_enabled(gradients):
        outs = [model(target, memory, mask, tgt_is_causal=True) for model in (stock, convert_inside(stock))]
    all_equal(*outs)


def test_positions_of_nested_tensors_need_not_be_as_many_as_the_mask_has() -> None:
    """The longest sequence may be shorter than the padded input was."""
    _, converted = both(SETTINGS[0])
    sequences = [torch.randn(3, WIDTH).double(), torch.randn(2, WIDTH).double()]
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    with torch.no_grad():
        nested = torch.nested.nested_tensor(sequences)
        out, _ = converted(nested, nested, nested, attn_mask=mask)
        for row, x in zip(out.unbind(), sequences, strict=True):
            all_equal(converted(x, x, x, attn_mask=mask[: len(x), : len(x)])[0], row)
