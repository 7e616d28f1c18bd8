"""The pruners of Torch-Pruning 1.x: counts, order, ratios, histories, on convolutions and attention."""

from typing import Any

import pytest
import torch
from tests.api.models import TwoWidths
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18

import torch_pruning as tp
from torch_pruning.errors import BudgetError

PIXELS = torch.randn(2, 3, 32, 32)


class Small(nn.Module):
    """Two stages with a residual connection and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
        self.inner_norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner_norm(self.inner(x))))
        return self.head(x.mean((2, 3)))


def widths(model: Any) -> tuple[int, int]:
    return model.stem.out_channels, model.inner.out_channels


def magnitude(model: nn.Module, **options: Any) -> tp.pruner.MagnitudePruner:
    return tp.pruner.MagnitudePruner(model, PIXELS, tp.importance.MagnitudeImportance(p=2), **options)


def test_three_names_are_one_class() -> None:
    assert tp.pruner.BasePruner is tp.pruner.MetaPruner is tp.pruner.MagnitudePruner


def test_ratios_are_of_channels_at_the_start_in_equal_steps() -> None:
    model = Small()
    pruner = magnitude(model, pruning_ratio=0.5, iterative_steps=4, ignored_layers=[model.head])
    seen = []
    for _ in range(pruner.iterative_steps):
        pruner.step()
        seen.append(widths(model))
        model(PIXELS).sum().backward()
    assert seen == [(7, 14), (6, 12), (5, 10), (4, 8)]
    assert model.head.out_features == 5
    assert pruner.current_step == 4
    with pytest.warns(UserWarning, match="4 steps are done"):
        pruner.step()
    assert widths(model) == (4, 8)


def test_scheduler_of_the_user() -> None:
    model = Small()

    def late(ratio: float, steps: int) -> list[float]:
        return [0.0] * steps + [ratio]

    pruner = magnitude(model, pruning_ratio=0.5, iterative_steps=3, iterative_pruning_ratio_scheduler=late)
    seen = [(pruner.step(), widths(model))[1] for _ in range(3)]
    assert seen == [(8, 16), (8, 16), (4, 8)]


def test_interactive_groups_come_from_the_output_and_go_one_by_one() -> None:
    model, twin = Small(), Small()
    twin.load_state_dict(model.state_dict())
    pruner = magnitude(model, pruning_ratio=0.5)
    order = []
    for group in pruner.step(interactive=True):
        dep, idxs = group[0]
        assert dep.handler is tp.prune_conv_out_channels
        before = dep.target.module.out_channels
        order.append((dep.target.path, len(idxs)))
        assert group.idxs == idxs == group[0].root_idxs
        group.prune()
        assert dep.target.module.out_channels == before - len(idxs)
    assert order == [("outer", 4), ("inner", 8)]
    magnitude(twin, pruning_ratio=0.5).step()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    assert [entry[0] for entry in pruner.pruning_history()] == ["outer", "inner"]


def test_group_that_the_user_leaves_alone_stays() -> None:
    model = Small()
    for group in magnitude(model, pruning_ratio=0.5).step(interactive=True):
        if group[0].dep.target.path != "outer":
            group.prune()
    assert widths(model) == (8, 8)


def test_ratios_of_their_own_for_modules_containers_and_tuples() -> None:
    model = Small()
    magnitude(model, pruning_ratio=0.5, pruning_ratio_dict={model.inner: 0.25}).step()
    assert widths(model) == (4, 12)
    container = nn.Sequential(Small().stem, nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)), nn.Conv2d(8, 3, 1))
    magnitude(container, pruning_ratio=0.0, pruning_ratio_dict={container[1]: 0.5}).step()
    assert [layer.out_channels for layer in container.modules() if isinstance(layer, nn.Conv2d)] == [8, 4, 4, 3]
    together = Small()
    with torch.no_grad():
        together.inner.weight *= 100  # all of the other stage goes first
        together.inner_norm.weight *= 100
        together.outer.weight[:, :] *= 1
    pruner = magnitude(together, pruning_ratio=0.0, pruning_ratio_dict={(together.stem, together.inner): 0.25})
    pruner.step()
    assert sum(widths(together)) == 24 - 6


def test_max_pruning_ratio_holds_under_global_ranking() -> None:
    model = Small()
    with torch.no_grad():
        model.inner.weight *= 1e-3
        model.inner.bias *= 1e-3
    importance = tp.importance.MagnitudeImportance(p=2, normalizer=None)
    options: dict[str, Any] = {"global_pruning": True, "pruning_ratio": 0.5}
    tp.pruner.MagnitudePruner(model, PIXELS, importance, max_pruning_ratio=0.6, **options).step()
    assert sum(widths(model)) == 12
    assert model.inner.out_channels >= 16 * 0.4
    assert model.stem.out_channels >= 8 * 0.4


@pytest.mark.parametrize("scores", ["tied", "one unit"])
def test_never_silently_nothing(scores: str) -> None:
    model = Small()
    if scores == "tied":
        nn.init.constant_(model.inner.weight, 0.1)
        nn.init.constant_(model.outer.weight, 0.1)
        nn.init.constant_(model.stem.weight, 0.1)
        magnitude(model, pruning_ratio=0.5, global_pruning=True).step()
        assert sum(widths(model)) == 12
    else:
        with pytest.raises(BudgetError, match="0"):
            magnitude(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 1)), pruning_ratio=0.5).step()


def test_round_to() -> None:
    model = Small()
    magnitude(model, pruning_ratio=0.3, round_to=4).step()
    assert widths(model) == (4, 12) or widths(model) == (8, 12)


def test_users_own_criterion_by_position_of_the_root() -> None:
    class Mine(tp.importance.Importance):
        def __call__(self, group: Any) -> Any:
            scores = []
            for dep, idxs in group:
                if dep.handler in [tp.prune_conv_out_channels, tp.prune_linear_out_channels]:
                    scores.append(dep.target.module.weight.data[idxs].flatten(1).abs().sum(1))
            return torch.stack(scores).mean(0) if scores else None

    model = Small()
    wanted = model.inner.weight.detach().flatten(1).abs().sum(1).topk(8).indices.sort().values
    expected = model.inner.weight.detach()[wanted]
    tp.pruner.MagnitudePruner(model, PIXELS, Mine(), pruning_ratio=0.5).step()
    assert torch.equal(model.inner.weight[:, 0], expected[:, _kept(model, expected)][:, 0])


def _kept(model: Any, expected: Tensor) -> list[int]:
    """The input channels of `inner` that stayed, by their weights."""
    return [i for i in range(8) if any(torch.equal(expected[:, i], model.inner.weight[:, j]) for j in range(4))]


def test_criterion_that_gives_none_leaves_the_group_alone() -> None:
    def only_inner(group: Any) -> Any:
        return torch.rand(len(group[0].idxs)) if group[0].dep.target.path == "inner" else None

    model = Small()
    tp.pruner.MagnitudePruner(model, PIXELS, only_inner, pruning_ratio=0.5).step()
    assert widths(model) == (8, 8)


def test_estimate_importance_can_be_overridden() -> None:
    class LastStay(tp.pruner.MetaPruner):
        def estimate_importance(self, group: Any) -> Any:
            return torch.arange(len(group[0].idxs)).float()

    model = Small()
    expected = model.norm.weight[4:].clone(), model.stem.weight[4:].clone()
    LastStay(model, PIXELS, importance=None, pruning_ratio=0.5).step()
    assert torch.equal(model.norm.weight, expected[0])
    assert torch.equal(model.stem.weight, expected[1])


def test_scores_of_a_group_by_every_criterion() -> None:
    model = Small()
    pruner = magnitude(model)
    group = pruner.DG.get_pruning_group(model.inner, tp.prune_conv_out_channels, list(range(16)))
    for name in ("MagnitudeImportance", "BNScaleImportance", "LAMPImportance", "FPGMImportance", "RandomImportance"):
        scores = getattr(tp.importance, name)()(group)
        assert scores.shape == (16,)
        assert torch.isfinite(scores).all()


def test_manual_prune_width_by_ratio_and_by_positions() -> None:
    model = Small()
    pruner = magnitude(model)
    assert pruner.manual_prune_width(model.inner, tp.prune_conv_out_channels, 0.25) > 0
    assert widths(model) == (8, 12)
    pruner.manual_prune_width(model.head, tp.prune_linear_in_channels, [0, 7])
    assert widths(model) == (6, 12)
    fresh = Small()
    magnitude(fresh).load_pruning_history(pruner.pruning_history())
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    with pytest.raises(ValueError, match="output"):
        pruner.manual_prune_width(model.head, tp.prune_linear_out_channels, 0.5)


def test_history_of_steps_replays() -> None:
    model, fresh = resnet18(), resnet18()
    pruner = magnitude(model, pruning_ratio=0.4, iterative_steps=2, global_pruning=True)
    pruner.step()
    for group in pruner.step(interactive=True):
        group.prune()
    replayed = magnitude(fresh)
    replayed.load_pruning_history(pruner.pruning_history())
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(PIXELS), model.eval()(PIXELS))
    assert replayed.pruning_history() == pruner.pruning_history()


def test_ignored_parameter_and_root_types() -> None:
    model = Small()
    magnitude(model, pruning_ratio=0.5, ignored_layers=[model.stem.weight]).step()
    assert widths(model) == (8, 8)
    mixed = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 8, 1), nn.Flatten())
    mixed.append(nn.Linear(8, 2))
    options: dict[str, Any] = {"pruning_ratio": 0.5, "root_module_types": [nn.Conv1d]}
    tp.pruner.MagnitudePruner(mixed, torch.randn(2, 4), tp.importance.MagnitudeImportance(), **options).step()
    assert (mixed[0].out_features, mixed[3].out_channels) == (8, 4)


def vit() -> VisionTransformer:
    return VisionTransformer(32, 16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=48, num_classes=5)


def test_vision_transformer_with_and_without_hints() -> None:
    sizes = []
    for hints in (False, True):
        torch.manual_seed(0)
        model = vit().eval()
        attentions = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
        options = {"num_heads": {m: m.num_heads for m in attentions}} if hints else {}
        pruner = tp.pruner.MagnitudePruner(
            model, PIXELS[:1], tp.importance.MagnitudeImportance(), pruning_ratio=0.5, global_pruning=False,
            ignored_layers=[model.heads], **options,
        )  # fmt: skip
        pruner.step()
        assert model(PIXELS).shape == (2, 5)
        assert model.conv_proj.out_channels == 16
        assert model.encoder.layers[0].mlp[0].out_features == 24
        sizes.append([p.shape for p in model.parameters()])
    assert sizes[0] == sizes[1]


def test_heads_go_by_their_own_ratio() -> None:
    model = vit().eval()
    pruner = tp.pruner.MagnitudePruner(
        model, PIXELS[:1], tp.importance.MagnitudeImportance(), pruning_ratio=0.0, prune_num_heads=True,
        prune_head_dims=False, head_pruning_ratio=0.5,
    )  # fmt: skip
    pruner.step()
    attention = model.encoder.layers[0].self_attention
    assert (attention.num_heads, attention.head_dim) == (2, 8)
    assert model(PIXELS).shape == (2, 5)


def test_width_tied_to_heads_interactively() -> None:
    model, inputs = TwoWidths().eval(), torch.randn(2, 4, 5)
    pruner = tp.pruner.MagnitudePruner(model, inputs, tp.importance.MagnitudeImportance(), pruning_ratio=0.5)
    count = 0
    for group in pruner.step(interactive=True):
        group.prune()
        count += 1
    assert count > 0
    assert model.stem.out_features == 6
    assert model(inputs).shape == (2, 4, 2)
    fresh = TwoWidths().eval()
    again = tp.pruner.MagnitudePruner(fresh, inputs, tp.importance.MagnitudeImportance())
    again.load_pruning_history(pruner.pruning_history())
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]


# ---------------------------------------------------------------- sparse training


SPARSE = {
    "group norm": (tp.pruner.GroupNormPruner, {"reg": 1e-2}),
    "batch norm scale": (tp.pruner.BNScalePruner, {"reg": 1e-2}),
    "batch norm group lasso": (tp.pruner.BNScalePruner, {"reg": 1e-2, "group_lasso": True}),
    "growing": (tp.pruner.GrowingRegPruner, {"reg": 1e-2, "delta_reg": 1e-2}),
}


@pytest.mark.parametrize("name", SPARSE)
def test_regularizers_change_the_gradient_of_batch_norms_too(name: str) -> None:
    kind, options = SPARSE[name]
    model = Small()
    pruner = kind(model, PIXELS, tp.importance.MagnitudeImportance(), pruning_ratio=0.5, **options)
    for _ in range(2):
        pruner.update_regularizer()
        model.zero_grad()
        model(PIXELS).square().sum().backward()
        before = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        pruner.regularize(model, loss=None)
        changed = {n for n, p in model.named_parameters() if not torch.equal(p.grad, before[n])}
        assert "norm.weight" in changed
        assert ("inner.weight" in changed) == (kind is not tp.pruner.BNScalePruner)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        pruner.step()
        if name == "growing":
            pruner.update_reg()
        pruner.reset()


def test_growing_regularizer_grows() -> None:
    model = Small()
    pruner = tp.pruner.GrowingRegPruner(model, PIXELS, tp.importance.MagnitudeImportance(), reg=1e-3, delta_reg=1e-2)

    def push() -> float:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        pruner.regularize(model)
        return float(model.inner.weight.grad.norm())

    first = push()
    pruner.update_reg()
    assert push() > 1.5 * first


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pruning_ratio": 1.0}, "below 1; found 1.0"),
        ({"pruning_ratio": "half"}, "found 'half'"),
        ({"iterative_steps": 0}, "iterative_steps must be a positive integer, found 0"),
        ({"iterative_pruning_ratio_scheduler": lambda ratio, steps: [ratio]}, "2 in all; found"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=message):
        tp.pruner.BasePruner(net, torch.randn(1, 4), tp.importance.MagnitudeImportance(), **options)


@pytest.mark.parametrize("ratio", [-0.5, 1.0])
def test_a_width_cannot_lose_a_share_that_is_none(ratio: float) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    pruner = tp.pruner.BasePruner(net, torch.randn(1, 4), tp.importance.MagnitudeImportance())
    with pytest.raises(ValueError, match="share of units to remove"):
        pruner.manual_prune_width(net[0], tp.prune_linear_out_channels, ratio)
    assert net[0].out_features == 8


def test_one_layer_is_ignored_without_a_list() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    tp.pruner.BasePruner(net, torch.randn(1, 4), tp.importance.MagnitudeImportance(), ignored_layers=net[0]).step()
    assert (net[0].out_features, net[2].out_features) == (8, 3)
