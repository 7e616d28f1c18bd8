"""Every criterion against its formula, written out unit by unit in float64 over entries listed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_pruning import importance
from torch_pruning.importance import ModelTensors

from .architectures import ARCHITECTURES, Architecture, Owned

pytestmark = pytest.mark.models

BATCHES = 3
OfUnit = Callable[[nn.Module, Owned], float]


def entries(model: nn.Module, owned: Owned, of: Callable[[Tensor], Tensor] = lambda p: p.detach()) -> list[Tensor]:
    return [of(model.get_parameter(name))[index].reshape(-1) for name, index in owned]


def table(case: Architecture, of_unit: Callable[[int, int], float | Tensor]) -> Tensor:
    rows = [[float(of_unit(lane, unit)) for unit in range(case.units)] for lane in range(case.lanes)]
    return torch.tensor(rows, dtype=torch.float64)


def assert_scores(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float64
    assert float(expected.min()) != float(expected.max()), "equal scores would show nothing"
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    return (model(batch) * torch.linspace(-1, 1, model(batch).shape[-1], dtype=batch.dtype)).sin().sum()


def run(model: nn.Module, case: Architecture) -> None:
    for seed in range(BATCHES):
        model.zero_grad()
        loss_of(model, case.batch(seed)).backward()


def gradients(model: nn.Module, case: Architecture) -> list[dict[int, Tensor]]:
    """The gradients of each batch, by parameter."""
    found = []
    parameters = list(model.parameters())
    for seed in range(BATCHES):
        grads = torch.autograd.grad(loss_of(model, case.batch(seed)), parameters)
        found.append({id(p): grad for p, grad in zip(parameters, grads, strict=True)})
    return found


each = pytest.mark.parametrize("case", ARCHITECTURES, ids=lambda case: case.name)


# ---------------------------------------------------------------- weights


@each
@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_magnitude(case: Architecture, p: float) -> None:
    model = case.model()
    _, group = case.found(model)
    criterion = importance.MagnitudeImportance(p, "joint", normalizer=None, bias=True, target_types=None)

    def norm(lane: int, unit: int) -> Tensor:
        return sum(e.abs().pow(p).sum() for e in entries(model, case.owned(lane, unit))) ** (1 / p)

    assert_scores(criterion(group, ModelTensors(model)), table(case, norm))


@each
def test_lamp(case: Architecture) -> None:
    model = case.model()
    _, group = case.found(model)
    squares = table(case, lambda lane, u: sum(e.square().sum() for e in entries(model, case.owned(lane, u))))
    expected = squares.clone().apply_(lambda s: s / float(squares[squares >= s].sum()))
    assert_scores(importance.criterion("lamp")(group, ModelTensors(model)), expected)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_bn_scale(name: str) -> None:
    (case,) = [case for case in ARCHITECTURES if case.name == name]
    model = case.model()
    _, group = case.found(model)
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    expected = norm.weight.detach().abs()[None]
    assert_scores(importance.criterion("bn_scale")(group, ModelTensors(model)), expected / expected.mean())


@each
def test_fpgm(case: Architecture) -> None:
    model = case.model()
    _, group = case.found(model)

    def distance(lane: int, unit: int) -> Tensor:
        vectors = [torch.cat(entries(model, case.owned(lane, other))) for other in range(case.units)]
        return sum((vectors[unit] - other).norm() for other in vectors)

    expected = table(case, distance)
    assert_scores(importance.criterion("fpgm")(group, ModelTensors(model)), expected / expected.mean())


# ---------------------------------------------------------------- gradients


@each
@pytest.mark.parametrize("multivariable", [False, True])
def test_taylor(case: Architecture, multivariable: bool) -> None:
    model = case.model()
    _, group = case.found(model)
    name = "taylor_multivariate" if multivariable else "taylor"
    with importance.criterion(name).observe(model) as criterion:
        run(model, case)
    total = {id(p): sum(of[id(p)] for of in gradients(model, case)) for p in model.parameters()}

    def change(lane: int, unit: int) -> Tensor:
        products = torch.cat(entries(model, case.owned(lane, unit), lambda p: p.detach() * total[id(p)]))
        return products.sum().abs() if multivariable else products.abs().sum()

    assert_scores(criterion(group, ModelTensors(model)), table(case, change))


@each
def test_taylor_takes_gradients_as_they_stand(case: Architecture) -> None:
    model = case.model()
    _, group = case.found(model)
    criterion = importance.criterion("taylor")
    loss_of(model, case.batch(0)).backward()
    expected = table(
        case,
        lambda lane, u: torch.cat(entries(model, case.owned(lane, u), lambda p: p.detach() * p.grad)).abs().sum(),
    )
    assert_scores(criterion(group, ModelTensors(model)), expected)


@each
def test_hessian_is_over_all_batches(case: Architecture) -> None:
    model = case.model()
    _, group = case.found(model)
    with importance.criterion("hessian").observe(model) as criterion:
        run(model, case)
    squares = {id(p): sum(of[id(p)] ** 2 for of in gradients(model, case)) for p in model.parameters()}

    def change(lane: int, unit: int) -> Tensor:
        return torch.cat(entries(model, case.owned(lane, unit), lambda p: p.detach() ** 2 * squares[id(p)])).sum() / 2

    expected = table(case, change)
    assert_scores(criterion(group, ModelTensors(model)), expected)
    # The same, accumulated by hand as in Torch-Pruning 1.x.
    by_hand = importance.HessianImportance("joint", None, bias=True, target_types=None)
    by_hand.zero_grad()
    for seed in range(BATCHES):
        model.zero_grad()
        loss_of(model, case.batch(seed)).backward()
        by_hand.accumulate_grad(model)
    assert_scores(by_hand(group, ModelTensors(model)), expected)


# ---------------------------------------------------------------- activations


@contextmanager
def seen(model: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, Tensor, Tensor]]]]:
    """(input, output, gradient of the output) of every call of a layer, by the layer's name."""
    calls: dict[str, list[Any]] = {}

    def take(name: str, read: Tensor, made: Tensor) -> None:
        entry = [read.detach(), made, None]
        calls.setdefault(name, []).append(entry)
        if made.requires_grad:
            made.register_hook(lambda grad: entry.__setitem__(2, grad))

    with layers_watched(model, take):
        yield calls


@contextmanager
def layers_watched(model: nn.Module, take: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Every call of a layer: `take` is given its name, what it reads and what it makes."""
    handles = [
        module.register_forward_hook(lambda _, inputs, output, name=name: take(name, inputs[0], output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    yield
    for handle in handles:
        handle.remove()


def channel_rows(x: Tensor, is_conv: bool) -> Tensor:
    """[rows, channels]"""
    return x.movedim(1 if is_conv else -1, -1).reshape(-1, x.shape[1 if is_conv else -1])


def observed(case: Architecture, name: str) -> tuple[nn.Module, Tensor, dict[str, list[Any]]]:
    """The model, the scores of a criterion that watched it, and what its layers saw meanwhile."""
    model = case.model()
    _, group = case.found(model)
    with importance.criterion(name).observe(model) as criterion, seen(model) as calls:
        for seed in range(BATCHES):
            model(case.batch(seed, size=seed + 2))
    criterion.normalizer = None
    return model, criterion(group, ModelTensors(model)), calls


def rows_of(model: nn.Module, calls: dict[str, list[Any]], layer: str, which: int) -> Tensor:
    """What a layer read (0) or made (1) over all batches: [rows, channels]"""
    is_conv = isinstance(model.get_submodule(layer), nn.Conv2d)
    return torch.cat([channel_rows(call[which].detach(), is_conv) for call in calls[layer]])


without_recurrence = pytest.mark.parametrize("case", ARCHITECTURES[:-1], ids=lambda case: case.name)


@without_recurrence
@pytest.mark.parametrize("name", ["activation", "apoz"])
def test_activation_and_apoz(case: Architecture, name: str) -> None:
    model, scores, calls = observed(case, name)

    def average(lane: int, unit: int) -> Tensor:
        which, layers = (0, case.reads(lane, unit)) if case.reads(lane, unit) else (1, case.makes(lane, unit))
        channels = [rows_of(model, calls, layer, which)[:, index] for layer, ids in layers for index in ids]
        of = (lambda x: x.abs().mean()) if name == "activation" else (lambda x: (x != 0).double().mean())
        return sum(of(channel) for channel in channels) / len(channels)

    expected = table(case, average)
    if name == "apoz" and float(expected.min()) == float(expected.max()):  # no relu: nothing is ever zero
        assert (scores == 1).all()
    else:
        assert_scores(scores, expected)


@without_recurrence
def test_fluctuation(case: Architecture) -> None:
    model, scores, calls = observed(case, "fluctuation")

    def moved(lane: int, unit: int) -> Tensor:
        if not case.reads(lane, unit):
            made = case.makes(lane, unit)
            return sum(rows_of(model, calls, layer, 1)[:, ids].var(0).sum() for layer, ids in made)
        total = torch.zeros((), dtype=torch.float64)
        for layer, ids in case.reads(lane, unit):
            weight = model.get_parameter(f"{layer}.weight").detach()
            ((_, index),) = [own for own in case.owned(lane, unit) if own[0] == f"{layer}.weight"]
            variances = rows_of(model, calls, layer, 0)[:, ids].var(0)
            columns = weight[index].reshape(weight[index].shape[0], -1, *weight.shape[2:])
            total += (columns.square().sum([0, *range(2, columns.dim())]) * variances).sum()
        return total

    assert_scores(scores, table(case, moved))


@without_recurrence
def test_wanda(case: Architecture) -> None:
    model, scores, calls = observed(case, "wanda")
    weighted = {}
    for name in calls:
        weight = model.get_parameter(f"{name}.weight").detach()
        norms = rows_of(model, calls, name, 0).norm(dim=0)
        groups = getattr(model.get_submodule(name), "groups", 1)
        by_group = weight.abs().reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
        by_group = by_group * norms.view(groups, 1, weight.shape[1], 1)
        weighted[f"{name}.weight"] = by_group.reshape(weight.shape)

    def size(lane: int, unit: int) -> Tensor:
        owned = case.owned(lane, unit)
        return sum(weighted[name][index].sum() for name, index in owned if name in weighted)

    assert_scores(scores, table(case, size))


@without_recurrence
def test_obdc(case: Architecture) -> None:
    model = case.model()
    _, group = case.found(model)
    with importance.criterion("obdc").observe(model) as criterion, seen(model) as calls:
        for seed in range(BATCHES):
            (model(case.batch(seed, size=seed + 2)).sin()).sum().backward()
    increases = {name: _kronecker(model.get_submodule(name), calls[name]) for name in calls}

    def increase(lane: int, unit: int) -> Tensor:
        rows = [increases[layer][0][index] for layer, ids in case.makes(lane, unit) for index in ids]
        columns = [increases[layer][1][index] for layer, ids in case.reads(lane, unit) for index in ids]
        return sum([*rows, *columns])

    assert_scores(criterion(group, ModelTensors(model)), table(case, increase))


@without_recurrence
@pytest.mark.parametrize("per_position", [False, True], ids=["samples", "positions"])
def test_fisher(case: Architecture, per_position: bool) -> None:
    model = case.model()
    _, group = case.found(model)
    criterion = importance.FisherImportance("joint", None, True, None, per_position)
    with criterion.observe(model), felt(model) as calls:
        for seed in range(BATCHES):
            (model(case.batch(seed, size=seed + 2)).sin()).sum().backward()

    def information(lane: int, unit: int) -> Tensor:
        which, layers = ("read", case.reads(lane, unit)) if case.reads(lane, unit) else ("made", case.makes(lane, unit))
        squares, known = torch.zeros((), dtype=torch.float64), set()
        for layer, ids in layers:
            for x, gradient in calls[which, layer]:
                if id(x) not in known:  # one that several layers read counts once
                    known.add(id(x))
                    by_channel = (x * gradient[0]).detach().movedim(1 if x.dim() == 4 else -1, 0)
                    derivative = by_channel.reshape(len(by_channel), len(x), -1)[ids]  # (channels, samples, positions)
                    squares += (derivative.square() if per_position else derivative.sum(2).square()).sum()
        return squares / 2

    assert_scores(criterion(group, ModelTensors(model)), table(case, information))


@contextmanager
def felt(model: nn.Module) -> Iterator[dict[tuple[str, str], list[tuple[Tensor, list[Tensor]]]]]:
    """What each layer read and made, with [the gradient there], once it has come; no gradient, no entry."""
    calls: dict[tuple[str, str], list[tuple[Tensor, list[Tensor]]]] = {}

    def take(name: str, read: Tensor, made: Tensor) -> None:
        for key, x in (("read", read), ("made", made)):
            entries = calls.setdefault((key, name), [])
            if x.requires_grad:
                entries.append((x, []))
                x.register_hook(entries[-1][1].append)

    with layers_watched(model, take):
        yield calls


def _kronecker(layer: nn.Module, calls: list[Any]) -> tuple[Tensor, Tensor]:
    """w_r A w_r^T S_rr / 2 of every row and tr(S w_j A_jj w_j^T) / 2 of every column, with the whole of A and S."""
    weight = layer.weight.detach()
    groups = getattr(layer, "groups", 1)
    is_conv = isinstance(layer, nn.Conv2d)
    gradient = torch.cat([channel_rows(call[2], is_conv) for call in calls])
    if is_conv:
        unfold = nn.Unfold(layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        patches = torch.cat([unfold(call[0]).transpose(1, 2).flatten(0, 1) for call in calls])
    else:
        patches = torch.cat([channel_rows(call[0], False) for call in calls])
    of_rows, of_columns = [], []
    taps = math.prod(weight.shape[2:])
    for g in range(groups):
        width = weight.shape[1] * taps
        a = patches[:, g * width : (g + 1) * width]
        outer = a.T @ a / len(a)
        own = slice(g * weight.shape[0] // groups, (g + 1) * weight.shape[0] // groups)
        s, w = gradient[:, own].T @ gradient[:, own], weight[own].flatten(1)
        of_rows += [w[r] @ outer @ w[r] * s[r, r] / 2 for r in range(len(w))]
        for j in range(weight.shape[1]):
            one = slice(j * taps, (j + 1) * taps)
            of_columns.append(torch.trace(s @ w[:, one] @ outer[one, one] @ w[:, one].T) / 2)
    return torch.stack(of_rows), torch.stack(of_columns)


# ---------------------------------------------------------------- recurrence


def test_activations_of_a_recurrent_layer() -> None:
    """What passes between its layers is known from the same cells, one step at a time."""
    case = ARCHITECTURES[-1]
    model = case.model()
    _, group = case.found(model)
    activation, wanda = importance.criterion("activation"), importance.criterion("wanda")
    activation.normalizer = wanda.normalizer = None
    with importance.observe(model, activation, wanda):
        for seed in range(BATCHES):
            model(case.batch(seed))
    inputs, first, second = [], [], []
    for seed in range(BATCHES):
        x = case.batch(seed)
        below, above = _layers(model.lstm, x)
        inputs.append(x.reshape(-1, 3))
        first.append(below.reshape(-1, 5))
        second.append(above.reshape(-1, 5))
    x, low, high = torch.cat(inputs), torch.cat(first), torch.cat(second)
    tensors = ModelTensors(model)
    # weight_hh_l0 and weight_ih_l1 read the first layer, weight_hh_l1 and the linear layer the second.
    assert_scores(activation(group, tensors), ((low.abs().mean(0) + high.abs().mean(0)) / 2)[None])
    read = {"weight_ih_l0": x, "weight_hh_l0": low, "weight_ih_l1": low, "weight_hh_l1": high, "last.weight": high}
    sizes = {name if "." in name else f"lstm.{name}": rows.norm(dim=0) for name, rows in read.items()}

    def size(lane: int, unit: int) -> Tensor:
        owned = [(name, index) for name, index in case.owned(lane, unit) if name in sizes]
        return sum((model.get_parameter(name).detach().abs() * sizes[name])[index].sum() for name, index in owned)

    assert_scores(wanda(group, tensors), table(case, size))


def _layers(lstm: nn.LSTM, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of both layers, by cells."""
    outputs = []
    for layer in (0, 1):
        cell = nn.LSTMCell(x.shape[-1], 5, dtype=x.dtype)
        weights = {
            name.removesuffix(f"_l{layer}"): p for name, p in lstm.named_parameters() if name.endswith(str(layer))
        }
        cell.load_state_dict(weights)
        state = None
        steps = []
        for step in range(x.shape[1]):
            state = cell(x[:, step], state)
            steps.append(state[0].detach())
        x = torch.stack(steps, 1)
        outputs.append(x)
    return outputs[0], outputs[1]
