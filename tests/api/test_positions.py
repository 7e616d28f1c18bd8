"""How positions may be written, and what is said about those that cannot go."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torch_pruning as pruning
from torch_pruning.errors import FrozenAxisError, PositionError, StalePlanError
from torch_pruning.planning.tensors import Positions

Built = tuple[nn.Sequential, pruning.DependencyGraph]


@pytest.fixture
def built() -> Built:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    return net, pruning.DependencyGraph().build_dependency(net, torch.randn(2, 3, 6, 6))


SPELLINGS = [
    [1, 6], (6, 1), {1, 6}, range(1, 7, 5), [-2, 1], torch.tensor([6, 1]), torch.tensor([1, -2], dtype=torch.int32),
    np.array([1, 6]), [np.int64(1), 6], [torch.tensor(1), 6],
]  # fmt: skip


@pytest.mark.parametrize("idxs", SPELLINGS, ids=repr)
def test_spellings(built: Built, idxs: Positions) -> None:
    net, graph = built
    plan = graph.get_pruning_plan(net[0], pruning.prune_conv, idxs)
    assert plan.plan[0][1] == [1, 6]
    assert plan.exec() == 2 * (28 + 2 + 4)


def test_no_positions_remove_nothing(built: Built) -> None:
    net, graph = built
    plan = graph.get_pruning_plan(net[0], pruning.prune_conv, [])
    assert "Index=[], NumPruned=0]\n0 parameters will be pruned" in str(plan)
    assert plan.exec() == 0
    assert net[0].out_channels == 8


REFUSED: list[tuple[int, Any, Any, type[Exception], str]] = [
    (0, pruning.prune_conv, [8], PositionError, r"must lie in -8\.\.7; found 8 in 0 \(prune_conv\)"),
    (0, pruning.prune_conv, [-9], PositionError, r"found -9"),
    (0, pruning.prune_conv, [1, 1], PositionError, r"distinct; found 1 .* twice"),
    (0, pruning.prune_conv, [1, -7], PositionError, r"distinct; found -7 \(position 1\) twice"),
    (0, pruning.prune_conv, range(8), PositionError, r"at least one position must stay; found all 8"),
    (0, pruning.prune_conv, [0.5], TypeError, r"must be integers; found 0.5"),
    (0, pruning.prune_conv, [True], TypeError, r"must be integers; found True"),
    (0, pruning.prune_conv, 3, TypeError, r"found 3 .* write \[3\]"),
    (0, pruning.prune_conv, None, TypeError, r"found None"),
    (0, pruning.prune_linear, [1], TypeError, r"prune_linear prunes a Linear; found a Conv2d"),
    (0, nn.Conv2d.forward, [1], TypeError, r"must be one of .*prune_conv.*; found <function"),
    (0, None, [1], TypeError, r"must be one of .*; found None"),
    (0, pruning.prune_related_conv, [1], FrozenAxisError, r"of an input.* at 0 \(test_positions.py:\d+ in "),
    (3, pruning.prune_conv, [1], FrozenAxisError, r"dimension 1 of a model output"),
    (1, pruning.prune_prelu, [0], PositionError, r"entry per channel; found none in 1 \(PReLU\(num_parameters=1\)\)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "function", "idxs", "error", "message"), REFUSED)
def test_refusals(built: Built, layer: int, function: Any, idxs: Any, error: type[Exception], message: str) -> None:
    net, graph = built
    with pytest.raises(error, match=message):
        graph.get_pruning_plan(net[layer], function, idxs)
    assert net[0].out_channels == 8


def test_layer_of_another_model(built: Built) -> None:
    with pytest.raises(ValueError, match="must be a module of the model"):
        built[1].get_pruning_plan(nn.Conv2d(3, 8, 3), pruning.prune_conv, [1])


def test_before_building() -> None:
    with pytest.raises(RuntimeError, match="call build_dependency"):
        pruning.DependencyGraph().get_pruning_plan(nn.Conv2d(3, 8, 3), pruning.prune_conv, [1])


def test_model_changed_by_other_means(built: Built) -> None:
    net, graph = built
    plan = graph.get_pruning_plan(net[0], pruning.prune_conv, [1])
    pruning.prune_conv(net[0], [0])
    with pytest.raises(StalePlanError, match=r"0.weight must be as it was .*\[8, 3, 3, 3\]; found \[7, 3, 3, 3\]"):
        graph.get_pruning_plan(net[0], pruning.prune_conv, [1])
    with pytest.raises(StalePlanError, match=r"0.weight of shape \[8, 3, 3, 3\]"):
        plan.exec()
    assert net[2].num_features == 8


def test_ignored_layers_and_parameters() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    inputs = torch.randn(1, 4)
    graph = pruning.DependencyGraph().build_dependency(net, inputs, ignored_layers=[net[2]])
    assert graph.get_pruning_plan(net[2], pruning.prune_related_linear, [1]).exec(dry_run=True) == 5 + 2 + 6
    with pytest.raises(FrozenAxisError, match="produced by an ignored layer, Linear"):
        graph.get_pruning_plan(net[2], pruning.prune_linear, [1])
    graph = pruning.DependencyGraph().build_dependency(net, inputs, ignored_params=[net[1].weight])
    with pytest.raises(FrozenAxisError, match=r"on the ignored parameter 1\.weight"):
        graph.get_pruning_plan(net[2], pruning.prune_related_linear, [1])
    with pytest.raises(ValueError, match="not in it"):
        pruning.DependencyGraph().build_dependency(net, inputs, ignored_params=[nn.Parameter(torch.ones(1))])


def test_what_the_graph_tells(built: Built) -> None:
    _, graph = built
    (group,) = graph.groups
    assert (group.name, group.size, group.exact, group.reason) == ("0", 8, True, None)
    members = {(member.tensor, member.dim): member.role for member in group.members}
    assert members["0.weight", 0] == "produced"
    assert members["3.weight", 1] == "contracted"
    assert {"0.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var"} == {t for t, _ in members} - {
        "0.weight", "3.weight"
    }  # fmt: skip
    frozen = {(row.tensor, row.dim): row for row in graph.frozen()}
    assert frozen["3.weight", 0].reason == "dimension 1 of a model output"
    assert "test_positions.py" in frozen["0.weight", 1].source_line
    dense = graph.cost()
    assert dense.parameters == pruning.utils.count_params(graph.model)
    assert dense.parameters - graph.cost({group.axis: 7}).parameters == 28 + 2 + 4
    assert "dim 0" in graph.explain("0.weight")
    with pytest.raises(KeyError, match="no tensor 'weight'"):
        graph.explain("weight")


def test_inputs_outputs_and_calls_of_the_users_own() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 5)

        def forward(self, x: torch.Tensor, *, y: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = self.a(x) + y.sum()
            return {"out": self.b(hidden), "hidden": hidden}

    net, x, y = TwoInputs(), torch.randn(2, 3), torch.randn(2, 3)
    graph = pruning.DependencyGraph().build_dependency(net, {"x": x, "y": y})
    with pytest.raises(FrozenAxisError, match="output"):
        graph.get_pruning_plan(net.a, pruning.prune_linear, [0])
    graph = pruning.DependencyGraph().build_dependency(
        net,
        (x, y),
        forward_fn=lambda model, inputs: model(inputs[0], y=inputs[1]),
        output_transform=lambda out: out["out"],
    )
    assert graph.get_pruning_plan(net.a, pruning.prune_linear, [0]).exec() == 4 + 5
    assert net(x, y=y)["hidden"].shape == (2, 4)


def test_unknown_operators_are_announced_once() -> None:
    @torch.library.custom_op("torch_pruning_api_test::mystery", mutates_args=())
    def mystery(x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)

    @mystery.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    class Mysterious(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[1](mystery(self[0](x)))

    net = Mysterious(nn.Linear(4, 6), nn.Linear(6, 2))
    with pytest.warns(UserWarning, match=r"no rule for torch_pruning_api_test.mystery.default \(at .*register_rule"):
        graph = pruning.DependencyGraph().build_dependency(net, torch.randn(1, 4))
    with pytest.raises(FrozenAxisError, match="op without a rule"):
        graph.get_pruning_plan(net[0], pruning.prune_linear, [0])
    pruning.DependencyGraph().build_dependency(net, torch.randn(1, 4), verbose=False)
