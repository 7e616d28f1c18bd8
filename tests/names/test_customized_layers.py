"""Layers that users prune by functions of their own: seen through or not, coupled or not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import CheckError


class Normalised(nn.Module):
    """Divides by the norm, then scales and shifts: every channel for itself, but for the norm."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.scale, self.bias = nn.Parameter(torch.randn(in_dim)), nn.Parameter(torch.randn(in_dim))

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().sum(dim=1, keepdim=True).sqrt() * self.scale + self.bias


class NormalisedPruner(tp.BasePruningFunc):
    def prune_out_channels(self, layer: Any, idxs: Any) -> nn.Module:
        kept = sorted(set(range(layer.in_dim)) - set(idxs))
        layer.in_dim = layer.in_dim - len(idxs)
        layer.scale = self._prune_parameter_and_grad(layer.scale, kept, 0)
        layer.bias = nn.Parameter(layer.bias.data[kept])  # as people do it: a new Parameter
        return layer

    def get_out_channels(self, layer: Any) -> int:
        return layer.in_dim

    prune_in_channels = prune_out_channels
    get_in_channels = get_out_channels


class Numpy(nn.Module):
    """A linear layer whose arithmetic leaves torch: the engine cannot see through it."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(width_in, width_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ self.table.detach().numpy())


class NumpyPruner(tp.BasePruningFunc):
    def prune_out_channels(self, layer: Any, idxs: Any) -> nn.Module:
        kept = [i for i in range(layer.table.shape[1]) if i not in idxs]
        layer.table = self._prune_parameter_and_grad(layer.table, kept, 1)
        return layer

    def prune_in_channels(self, layer: Any, idxs: Any) -> nn.Module:
        kept = [i for i in range(layer.table.shape[0]) if i not in idxs]
        layer.table = self._prune_parameter_and_grad(layer.table, kept, 0)
        return layer

    def get_out_channels(self, layer: Any) -> int:
        return layer.table.shape[1]

    def get_in_channels(self, layer: Any) -> int:
        return layer.table.shape[0]


class Net(nn.Module):
    def __init__(self, middle: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 8), middle, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.middle(self.first(x))))


INPUTS = torch.randn(2, 4)


def coupled(**options: Any) -> tuple[Net, tp.DependencyGraph]:
    model = Net(Normalised(8))
    graph = tp.DependencyGraph()
    graph.register_customized_layer(Normalised, NormalisedPruner())
    return model, graph.build_dependency(model, INPUTS, **options)


def opaque() -> tuple[Net, tp.DependencyGraph, NumpyPruner]:
    model, pruner = Net(Numpy(8, 6), 6).eval(), NumpyPruner()
    return model, tp.DependencyGraph().build_dependency(model, INPUTS, customized_pruners={Numpy: pruner}), pruner


def layers_of(group: tp.Group) -> list[tuple[str, str, list[int]]]:
    rows = [(item.dep.handler.__name__, item.dep.target.path, item.idxs) for item in group]
    return [row for row in rows if row[0].startswith("prune")]


def test_coupled_layer_is_a_row_under_the_users_function() -> None:
    model, graph = coupled()
    group = graph.get_pruning_group(model.first, tp.prune_linear_out_channels, [0, 1, 6])
    assert layers_of(group) == [
        ("prune_linear_out_channels", "first", [0, 1, 6]),
        ("prune_out_channels", "middle", [0, 1, 6]),
        ("prune_linear_in_channels", "last", [0, 1, 6]),
    ]
    assert group[1].dep.target.module is model.middle
    assert not graph.groups[0].exact
    assert graph.check_pruning_group(group)


def test_coupled_layer_shrinks_by_the_users_function_and_keeps_its_parameters() -> None:
    model, graph = coupled()
    optimizer = torch.optim.Adam(model.parameters())
    model(INPUTS).sum().backward()
    optimizer.step()
    scale, bias = model.middle.scale, model.middle.bias
    expected = scale[[2, 3, 4, 5, 7]].clone(), bias[[2, 3, 4, 5, 7]].clone()
    moments = optimizer.state[bias]["exp_avg"][[2, 3, 4, 5, 7]].clone()
    before = tp.utils.count_params(model)
    group = graph.get_pruning_group(model.first, tp.prune_linear_out_channels, [0, 1, 6])
    assert group.prune(optimizer=optimizer) == before - tp.utils.count_params(model) == 3 * (4 + 1 + 1 + 1 + 3)
    assert model.middle.in_dim == 5
    assert model.middle.scale is scale
    assert model.middle.bias is bias
    assert torch.equal(scale, expected[0])
    assert torch.equal(bias, expected[1])
    assert torch.equal(optimizer.state[bias]["exp_avg"], moments)
    model(INPUTS).sum().backward()
    optimizer.step()
    assert graph.pruning_history() == [["first", True, [0, 1, 6]]]


def test_plan_of_the_request_lists_and_counts_the_customized_layer() -> None:
    model, graph = coupled()
    plan = graph.get_pruning_plan(model.first, tp.prune_linear, [0, 1, 6])
    assert [(row.dependency.target.path, row.num_pruned) for row in plan.rows if row.num_pruned] == [
        ("first", 15), ("middle", 6), ("last", 9),
    ]  # fmt: skip
    assert plan.exec(dry_run=True) == plan.exec() == 30
    with pytest.raises(ValueError, match="customized"):
        plan.to_json()


def test_layer_that_cannot_be_seen_through_on_both_of_its_sides() -> None:
    model, graph, _ = opaque()
    group = graph.get_pruning_group(model.first, tp.prune_linear_out_channels, [1, 2])
    assert layers_of(group) == [("prune_linear_out_channels", "first", [1, 2]), ("prune_in_channels", "middle", [1, 2])]
    group.prune()
    assert model.middle.table.shape == (6, 6)
    group = graph.get_pruning_group(model.last, tp.prune_linear_in_channels, [0])
    assert layers_of(group) == [("prune_linear_in_channels", "last", [0]), ("prune_out_channels", "middle", [0])]
    group.prune()
    assert model.middle.table.shape == (6, 5)
    assert model(INPUTS).shape == (2, 3)


def test_pruned_opaque_layer_equals_the_masked_one() -> None:
    model, graph, _ = opaque()
    x = INPUTS.clone()
    with torch.no_grad():
        masked = model.last.weight.clone()
        masked[:, [2, 5]] = 0
        expected = nn.functional.linear(torch.relu(model.middle(model.first(x))), masked, model.last.bias)
    graph.get_pruning_group(model.last, tp.prune_linear_in_channels, [2, 5]).prune()
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_customized_layer_as_the_root_and_in_a_history() -> None:
    model, graph, pruner = opaque()
    group = graph.get_pruning_group(model.middle, pruner.prune_out_channels, [0, 3])
    assert layers_of(group) == [("prune_out_channels", "middle", [0, 3]), ("prune_linear_in_channels", "last", [0, 3])]
    group.prune()
    graph.get_pruning_group(model.middle, pruner.prune_in_channels, [7]).prune()
    assert model.first.out_features == 7
    assert graph.pruning_history() == [["middle", True, [0, 3]], ["middle", False, [7]]]
    assert graph.get_out_channels(model.middle) == 4
    assert graph.get_in_channels(model.middle) == 7
    fresh, replayed, _ = opaque()
    replayed.load_pruning_history(graph.pruning_history())
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    with pytest.raises(TypeError, match="customized"):
        graph.get_pruning_group(model.middle, tp.prune_linear_out_channels, [0])


def test_pruners_prune_customized_layers() -> None:
    model = Net(Normalised(8))
    pruner = tp.pruner.MagnitudePruner(
        model,
        INPUTS,
        tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        customized_pruners={Normalised: NormalisedPruner()},
    )
    pruner.step()
    assert model.first.out_features == model.middle.in_dim == len(model.middle.scale) == model.last.in_features == 4
    assert model(INPUTS).shape == (2, 3)


@pytest.mark.parametrize("kind", ["raises", "prunes too little"])
def test_model_is_untouched_when_the_users_function_fails(kind: str) -> None:
    class Broken(NormalisedPruner):
        calls = 0

        def prune_out_channels(self, layer: Any, idxs: Any) -> nn.Module:
            self.calls += 1
            NormalisedPruner.prune_out_channels(self, layer, idxs if kind == "raises" else idxs[1:])
            if kind == "raises" and self.calls > 1:  # once on a copy, to count
                raise KeyError("the user's own")
            return layer

        prune_in_channels = prune_out_channels

    model = Net(Normalised(8)).eval()
    graph = tp.DependencyGraph().build_dependency(model, INPUTS, customized_pruners={model.middle: Broken()})
    before, state = model(INPUTS), dict(model.named_parameters())
    with pytest.raises(KeyError if kind == "raises" else CheckError):
        graph.get_pruning_group(model.first, tp.prune_linear_out_channels, [0, 1]).prune()
    assert torch.equal(model(INPUTS), before)
    assert all(parameter is state[name] for name, parameter in model.named_parameters())
    assert model.middle.in_dim == 8
    assert graph.pruning_history() == []


def test_building_leaves_no_trace_on_the_layer() -> None:
    model, _ = coupled()
    assert "forward" not in model.middle.__dict__

    class Raises(Normalised):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("the user's own")

    model = Net(Raises(8))
    with pytest.raises(KeyError, match="the user's own"):
        tp.DependencyGraph().build_dependency(model, INPUTS, customized_pruners={Raises: NormalisedPruner()})
    assert "forward" not in model.middle.__dict__


def test_width_on_the_last_dimension_is_found() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Linear(4, 8), Scale(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x)))

    model, inputs = Tokens(), torch.randn(2, 5, 4)
    graph = tp.DependencyGraph().build_dependency(model, inputs, customized_pruners={Scale: NormalisedPruner()})
    graph.get_pruning_group(model.first, tp.prune_linear_out_channels, [3]).prune()
    assert model.middle.in_dim == 7
    assert model(inputs).shape == (2, 5, 3)


class Scale(Normalised):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
