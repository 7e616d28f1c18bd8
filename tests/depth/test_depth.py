"""Blocks that go: equal to the original with branches of zero; counts, caches, optimizer and plans follow."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import transformers
from depth_models import BASE, MODELS, REFUSED, InPlace, Listed, gpt2, images, llama, mistral, t5, tokens
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import BudgetError, StalePlanError
from torch_pruning.planning.layer_counts import Probe
from torch_pruning.planning.shorter import removable_blocks
from torch_pruning.planning.silence import silenced
from torch_pruning.pruner.depth import influence
from torch_pruning.pruner.latency.cache import Times

pytestmark = pytest.mark.models


def call(model: nn.Module, x: Any) -> Tensor:
    out = model(**x) if isinstance(x, dict) else model(x)
    return out if isinstance(out, Tensor) else out.logits


@pytest.mark.parametrize("name", MODELS)
def test_removal_equals_branches_of_zero(name: str) -> None:
    make, inputs, removable = MODELS[name]
    model, x = make().eval(), inputs()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    graph = tp.build_graph(model, [tp.Example(x)])
    blocks = removable_blocks(Probe(graph))
    assert len(blocks.found) == removable
    plan = tp.plan(graph, depth=removable // 2)
    seen = tp.verify(model, plan, rescale=True)
    assert seen.exact, seen
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

    assert plan.depth is not None
    with silenced(model, plan.depth), torch.no_grad():
        expected = call(model, x)
    before = sum(p.numel() for p in model.parameters())
    assert plan.exec() == before - sum(p.numel() for p in model.parameters()) > 0
    torch.testing.assert_close(call(model, x), expected, rtol=1e-4, atol=1e-5)
    call(model, x).square().mean().backward()
    assert len(removable_blocks(Probe(tp.build_graph(model, [tp.Example(x)]))).found) == removable - removable // 2


@pytest.mark.parametrize("make", REFUSED)
def test_what_only_looks_removable_is_refused(make: type[nn.Module]) -> None:
    model, x = make(), torch.randn(5, 6)
    graph = tp.build_graph(model, [tp.Example(x)])
    blocks = removable_blocks(Probe(graph))
    assert blocks.found == []
    with pytest.raises(BudgetError, match="and 0 can"):
        tp.plan(graph, depth=1)
    assert blocks.refused or make.__name__ == "Numbered"


def test_a_share_that_takes_no_block_is_an_error() -> None:
    """Never silently nothing: the smallest share that does something is named, and does."""
    model, x = Listed(), torch.randn(5, 6)
    with pytest.raises(BudgetError, match=r"rounds to none of the 4 blocks that can go: .* is 0\.25"):
        tp.plan(model, x, depth=0.01)
    assert len(tp.plan(model, x, depth=0.25).depth.removed) == 1
    with pytest.raises(ValueError, match="whole number of blocks"):
        tp.plan(model, x, depth=float("inf"))


def test_a_norm_behind_the_sum_is_named() -> None:
    """Without the layer the norm would go too, which a branch of zero keeps."""
    model = transformers.BertModel(transformers.BertConfig(**BASE)).eval()
    with pytest.raises(BudgetError, match=r"encoder\.layer\.0 cannot: its output is no sum: aten\.layer_norm"):
        tp.plan(model, tokens(), depth=1)


def test_counts_and_places_follow() -> None:
    """The number that the loop reads, and the places on the elements; not a number that happens to be equal."""
    model, x = Listed(), torch.randn(5, 6)
    plan = tp.plan(model, x, depth=2, block_importance=lambda block: float(block.place in (2, 4)))
    assert plan.depth is not None
    assert plan.depth.removed == ("blocks.0", "blocks.2")
    plan.exec()
    assert (model.count, model.unrelated, len(model.blocks)) == (2, 4, 2)
    assert [block.place for block in model.blocks] == [1, 2]
    model(x)


@pytest.mark.parametrize(
    ("make", "count"), [(llama, "num_hidden_layers"), (gpt2, "n_layer"), (mistral, "num_hidden_layers")]
)
def test_generation_with_a_cache(make: Any, count: str) -> None:
    """Layers number their entries of the cache; without cache the same tokens come out."""
    model = make().eval()
    plan = tp.plan(model, tokens(), depth=2)
    plan.exec()
    assert getattr(model.config, count) == 2
    prompt = {**tokens(), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    found = [model.generate(**prompt, max_new_tokens=6, do_sample=False, use_cache=use) for use in (True, False)]
    assert torch.equal(*found)
    again = type(model)(model.config)  # the config object describes the model
    again.load_state_dict(model.state_dict())


def test_encoder_and_decoder_have_counts_of_their_own() -> None:
    model = t5().eval()
    tp.plan(model, {**tokens(), "decoder_input_ids": tokens()["input_ids"]}, depth=0.99).exec()
    assert (len(model.encoder.block), len(model.decoder.block)) == (1, 1)
    assert (model.encoder.config.num_layers, model.decoder.config.num_layers) == (1, 1)
    assert (model.config.num_layers, model.config.num_decoder_layers) == (1, 1)


def test_another_model_built_from_the_config_keeps_its_own() -> None:
    first = llama()
    second = type(first)(first.config)
    tp.plan(first, tokens(), depth=1).exec()
    assert (first.config.num_hidden_layers, second.config.num_hidden_layers) == (3, 4)
    second(**tokens())


@pytest.mark.parametrize("name", ["resnet18", "llama", "t5"])
def test_depth_and_width_in_one_plan(name: str) -> None:
    make, inputs, _ = MODELS[name]
    model, x = make().eval(), inputs()
    twin = copy.deepcopy(model)
    whole = tp.build_graph(model, [tp.Example(x)]).cost()
    plan = tp.plan(model, x, depth=2, macs=0.4)
    assert plan.depth is not None
    assert len(plan.depth.removed) == 2
    assert plan.groups
    assert plan.after is not None
    assert 0.3 * whole.macs < plan.after.macs <= 0.4 * whole.macs
    seen = tp.verify(model, plan, rescale=True)
    assert seen.exact, seen
    read = tp.Plan.from_json(plan.to_json())
    plan.exec()
    read.exec(model=twin)
    torch.testing.assert_close(call(model, x), call(twin, x), rtol=0, atol=0)
    # The graph that follows is that of the shortened model: plans go on from there.
    assert plan.shorter is not None
    assert plan.shorter.graph is not None
    assert tp.plan(plan.shorter.graph, pruning_ratio=0.3).exec() > 0
    call(model, x)


def test_names_in_ignore_are_those_of_the_whole_model() -> None:
    model = llama()
    last = "model.layers.3"
    plan = tp.plan(model, tokens(), depth=1, pruning_ratio=0.5, ignore=[f"{last}.mlp.*"])
    assert plan.depth is not None
    assert last not in plan.depth.removed or f"{last}.mlp.gate_proj.weight" not in plan.kept
    assert 0 not in plan.kept.get(f"{last}.mlp.gate_proj.weight", {})
    assert any(0 in dims for name, dims in plan.kept.items() if name.endswith("gate_proj.weight"))
    with pytest.raises(ValueError, match="by modules or parameters"):
        tp.plan(model, tokens(), depth=1, pruning_ratio=0.5, ratios={last: 0.1})


def test_calibration_measures_and_recovery_is_for_widths() -> None:
    model, x = Listed(), torch.randn(5, 6)
    with pytest.raises(ValueError, match="recovery='none'"):
        tp.prune(model, x, depth=1, calibration=[x])
    assert len(model.blocks) == 4
    assert tp.prune(model, x, depth=1, calibration=iter([x]), recovery="none").plan.depth is not None
    model(x)


def test_optimizer_forgets_what_went() -> None:
    model, x = Listed(), torch.randn(5, 6)
    optimizer = torch.optim.Adam(model.parameters())
    model(x).sum().backward()
    optimizer.step()
    tp.plan(model, x, depth=3).exec(optimizer)
    left = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in optimizer.state} == left
    assert {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} == left
    model(x).sum().backward()
    optimizer.step()


def test_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Listed(), torch.randn(5, 6)
    optimizer = torch.optim.Adam(model.parameters())
    model(x).sum().backward()
    optimizer.step()
    plan = tp.plan(model, x, depth=2, pruning_ratio=0.3)
    expected = model(x)
    blocks = list(model.blocks)

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("torch_pruning.planning.execute.check_run", fails)
        with pytest.raises(KeyboardInterrupt):
            plan.exec(optimizer)
    assert list(model.blocks) == blocks
    assert model.count == 4
    assert torch.equal(model(x), expected)
    assert len(optimizer.state) == len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))
    plan.check()
    assert torch.equal(model(x), expected)
    plan.exec(optimizer)


def test_a_plan_is_refused_once_blocks_have_gone() -> None:
    model, x = Listed(), torch.randn(5, 6)
    graph = tp.build_graph(model, [tp.Example(x)])
    width = tp.plan(graph, pruning_ratio=0.5)
    depth = tp.plan(graph, depth=1)
    read = tp.Plan.from_json(depth.to_json())
    depth.exec()
    for stale in (width, depth):
        with pytest.raises(StalePlanError, match="names now mean other layers"):
            stale.exec()
    with pytest.raises(StalePlanError, match="with the elements"):
        read.exec(model=model)


def test_influence_is_one_minus_the_cosine() -> None:
    model, x = InPlace().double(), torch.randn(5, 6, dtype=torch.float64)
    graph = tp.build_graph(model, [tp.Example(x)])
    found = influence(graph, removable_blocks(Probe(graph)).found, [x, 2 * x])
    rows = [[], [], []]
    for batch in (x, 2 * x):
        hidden = model.stem(batch)
        for place, block in enumerate(model.blocks):
            after = block(hidden)
            rows[place].append(1 - torch.cosine_similarity(hidden, after, dim=-1))
            hidden = after
    expected = [torch.cat(of_block).mean().item() for of_block in rows]
    assert list(found.values()) == pytest.approx(expected, rel=1e-9)


def test_channels_of_images_are_dimension_one() -> None:
    model, x = torchvision.models.resnet18().eval(), images(64)()
    graph = tp.build_graph(model, [tp.Example(x)])
    blocks = removable_blocks(Probe(graph)).found
    seen: list[tuple[Tensor, Tensor]] = []
    block = model.get_submodule(blocks[0].path)
    handle = block.register_forward_hook(lambda _, args, out: seen.append((args[0].clone(), out.clone())))
    with torch.no_grad():
        model(x)
    handle.remove()
    ((before, after),) = seen
    expected = 1 - torch.cosine_similarity(before, after, dim=1).mean().item()
    assert influence(graph, blocks)[blocks[0].path] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "two", float("nan")])
def test_depths_out_of_range(depth: Any) -> None:
    with pytest.raises(ValueError, match="depth must be"):
        tp.plan(Listed(), torch.randn(5, 6), depth=depth)


def test_too_many_blocks_and_ignored_ones() -> None:
    model, x = Listed(), torch.randn(5, 6)
    with pytest.raises(BudgetError, match="depth=5 was asked for, and 4 can"):
        tp.plan(model, x, depth=5)
    with pytest.raises(BudgetError, match="and 3 can"):
        tp.plan(model, x, depth=4, ignore=[model.blocks[1]])
    plan = tp.plan(model, x, depth=3, ignore="blocks.2")
    assert plan.depth is not None
    assert "blocks.2" not in plan.depth.removed
    with pytest.raises(ValueError, match="block_importance must be"):
        tp.plan(model, x, depth=1, block_importance="colour")


class Computed(Times):
    """Times that follow the sizes of tensors; nothing is measured or written."""

    def __init__(self, *_: Any) -> None:
        super().__init__("computed", Path("/nowhere"))

    def get(self, key: str, measure: Any) -> float:
        shapes = re.findall(r"\[(\d[\d, ]*)\]", key)
        return sum(math.prod(map(int, shape.split(","))) for shape in shapes) / 1000


def test_depth_and_a_latency_in_one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share is one of the time that the whole model takes; blocks that go count towards it."""

    def takes(model: nn.Module, *_: Any) -> float:
        return sum(p.numel() for p in model.parameters()) / 100

    monkeypatch.setattr("torch_pruning.pruner.latency.model.Times", Computed)
    monkeypatch.setattr("torch_pruning.pruner.latency.model.model_milliseconds", takes)
    monkeypatch.setattr("torch_pruning.pruner.plan.model_milliseconds", takes)
    model, x = Listed(), torch.randn(5, 6)
    dense = takes(model)
    plan = tp.plan(model, x, depth=1, latency=0.5)
    assert plan.depth is not None
    assert len(plan.depth.removed) == 1
    assert plan.groups
    assert plan.latency is not None
    assert plan.latency.before == dense
    assert tp.verify(model, plan).exact
    plan.exec()
    assert takes(model) == pytest.approx(plan.latency.measured)
    assert 0.4 * dense < takes(model) < 0.6 * dense
