"""The per-layer functions against the layer they started from: a pruned layer computes a slice of the original."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, layer_norm, rms_norm
from torch.nn.utils import parametrizations, prune

from torch_pruning import layers as tp
from torch_pruning.errors import PositionError
from torch_pruning.planning.tensors import assign, kept_positions, shrink, shrink_blocks

pytestmark = pytest.mark.ops

Fingerprint = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One layer, the positions it loses, and the layer it must look like afterwards.

    `side` says what the positions are: its outputs; its inputs (the reference sees zeros there); both alike (each
    channel is mapped to itself); whole groups.
    """

    function: Callable[..., Any]
    side: str
    layer: Any
    after: nn.Module
    idxs: list[int]
    channels: int
    spatial: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.function.__name__}-{self.layer}-{self.idxs}".replace(" ", "")


CASES = [
    Case(tp.prune_conv, "out", nn.Conv1d(4, 6, 3), nn.Conv1d(4, 3, 3), [0, 2, 5], 4, (7,)),
    Case(tp.prune_conv, "out", nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(4, 5, 3, bias=False), [3], 4, (5, 6)),
    Case(tp.prune_conv, "out", nn.Conv3d(2, 4, 2), nn.Conv3d(2, 1, 2), [0, 1, 3], 2, (3, 4, 3)),
    Case(tp.prune_conv, "out", nn.ConvTranspose1d(4, 6, 3), nn.ConvTranspose1d(4, 4, 3), [5, 1], 4, (7,)),
    Case(tp.prune_conv, "out", nn.ConvTranspose2d(4, 6, 3, 2), nn.ConvTranspose2d(4, 5, 3, 2), [-2], 4, (4, 5)),
    Case(tp.prune_conv, "out", nn.ConvTranspose3d(2, 4, 2), nn.ConvTranspose3d(2, 3, 2), [2], 2, (3, 2, 3)),
    Case(tp.prune_conv, "out", nn.Conv2d(4, 9, 3, groups=1), nn.Conv2d(4, 2, 3), [0, 1, 2, 4, 5, 7, 8], 4, (5, 5)),
    Case(tp.prune_conv, "out", nn.Conv2d(6, 9, 3, groups=3), nn.Conv2d(6, 6, 3, groups=3), [2, 3, 7], 6, (5, 5)),
    Case(tp.prune_conv, "out", nn.Conv1d(4, 8, 1, groups=4), nn.Conv1d(4, 4, 1, groups=4), [0, 3, 4, 7], 4, (3,)),
    Case(
        tp.prune_conv,
        "out",
        nn.ConvTranspose2d(4, 6, 2, groups=2),
        nn.ConvTranspose2d(4, 4, 2, groups=2),
        [1, 5],
        4,
        (3, 4),
    ),
    Case(tp.prune_related_conv, "in", nn.Conv1d(6, 4, 3), nn.Conv1d(4, 4, 3), [0, 4], 6, (7,)),
    Case(tp.prune_related_conv, "in", nn.Conv2d(6, 4, 3), nn.Conv2d(3, 4, 3), [0, 4, 5], 6, (5, 5)),
    Case(tp.prune_related_conv, "in", nn.Conv3d(3, 2, 2), nn.Conv3d(2, 2, 2), [1], 3, (3, 3, 3)),
    Case(tp.prune_related_conv, "in", nn.ConvTranspose2d(6, 4, 3), nn.ConvTranspose2d(5, 4, 3), [2], 6, (5, 5)),
    Case(tp.prune_related_conv, "in", nn.Conv2d(6, 4, 3, groups=2), nn.Conv2d(4, 4, 3, groups=2), [2, 3], 6, (5, 5)),
    Case(
        tp.prune_related_conv,
        "in",
        nn.ConvTranspose1d(6, 4, 3, groups=2),
        nn.ConvTranspose1d(2, 4, 3, groups=2),
        [1, 2, 3, 5],
        6,
        (5,),
    ),
    Case(tp.prune_group_conv, "groups", nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(4, 4, 3, groups=4), [1, 4], 6, (5, 5)),
    Case(tp.prune_group_conv, "groups", nn.Conv1d(4, 8, 3, groups=4), nn.Conv1d(3, 6, 3, groups=3), [2, 3], 4, (5,)),
    Case(tp.prune_group_conv, "groups", nn.Conv2d(9, 6, 1, groups=3), nn.Conv2d(6, 4, 1, groups=2), [4, 5], 9, (2, 2)),
    Case(
        tp.prune_group_conv,
        "groups",
        nn.ConvTranspose2d(6, 9, 2, groups=3),
        nn.ConvTranspose2d(2, 3, 2, groups=1),
        [0, 1, 2, 6, 7, 8],
        6,
        (3, 3),
    ),
    Case(tp.prune_linear, "out", nn.Linear(5, 6), nn.Linear(5, 4), [0, -1], 5),
    Case(tp.prune_linear, "out", nn.Linear(5, 6, bias=False), nn.Linear(5, 5, bias=False), [3], 5),
    Case(tp.prune_related_linear, "in", nn.Linear(6, 5), nn.Linear(3, 5), [4, 0, 1], 6),
    Case(tp.prune_batchnorm, "both", nn.BatchNorm1d(6), nn.BatchNorm1d(4), [0, 5], 6),
    Case(tp.prune_batchnorm, "both", nn.BatchNorm2d(6, affine=False), nn.BatchNorm2d(5, affine=False), [2], 6, (3, 3)),
    Case(
        tp.prune_batchnorm,
        "both",
        nn.BatchNorm3d(6, track_running_stats=False),
        nn.BatchNorm3d(5, track_running_stats=False),
        [1],
        6,
        (2, 3, 2),
    ),
    Case(tp.prune_batchnorm, "both", nn.BatchNorm2d(6).eval(), nn.BatchNorm2d(5), [2], 6, (3, 3)),
    Case(tp.prune_prelu, "both", nn.PReLU(6), nn.PReLU(4), [0, 3], 6, (9,)),
    Case(tp.prune_prelu, "both", nn.PReLU(), nn.PReLU(), [0, 3], 6, (9,)),
    Case(tp.prune_instancenorm_out_channels, "both", nn.InstanceNorm1d(6), nn.InstanceNorm1d(4), [0, 3], 6, (9,)),
    Case(
        tp.prune_instancenorm_out_channels,
        "both",
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True).eval(),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        [0, 3],
        6,
        (3, 4),
    ),
    Case(tp.prune_groupnorm_out_channels, "both", nn.GroupNorm(3, 6), nn.GroupNorm(2, 4), [2, 3], 6, (5,)),
    Case(
        tp.prune_groupnorm_out_channels,
        "both",
        nn.GroupNorm(6, 6, affine=False),
        nn.GroupNorm(4, 4, affine=False),
        [2, 5],
        6,
        (5,),
    ),
]


def randomized(layer: nn.Module) -> Any:
    """A copy in double precision whose parameters and statistics are all different."""
    layer = copy.deepcopy(layer).double()
    generator = torch.Generator().manual_seed(0)
    for tensor in itertools.chain(layer.parameters(), layer.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.1
    return layer


def fingerprint(layer: nn.Module) -> Fingerprint:
    """Everything that a refused call must leave alone."""
    tensors = {
        name: (id(tensor), tensor.data_ptr(), tensor.tolist(), tensor.requires_grad, str(tensor.grad))
        for name, tensor in itertools.chain(layer.named_parameters(), layer.named_buffers())
    }
    plain = {name: value for name, value in vars(layer).items() if isinstance(value, int | tuple | str)}
    return tensors, plain, repr(layer)


def prune_layer(case: Case, layer: nn.Module) -> Any:
    result = case.function(layer, case.idxs)
    return result[0] if isinstance(result, tuple) else result


def kept_inputs(case: Case, removed: set[int]) -> list[int]:
    if case.side == "out":
        return list(range(case.channels))
    if case.side == "groups":
        per_group = case.layer.out_channels // case.layer.groups
        groups = {position // per_group for position in removed}
        return [at for at in range(case.channels) if at // (case.channels // case.layer.groups) not in groups]
    return [at for at in range(case.channels) if at not in removed]


def outputs_and_grads(layer: nn.Module, x: Tensor, kept: list[int]) -> tuple[Tensor, list[Any]]:
    """The kept outputs; the gradients of input and parameters for a loss over them."""
    x = x.clone().requires_grad_()
    out = layer(x)[:, kept]
    (out * torch.linspace(1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return out, [tensor.grad for tensor in (x, *layer.parameters())]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pruned_layer_computes_a_slice_of_the_original(case: Case) -> None:
    original = randomized(case.layer)
    pruned = prune_layer(case, copy.deepcopy(original))
    x = torch.randn(3, case.channels, *case.spatial, dtype=torch.float64)
    width = copy.deepcopy(original)(x).shape[1]
    removed = {at % (case.channels if case.side == "in" else width) for at in case.idxs}
    inputs = kept_inputs(case, removed)
    outputs = [at for at in range(width) if at not in removed or case.side == "in"]
    masked = torch.zeros_like(x)
    masked[:, inputs] = x[:, inputs]
    shared = isinstance(original, nn.PReLU) and original.num_parameters == 1

    expected, expected_grads = outputs_and_grads(copy.deepcopy(original), masked, outputs)
    found, found_grads = outputs_and_grads(pruned, x[:, inputs], list(range(len(outputs))))

    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_grads.pop(0), expected_grads.pop(0)[:, inputs], rtol=1e-12, atol=1e-12)
    for grad, whole in zip(found_grads, expected_grads, strict=True):
        # What is removed has no influence, so its gradient is zero; what is left stands in the same order.
        torch.testing.assert_close(grad.flatten(), whole if shared else whole[whole != 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pruned_layer_looks_like_a_fresh_one(case: Case) -> None:
    pruned = prune_layer(case, copy.deepcopy(case.layer))
    assert repr(pruned) == repr(case.after)
    shapes = {name: tensor.shape for name, tensor in pruned.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in case.after.state_dict().items()}


CASES_COUNTED = [
    case for case in CASES if case.function.__name__ in tp.__all__ and "channels" not in str(case.function)
]


@pytest.mark.parametrize("case", CASES_COUNTED, ids=str)
def test_dry_run_and_copy_count_alike_and_leave_the_layer(case: Case) -> None:
    layer = randomized(case.layer)
    before = fingerprint(layer)
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (case.layer, case.after)]

    returned, counted = case.function(layer, case.idxs, dry_run=True)
    assert returned is layer
    assert fingerprint(layer) == before
    pruned, num_pruned = case.function(layer, case.idxs, inplace=False)
    assert pruned is not layer
    assert fingerprint(layer) == before
    assert counted == num_pruned == sizes[0] - sizes[1]
    assert repr(pruned) == repr(case.after)
    assert case.function(layer, case.idxs) == (layer, num_pruned)


@pytest.mark.parametrize(
    ("function", "layer", "num_pruned"),
    [
        (tp.prune_conv, nn.Conv2d(3, 64, 7, bias=False), 441),
        (tp.prune_batchnorm, nn.BatchNorm2d(64), 6),
        (tp.prune_batchnorm, nn.BatchNorm2d(64, affine=False), 0),
        (tp.prune_related_conv, nn.Conv2d(64, 64, 3, bias=False), 1728),
        (tp.prune_related_conv, nn.Conv2d(64, 128, 3, bias=False), 3456),
        (tp.prune_related_conv, nn.Conv2d(64, 128, 1, bias=False), 384),
    ],
)
def test_counts_of_resnet18(function: Callable[..., Any], layer: nn.Module, num_pruned: int) -> None:
    assert function(layer, [2, 6, 9]) == (layer, num_pruned)


# Statistics over the removed dimension: the reference is the function on what is left.


@pytest.mark.parametrize("width", [3, 700])
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_layer_norm_keeps_the_order_of_its_weights(norm: Callable[..., Any], width: int) -> None:
    layer = randomized(norm((2, width)))
    weight, bias = layer.weight.detach().clone(), getattr(layer, "bias", None)
    kept = [at for at in range(width) if at % 3 == 1]
    pruned = tp.prune_layernorm_out_channels(copy.deepcopy(layer), sorted(set(range(width)) - set(kept)))
    x = torch.randn(4, 2, len(kept), dtype=torch.float64)
    expected = (
        rms_norm(x, (2, len(kept)), weight[:, kept], layer.eps)
        if bias is None
        else layer_norm(x, (2, len(kept)), weight[:, kept], bias[:, kept], layer.eps)
    )
    assert pruned.normalized_shape == (2, len(kept))
    torch.testing.assert_close(pruned(x), expected)


@pytest.mark.parametrize("options", [{"elementwise_affine": False}, {"bias": False}])
def test_layer_norm_without_parameters(options: dict[str, bool]) -> None:
    pruned = tp.prune_layernorm_in_channels(nn.LayerNorm(6, **options), [0, 1])
    assert repr(pruned) == repr(nn.LayerNorm(4, **options))
    assert pruned(torch.randn(2, 4)).shape == (2, 4)


def test_group_norm_takes_equally_many_from_each_group() -> None:
    layer = randomized(nn.GroupNorm(2, 8))
    kept = [0, 2, 3, 5, 6, 7]
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    expected = group_norm(x, 2, layer.weight.detach()[kept], layer.bias.detach()[kept], layer.eps)
    pruned = tp.prune_groupnorm_out_channels(layer, [1, 4])
    assert (pruned.num_groups, pruned.num_channels) == (2, 6)
    torch.testing.assert_close(pruned(x), expected)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embedding_loses_dimensions_not_words(kind: Callable[..., Any]) -> None:
    layer = kind(10, 6)
    tokens = torch.tensor([[1, 2], [9, 0]])
    expected = layer(tokens)[..., [0, 2, 4, 5]].detach()
    pruned = tp.prune_embedding_out_channels(layer, [1, 3])
    assert (pruned.num_embeddings, pruned.embedding_dim) == (10, 4)
    torch.testing.assert_close(pruned(tokens), expected)


PARTNERS = [
    (tp.prune_conv_out_channels, tp.prune_conv, nn.Conv2d(8, 8, 3, groups=2)),
    (tp.prune_conv_in_channels, tp.prune_related_conv, nn.Conv2d(8, 8, 3, groups=2)),
    (tp.prune_depthwise_conv_out_channels, tp.prune_group_conv, nn.Conv2d(8, 8, 3, groups=8)),
    (tp.prune_depthwise_conv_in_channels, tp.prune_group_conv, nn.Conv2d(8, 8, 3, groups=8)),
    (tp.prune_batchnorm_out_channels, tp.prune_batchnorm, nn.BatchNorm2d(8)),
    (tp.prune_batchnorm_in_channels, tp.prune_batchnorm, nn.BatchNorm2d(8)),
    (tp.prune_linear_out_channels, tp.prune_linear, nn.Linear(8, 8)),
    (tp.prune_linear_in_channels, tp.prune_related_linear, nn.Linear(8, 8)),
    (tp.prune_prelu_out_channels, tp.prune_prelu, nn.PReLU(8)),
    (tp.prune_prelu_in_channels, tp.prune_prelu, nn.PReLU(8)),
]


@pytest.mark.parametrize(("one_sided", "partner", "layer"), PARTNERS)
def test_one_sided_name_does_what_its_partner_does(
    one_sided: Callable[..., Any], partner: Callable[..., Any], layer: nn.Module
) -> None:
    expected, _ = partner(layer, [1, 6], inplace=False)
    mine = copy.deepcopy(layer)
    assert one_sided(mine, [1, 6]) is mine
    assert repr(mine) == repr(expected)
    torch.testing.assert_close(mine.state_dict(), expected.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["layernorm", "embedding", "groupnorm", "instancenorm"])
def test_layers_of_one_width_have_one_function_for_both_sides(kind: str) -> None:
    assert getattr(tp, f"prune_{kind}_in_channels") is getattr(tp, f"prune_{kind}_out_channels")


# Positions


SPELLINGS: list[Any] = [
    [1, 3, 6],
    [6, 1, 3],
    (1, 3, 6),
    {1, 3, 6},
    [-7, -5, -2],
    iter([3, 6, 1]),
    torch.tensor([1, 3, 6]),
    torch.tensor([6, 3, 1], dtype=torch.int16),
    [torch.tensor(1), torch.tensor(3), torch.tensor(6)],
    np.array([1, 3, 6]),
    list(np.array([1, 3, -2], dtype=np.int8)),
]


@pytest.mark.parametrize("idxs", SPELLINGS, ids=[str(at) for at in range(len(SPELLINGS))])
def test_spellings_of_the_same_positions(idxs: Any) -> None:
    assert kept_positions(8, idxs).tolist() == [0, 2, 4, 5, 7]


def test_kept_positions_against_sets() -> None:
    for size in range(1, 5):
        for idxs in itertools.product(range(-size, size), repeat=2):
            removed = {at % size for at in idxs}
            if len(removed) == 2 and size > 2:
                assert kept_positions(size, idxs).tolist() == sorted(set(range(size)) - removed)
            else:
                with pytest.raises(PositionError):
                    kept_positions(size, idxs)
    assert kept_positions(4, range(1, 4)).tolist() == [0]


REFUSED: list[tuple[Any, type[Exception], str]] = [
    ([0, 0], PositionError, "distinct"),
    ([0, -8], PositionError, "distinct"),
    ([8], PositionError, "found 8"),
    ([-9], PositionError, "found -9"),
    (range(8), PositionError, "at least one position must stay"),
    ([1.0], TypeError, "integers"),
    ([True], TypeError, "mask"),
    ("1", TypeError, "integers"),
    (3, TypeError, r"\[3\]"),
    (None, TypeError, "list"),
    (torch.tensor(3), TypeError, "list"),
    (torch.tensor([1.0]), TypeError, "integers"),
    (torch.ones(8, dtype=torch.bool), TypeError, "mask"),
    ([torch.tensor(True)], TypeError, "mask"),
    (torch.tensor([[1, 2]]), TypeError, "integers"),
    (np.array([True, False]), TypeError, "mask"),
    ([np.bool_(True)], TypeError, "mask"),
]
REFUSING = [
    (tp.prune_conv, nn.Conv2d(8, 8, 3)),
    (tp.prune_related_conv, nn.ConvTranspose2d(8, 8, 3, groups=2)),
    (tp.prune_group_conv, nn.Conv2d(8, 8, 3, groups=8)),
    (tp.prune_linear, nn.Linear(8, 8)),
    (tp.prune_related_linear, nn.Linear(8, 8)),
    (tp.prune_batchnorm, nn.BatchNorm2d(8)),
    (tp.prune_prelu, nn.PReLU(8)),
    (tp.prune_layernorm_out_channels, nn.LayerNorm(8)),
    (tp.prune_embedding_out_channels, nn.Embedding(8, 8)),
    (tp.prune_groupnorm_out_channels, nn.GroupNorm(4, 8)),
    (tp.prune_instancenorm_out_channels, nn.InstanceNorm1d(8)),
]


@pytest.mark.parametrize(("idxs", "error", "message"), REFUSED)
@pytest.mark.parametrize(("function", "layer"), REFUSING)
def test_bad_positions_are_refused_and_the_layer_untouched(
    function: Callable[..., Any], layer: nn.Module, idxs: Any, error: type[Exception], message: str
) -> None:
    before = fingerprint(layer)
    with pytest.raises(error, match=message) as raised:
        function(layer, idxs)
    assert repr(layer) in str(raised.value)
    assert fingerprint(layer) == before


@pytest.mark.parametrize("idxs", [[], (), set(), range(0), torch.tensor([], dtype=torch.long), np.array([], dtype=int)])
@pytest.mark.parametrize(("function", "layer"), REFUSING)
def test_no_positions_remove_nothing(function: Callable[..., Any], layer: nn.Module, idxs: Any) -> None:
    before = fingerprint(layer)
    assert function(layer, idxs) in (layer, (layer, 0))
    assert fingerprint(layer) == before


@pytest.mark.parametrize(
    ("function", "layer", "idxs", "error", "message"),
    [
        (tp.prune_conv, nn.Conv2d(4, 8, 3, groups=4), [0, 1], PositionError, r"\[2, 0, 0, 0\].*prune_group_conv"),
        (tp.prune_conv, nn.ConvTranspose2d(4, 8, 3, groups=2), [0], PositionError, "equally many"),
        (tp.prune_related_conv, nn.Conv2d(8, 4, 3, groups=2), [0, 1, 4], PositionError, "equally many"),
        (tp.prune_conv, nn.Conv2d(8, 8, 3, groups=8), [0], PositionError, "prune_group_conv"),
        (tp.prune_group_conv, nn.Conv2d(4, 8, 3, groups=4), [1, 4, 5], PositionError, r"\[0, 1\] \[4, 5\] as a whole"),
        (tp.prune_group_conv, nn.Conv2d(4, 8, 3), [1], PositionError, "a single group"),
        (tp.prune_groupnorm_out_channels, nn.GroupNorm(2, 8), [1], PositionError, "equally many"),
        (tp.prune_conv, nn.Linear(4, 4), [0], TypeError, "found a Linear"),
        (tp.prune_batchnorm, nn.LayerNorm(4), [0], TypeError, "found a LayerNorm"),
        (tp.prune_linear, parametrizations.weight_norm(nn.Linear(4, 4)), [0], ValueError, "computed from others"),
        (tp.prune_conv, prune.random_unstructured(nn.Conv1d(4, 4, 1), "weight", 1), [0], ValueError, "`weight`"),
    ],
)
def test_layers_that_cannot_lose_these_are_untouched(
    function: Callable[..., Any], layer: nn.Module, idxs: list[int], error: type[Exception], message: str
) -> None:
    before = fingerprint(layer)
    with pytest.raises(error, match=message):
        function(layer, idxs)
    assert fingerprint(layer) == before


# State


def test_parameter_objects_flags_hooks_and_gradients_survive() -> None:
    layer: Any = nn.Conv2d(3, 8, 3).to(torch.bfloat16)
    layer.bias.requires_grad_(False)
    layer(torch.randn(1, 3, 5, 5, dtype=torch.bfloat16)).sum().backward()
    seen: list[torch.Size] = []
    layer.weight.register_hook(lambda grad: seen.append(grad.shape))
    weight, bias, grad = layer.weight, layer.bias, layer.weight.grad.clone()

    tp.prune_conv(layer, [0, 7])

    assert layer.weight is weight
    assert layer.bias is bias
    assert (weight.requires_grad, bias.requires_grad, weight.dtype) == (True, False, torch.bfloat16)
    assert weight.is_leaf
    assert torch.equal(weight.grad, grad[1:7])
    layer(torch.randn(1, 3, 5, 5, dtype=torch.bfloat16)).sum().backward()
    assert seen == [weight.shape]


def test_sparse_gradient_is_sliced() -> None:
    layer: Any = nn.Embedding(10, 6, sparse=True)
    layer(torch.tensor([3, 4])).sum().backward()
    expected = layer.weight.grad.to_dense()[:, 2:]
    tp.prune_embedding_out_channels(layer, [0, 1])
    assert layer.weight.grad.is_sparse
    assert torch.equal(layer.weight.grad.to_dense(), expected)


def train_step(layer: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    optimizer.zero_grad()
    loss: Any = layer(torch.randn(2, 4)).square().sum()
    loss.backward()
    optimizer.step()
    return loss


def test_training_goes_on_while_the_previous_loss_is_referenced() -> None:
    layer: Any = nn.Linear(4, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    previous = train_step(layer, optimizer)
    tp.prune_linear(layer, [0, 1])
    before = layer.weight.detach().clone()
    train_step(layer, optimizer)
    assert previous.grad_fn is not None
    assert layer.weight.grad.shape == layer.weight.shape == (4, 4)
    assert not torch.equal(layer.weight, before)


def test_plain_data_assignment_fails_while_the_previous_loss_is_referenced() -> None:
    """The trap that `assign` avoids is real; when torch drops it, `assign` may become plain."""
    layer: Any = nn.Linear(4, 6, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    previous = train_step(layer, optimizer)
    layer.weight.data = layer.weight.data[2:].clone()
    layer.weight.grad = None
    with pytest.raises(RuntimeError, match="shape"):
        train_step(layer, optimizer)
    assert previous.grad_fn is not None


def test_layer_pruned_in_inference_mode_can_be_trained() -> None:
    layer: Any = nn.Linear(4, 6)
    with torch.inference_mode():
        tp.prune_linear(layer, [0])
    assert not layer.weight.is_inference()
    layer(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert layer.weight.grad.shape == (5, 4)


@pytest.mark.parametrize("size", [(8, 6, 3, 3), (8, 6, 1, 1), (8, 2, 3, 3), (2, 6, 3, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_survives(size: tuple[int, ...], memory_format: torch.memory_format) -> None:
    tensor = torch.randn(size).to(memory_format=memory_format)
    for smaller in (
        shrink(tensor, {1: torch.tensor([1])}),
        shrink(tensor, {0: torch.tensor([1, 0]), 1: torch.tensor([0, 1])}),
        shrink_blocks(tensor, 0, 1, torch.tensor([[0], [1]])),
    ):
        assert smaller.stride() == torch.empty(smaller.shape).to(memory_format=memory_format).stride()


def test_channels_last_survives_with_a_single_channel() -> None:
    tensor = torch.randn(8, 1, 3, 3).to(memory_format=torch.channels_last)
    smaller = shrink(tensor, {0: torch.tensor([4, 2])})
    assert smaller.stride() == tensor.stride() == (9, 1, 3, 1)


def test_shrink_copies_in_gather_order() -> None:
    tensor = torch.arange(12.0, requires_grad=True).view(3, 4)
    smaller = shrink(tensor, {0: torch.tensor([2, 0]), 1: torch.tensor([3, 1])})
    assert smaller.tolist() == [[11.0, 9.0], [3.0, 1.0]]
    assert not smaller.requires_grad
    assert shrink(tensor, {}).tolist() == tensor.tolist()


@pytest.mark.parametrize(("lane_dim", "dim"), list(itertools.permutations(range(3), 2)))
def test_shrink_blocks_gathers_lane_by_lane(lane_dim: int, dim: int) -> None:
    tensor = torch.arange(6 * 6 * 6).view(6, 6, 6)
    kept = torch.tensor([[0, 5], [3, 1], [2, 4]])
    lanes = tensor.chunk(3, lane_dim)
    expected = torch.cat([lane.index_select(dim, row) for lane, row in zip(lanes, kept, strict=True)], lane_dim)
    assert torch.equal(shrink_blocks(tensor, lane_dim, dim, kept), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.complex64, torch.int8])
def test_assign_takes_any_dtype(dtype: torch.dtype) -> None:
    parameter: Any = nn.Parameter(torch.ones(4, 2).to(dtype), requires_grad=dtype != torch.int8)
    smaller = shrink(parameter, {0: torch.tensor([1])})
    assign(parameter, smaller, torch.ones(1, 2).to(dtype))
    assert (parameter.dtype, parameter.shape) == (dtype, (1, 2))
    assert parameter.grad.shape == (1, 2)
    assign(parameter, smaller)
    assert parameter.grad is None


# Masks


@pytest.mark.parametrize("kind", [torch.bool, torch.float64, torch.int8])
def test_masks_zero_and_keep(kind: torch.dtype) -> None:
    layer: Any = nn.Linear(3, 4)
    layer.weight.data[0, 0] = float("nan")
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    chosen = torch.arange(12).view(4, 3) % 2 == 1
    assert tp.mask_weight(layer, chosen.to(kind)) is layer
    assert tp.mask_bias(layer, torch.tensor([1, 0, 1, 1]).to(kind)) is layer
    assert torch.equal(layer.weight.detach(), torch.where(chosen, weight, 0.0))
    assert layer.bias.tolist() == [bias[0], 0.0, bias[2], bias[3]]
    assert layer.weight.requires_grad


@pytest.mark.parametrize(
    ("function", "layer", "mask", "message"),
    [
        (tp.mask_weight, nn.Linear(3, 4), torch.ones(3, 4), r"\(4, 3\).*found \(3, 4\)"),
        (tp.mask_weight, nn.Linear(3, 4), torch.full((4, 3), 0.5), "only 0 and 1"),
        (tp.mask_weight, nn.Linear(3, 4), torch.full((4, 3), float("nan")), "only 0 and 1"),
        (tp.mask_bias, nn.Linear(3, 4, bias=False), torch.ones(4), "found none"),
        (tp.mask_weight, parametrizations.weight_norm(nn.Linear(3, 4)), torch.ones(4, 3), "parametrization"),
    ],
)
def test_bad_masks_leave_the_layer(function: Callable[..., Any], layer: nn.Module, mask: Tensor, message: str) -> None:
    before = fingerprint(layer)
    with pytest.raises(ValueError, match=message):
        function(layer, mask)
    assert fingerprint(layer) == before
