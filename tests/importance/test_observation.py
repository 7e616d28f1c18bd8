"""Watching a model: what is seen, what is kept of it, and that nothing is left behind."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import torch_pruning as tp
from torch_pruning import importance
from torch_pruning.errors import ImportanceError
from torch_pruning.importance import ModelTensors
from torch_pruning.importance.statistics import vector_of

pytestmark = pytest.mark.models

NEEDING_DATA = [
    *("taylor", "taylor_multivariate", "hessian", "fisher", "obdc"),
    *("activation", "apoz", "wanda", "fluctuation"),
]
each = pytest.mark.parametrize("name", NEEDING_DATA)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4))


def batch(seed: int, size: int = 4) -> Tensor:
    return torch.randn(size, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def state(model: nn.Module) -> list[object]:
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training) for m in model.modules()
    ]
    return [hooks, [(p.requires_grad, p._backward_hooks, p.grad) for p in model.parameters()], list(vars(model))]


@each
def test_nothing_is_left_on_the_model(name: str) -> None:
    model = small()
    before, weights, random = state(model), copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with importance.criterion(name).observe(model):
        model.eval()
        model(batch(0)).sum().backward()
        model.train()
        model.zero_grad()
    assert state(model) == before
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    model(batch(1)).sum().backward()  # nobody is listening any more


@each
def test_an_exception_passes_and_leaves_nothing(name: str) -> None:
    model = small()
    criterion = importance.criterion(name)
    model.register_forward_hook(lambda *_: {}["mine"])
    before = state(model)
    with pytest.raises(KeyError, match="mine"), criterion.observe(model):
        model(batch(0))
    assert state(model) == before
    assert criterion.statistics is None
    assert torch.overrides._get_current_function_mode() is None


@each
def test_outputs_and_gradients_are_those_without_anybody_watching(name: str) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    x = torch.randn(2, 5, 8)
    torch.manual_seed(3)
    alone = model(x)
    alone.sin().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(3)
    with importance.criterion(name).observe(model):
        watched = model(x)
        watched.sin().sum().backward()
    assert torch.equal(alone, watched)
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))


@each
def test_memory_is_that_of_the_statistics(name: str) -> None:
    model = small()

    def kept(batches: int) -> int:
        with importance.criterion(name).observe(model) as criterion:
            for seed in range(batches):
                model(batch(seed)).sum().backward()
        seen = criterion.statistics
        channels = [c for kept in (seen.reads, seen.makes) for by_start in kept.values() for c in by_start.values()]
        parts = [*channels, *(f for factors in seen.kronecker.values() for f in factors)]
        own = [getattr(part, slot) for part in parts for slot in part.__slots__]
        tensors = [*seen.gradients.values(), *seen.squares.values(), *(t for t in own if isinstance(t, Tensor))]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    assert kept(1) == kept(7) > 0


@each
def test_activations_are_released_at_once(name: str) -> None:
    model = small()
    gc.collect()
    gc.disable()  # whatever needs the collector would pile up, batch after batch
    try:
        with importance.criterion(name).observe(model):
            out = model(batch(0))
            released = weakref.ref(out)
            out.sum().backward()
            del out
            assert released() is None
    finally:
        gc.enable()


def test_a_backward_pass_after_the_block_adds_nothing() -> None:
    model = small()
    obdc = importance.criterion("obdc")
    with obdc.observe(model):
        model(batch(0)).sum().backward()
        late = model(batch(1)).sum()
    before = {name: [f.rows.clone() for f in factors] for name, factors in obdc.statistics.kronecker.items()}
    late.backward()
    after = obdc.statistics.kronecker
    assert all(torch.equal(a, f.rows) for name in before for a, f in zip(before[name], after[name], strict=True))


def test_gradients_are_summed_whatever_the_loop_does_with_its_own() -> None:
    model = small().eval()
    with importance.criterion("taylor").observe(model) as zeroing:
        for seed in range(3):
            model.zero_grad(set_to_none=False)
            model(batch(seed)).sum().backward()
    model.zero_grad()
    with importance.criterion("taylor").observe(model) as adding_up:
        for seed in range(3):
            model(batch(seed)).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(zeroing.statistics.gradients[name], parameter.grad)
        assert torch.equal(zeroing.statistics.gradients[name], adding_up.statistics.gradients[name])


# ---------------------------------------------------------------- how a weight may be used


class Elsewhere(nn.Module):
    """The same linear layer, used in many ways."""

    def __init__(self, use: Callable[[Elsewhere, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(4, 6), nn.Linear(6, 5)
        self.weight = nn.Parameter(torch.randn(6, 5))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.first(x))


USES: dict[str, tuple[str, int, Callable[[Elsewhere, Tensor], Tensor]]] = {
    "the layer": ("other.weight", 1, lambda self, h: self.other(h)),
    "linear": ("other.weight", 1, lambda self, h: F.linear(h, self.other.weight)),
    "linear of a transposed": ("weight", 0, lambda self, h: F.linear(h, self.weight.t())),
    "matmul": ("weight", 0, lambda self, h: h @ self.weight),
    "matmul of a transposed": ("other.weight", 1, lambda self, h: torch.matmul(h, self.other.weight.T)),
    "from the left": ("other.weight", 1, lambda self, h: (self.other.weight @ h.mT).mT),
    "addmm": ("weight", 0, lambda self, h: torch.addmm(self.other.bias, h[0], self.weight)),
    "einsum": ("weight", 0, lambda self, h: torch.einsum("bti,io->bto", h, self.weight)),
    "computed": ("other.weight", 1, lambda self, h: F.linear(h, self.other.weight * 2 / self.other.weight.norm())),
}


@pytest.mark.parametrize("use", USES)
def test_weights_are_known_however_they_are_used(use: str) -> None:
    tensor, dim, function = USES[use]
    model = Elsewhere(function)
    x = torch.randn(1, 3, 4)
    with importance.criterion("activation").observe(model) as criterion:
        model(x)
    found = vector_of(criterion.statistics.reads, tensor, dim, 6, "absolute")
    torch.testing.assert_close(found, model.first(x).detach().abs().mean((0, 1)))


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm, "mask"])
def test_weights_that_are_computed(wrap: object) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    if wrap == "mask":
        prune.random_unstructured(model[2], "weight", 0.3)
    else:
        wrap(model[2])
    x = torch.randn(5, 4)
    with importance.criterion("wanda").observe(model) as criterion:
        model(x)
    plan = tp.plan(model, x, pruning_ratio=0.5, importance=criterion)
    names = [name for name, dim in criterion.statistics.reads if dim == 1 and name.startswith("2.")]
    assert len(names) == 1
    assert plan.after.parameters < plan.before.parameters


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_multi_head_attention_is_seen_inside(kind: str) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    x, y = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 8).double()
    keys = x if kind == "self" else y
    with importance.criterion("activation").observe(attention) as criterion:
        attention(x, keys, keys)
    q, k, v = (F.linear(z, w, b) for z, w, b in zip(
        (x, keys, keys), attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True))  # fmt: skip
    split = [z.unflatten(-1, (2, 4)).transpose(1, 2) for z in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    seen = criterion.statistics
    made = torch.cat([z.detach().abs().mean((0, 1)) for z in (q, k, v)])
    torch.testing.assert_close(vector_of(seen.makes, "in_proj_weight", 0, 24, "absolute"), made)
    read = vector_of(seen.reads, "out_proj.weight", 1, 8, "absolute")
    torch.testing.assert_close(read, mixed.detach().abs().mean((0, 1)))


@each
def test_attention_layers_can_be_scored(name: str) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    with importance.criterion(name).observe(model) as criterion:
        model(x).square().sum().backward()
    graph = tp.build_graph(model, [tp.Example(x)])
    for group in graph.groups:
        scores = criterion(group, ModelTensors(model))
        assert scores.shape == (max(1, len(group.lanes) and group.lanes[0].size), group.size)


def test_transposed_convolutions_have_kronecker_factors() -> None:
    """As a linear layer each: a transposed convolution of one pixel with kernel 1 is one."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    up = nn.Sequential(nn.ConvTranspose2d(4, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 1)).double()
    for a, b in zip(linear.parameters(), up.parameters(), strict=True):
        b.data = a.data.t()[:, :, None, None].clone() if a.dim() == 2 else a.data.clone()
    x = torch.randn(5, 4).double()
    scores = []
    for model, inputs in ((linear, x), (up, x[:, :, None, None])):
        with importance.criterion("obdc").observe(model) as criterion:
            model(inputs).sin().sum().backward()
        (group,) = tp.build_graph(model, [tp.Example(inputs)]).groups
        scores.append(criterion(group, ModelTensors(model)))
    torch.testing.assert_close(*scores)


def test_gradients_are_seen_before_an_activation_in_place() -> None:
    """What a linear layer makes of three dimensions is a view, which forgets its hooks when it is changed in place."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.Linear(6, 3)]
    factors = []
    for in_place in (False, True):
        model = nn.Sequential(layers[0], nn.ReLU(in_place), layers[1])
        with importance.criterion("obdc").observe(model) as criterion:
            model(torch.ones(2, 5, 4)).sin().sum().backward()
        factors.append(criterion.statistics.kronecker["0.weight"][0].rows)
    assert factors[0].abs().sum() > 0
    torch.testing.assert_close(*factors)


def test_parts_that_did_not_run_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with importance.criterion("wanda").observe(model) as criterion:
        pass
    with pytest.raises(ImportanceError, match=r"none of its tensors took part .* for 0: ignore them, or gather them"):
        tp.plan(model, torch.randn(1, 4), pruning_ratio=0.5, importance=criterion)


def test_variance_of_large_means_is_exact() -> None:
    """Sums of squares would lose it: the mean is a million times the deviation."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2)).double()
    nn.init.eye_(model[0].weight)
    x = 1e6 + torch.randn(50, 2, dtype=torch.float64)
    with importance.criterion("fluctuation").observe(model) as criterion:
        for part in x.split(7):
            model(part)
    found = vector_of(criterion.statistics.reads, "1.weight", 1, 2, "variance")
    torch.testing.assert_close(found, x.var(0), rtol=1e-6, atol=0)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("name", NEEDING_DATA)
def test_missing_statistics_are_an_error(name: str) -> None:
    with pytest.raises(ImportanceError, match=r"needs statistics .* found none, for 0: gather them with"):
        tp.plan(small(), batch(0), pruning_ratio=0.5, importance=name)


@pytest.mark.parametrize("name", NEEDING_DATA)
def test_statistics_of_other_shapes_are_an_error(name: str) -> None:
    model = small()
    with importance.criterion(name).observe(model) as criterion:
        model(batch(0)).sum().backward()
    tp.prune(model, batch(0), pruning_ratio=0.5, importance=criterion)
    with pytest.raises(ImportanceError, match="observe the model again"):
        tp.plan(model, batch(0), pruning_ratio=0.3, importance=criterion)


def test_observe_wants_a_model_and_criteria() -> None:
    with pytest.raises(TypeError, match="needs the criteria"), importance.observe(small()):
        pass
    with pytest.raises(TypeError, match="needs a model"), importance.criterion("wanda").observe(batch(0)):
        pass


def test_frozen_parameters_have_no_say() -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    with importance.criterion("taylor").observe(model) as criterion:
        model(batch(0)).sum().backward()
    assert "0.weight" not in criterion.statistics.gradients
    assert not model[0].weight.requires_grad
    tp.plan(model, batch(0), pruning_ratio=0.5, importance=criterion)
