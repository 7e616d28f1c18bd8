"""What must be left alone, or go along: config objects, caches, lists, ties, flags, the fast path of encoders."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import drive
import models_attention
import models_grouped_queries
import models_parametrized
import models_sizes
import models_stock_attention
import models_tensors
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.axes.expression import Free
from torch_pruning.errors import CheckError
from torch_pruning.graph.graph import build_graph
from torch_pruning.planning.build import build_plan, keep_first
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models


def _pruned(model: nn.Module, inputs: Any, seed: int = 0) -> nn.Module:
    """The model with 40 % of everything gone."""
    drive.random_plan(build_graph(model, [Example(inputs)]), seed, exact_only=False).exec()
    return model


def test_two_models_of_one_config_object() -> None:
    config = SimpleNamespace(heads=3, sizes=[4, {"hidden": 7}])
    first, second = models_sizes.config_object(config).eval(), models_sizes.config_object(config).eval()
    x = torch.randn(4, 6)
    expected = second(x)
    _pruned(first, x)
    assert first(x).shape == (4, 5)
    assert first.config.sizes[1]["hidden"] < 7
    assert config.heads == 3
    assert config.sizes == [4, {"hidden": 7}]
    assert second.config is config
    assert torch.equal(second(x), expected)


def test_two_models_of_one_class_attribute() -> None:
    first, second = models_sizes.class_attribute().eval(), models_sizes.class_attribute().eval()
    x = torch.randn(4, 6)
    _pruned(first, x)
    assert first(x).shape == second(x).shape == (4, 5)
    assert first.width < 8
    assert models_sizes.class_attribute.width == second.width == 8


class Cache:
    """Keys and values of earlier calls, grown in place."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.keys.append(k)
        self.values.append(v)
        return torch.cat(self.keys, 2), torch.cat(self.values, 2)


class CachedAttention(models_grouped_queries.Grouped):
    """Attends to the cache too, and returns it."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        self.cache = cache if cache is not None else Cache()
        return super().forward(x), self.cache

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attended(q, *self.cache.update(k, v))


def test_a_cache_given_as_input_comes_back_as_it_was() -> None:
    model = CachedAttention().eval()
    cache = Cache()
    graph = build_graph(model, [Example((torch.randn(2, 5, 6), cache))])
    drive.random_plan(graph, 0, exact_only=False).check()
    assert cache.keys == cache.values == []
    assert "cache" not in vars(model)


def test_prefill_and_decode_with_a_cache_of_the_model() -> None:
    """A cache that the model makes holds pruned keys: heads and dims of keys and values are free."""
    model = CachedAttention().eval()
    x = torch.randn(2, 5, 6)
    graph = build_graph(model, [Example(x)])
    assert drive.owners(graph, "k_proj.weight", 0)
    drive.random_plan(graph, 0, exact_only=False).exec()
    whole, _ = model(x)
    _, cache = model(x[:, :4])
    step, cache = model(x[:, 4:], cache)
    assert len(cache.keys) == 2
    assert cache.keys[0].shape[1] == model.kv_heads == 1
    # Without a mask only the last token sees the same in both.
    assert torch.allclose(step[:, 0], whole[:, 4], atol=1e-5)


def test_cached_keys_given_from_outside_stay() -> None:
    """The keys of an earlier call, with their old widths, are in the example: those widths are frozen."""
    model = CachedAttention().eval()
    with torch.no_grad():
        _, cache = model(torch.randn(2, 4, 6))
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    graph = build_graph(model, [Example((torch.randn(2, 1, 6), cache))])
    assert not drive.owners(graph, "k_proj.weight", 0)
    assert not drive.owners(graph, "v_proj.weight", 0)
    assert drive.owners(graph, "embed.weight", 0)
    assert all(torch.equal(a, b) for a, b in zip(before, (*cache.keys, *cache.values), strict=True))


def test_dynamic_cache_comes_back_as_it_was() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the zoo extra")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=24, intermediate_size=20, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    cache = transformers.DynamicCache()
    inputs = {"input_ids": torch.randint(0, 50, (2, 5)), "past_key_values": cache, "use_cache": True}
    graph = build_graph(model, [Example(inputs)])
    plan = drive.random_plan(graph, 0, exact_only=False)
    plan.exec()
    assert cache.get_seq_length() == 0
    with torch.no_grad():
        assert model(**inputs).logits.shape == (2, 5, 50)
    assert cache.get_seq_length() == 5


def test_transposed_linear_layers_of_transformers() -> None:
    """GPT-2: Conv1D with fused q, k, v that are split; heads, dims of q and k, dims of v, hidden widths."""
    transformers = pytest.importorskip("transformers", reason="needs the zoo extra")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=24, n_layer=1, n_head=3, attn_implementation="eager",
        bos_token_id=0, eos_token_id=1, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    inputs = {"input_ids": torch.randint(0, 50, (2, 5)), "use_cache": False}
    graph = build_graph(model, [Example(inputs)])
    block = "transformer.h.0"
    assert {group.size for group in drive.owners(graph, f"{block}.attn.c_proj.weight", 0)} == {3, 8}
    assert [group.size for group in drive.owners(graph, f"{block}.mlp.c_fc.weight", 1)] == [96]
    plan = drive.random_plan(graph, 0, exact_only=True)
    for mode in ("eval", "train"):
        assert tp.verify(model, plan, mode=mode).exact
    assert {name for name in plan.kept if "attn.c_attn" in name or "mlp" in name}
    drive.random_plan(graph, 0, exact_only=False).exec()
    with torch.no_grad():
        assert model(**inputs).logits.shape == (2, 5, 50)


def test_a_layout_that_the_code_cannot_view_is_refused() -> None:
    """With one dim per head, `reshape` no longer copies, and the `view` after it fails: refused, nothing changed."""
    case = next(case for case in models_attention.CASES if case.name == "fused_by_split")
    model = drive.built(case)
    graph = build_graph(model, [case.example()])
    counts: dict[Free, int] = {}
    for cluster in graph.clusters:
        dims = any(graph.group_of[axis].size == 4 for axis in cluster.axes)
        counts.update(cluster.counts(1 if dims else cluster.steps))
    plan = build_plan(graph, keep_first(graph, counts))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckError, match="does not run: RuntimeError: view size is not compatible"):
        plan.exec()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class ListInput(nn.Module):
    """Takes a list apart, and appends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, parts: list[Tensor]) -> Tensor:
        x = parts.pop()
        parts.append(self.a(x).relu())
        return self.b(parts[-1]) + parts[0].sum()


def test_a_list_given_as_input_comes_back_as_it_was() -> None:
    model = ListInput().eval()
    parts = [torch.randn(4), torch.randn(4, 6)]
    given = list(parts)
    graph = build_graph(model, [Example((parts,))])
    plan = drive.random_plan(graph, 0, exact_only=True)
    assert tp.verify(model, plan).exact
    assert plan.groups
    assert len(parts) == 2
    assert all(a is b for a, b in zip(parts, given, strict=True))


def test_ties_stay_tied() -> None:
    model = _pruned(models_parametrized.tied_embeddings().eval(), torch.randint(0, 11, (2, 6)))
    assert model.head.weight is model.words.weight
    assert model.head.weight.shape[1] < 8
    shared = _pruned(models_tensors.shared_by_two().eval(), torch.randn(4, 6))
    assert shared.again is shared.b
    assert shared.last.weight is shared.b.weight


def test_frozen_parameters_stay_frozen() -> None:
    model = models_tensors.frozen_parameters().eval()
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    _pruned(model, torch.randn(4, 6))
    assert model.a.weight.shape[0] < 8
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags


@pytest.mark.parametrize(
    "case", [c for c in models_stock_attention.CASES if "encoder" in c.name], ids=lambda case: case.name
)
def test_fast_path_makes_no_difference(case: drive.Case) -> None:
    """The C++ path of nn.TransformerEncoderLayer, taken where it may be: without gradients, in evaluation mode."""
    model, x = drive.built(case), case.inputs()
    _pruned(model, x)
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.no_grad():
            torch.backends.mha.set_fastpath_enabled(True)
            fast = model(x)
            torch.backends.mha.set_fastpath_enabled(False)
            slow = model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert torch.allclose(fast, slow, atol=1e-5)


def test_masks_of_torch_prune_still_work() -> None:
    """weight_orig and its mask shrink alike, and the mask can be made permanent afterwards."""
    model = _pruned(models_parametrized.masked_by_torch().eval(), torch.randn(4, 6))
    x = torch.randn(4, 6)
    expected = model(x)
    assert model.a.weight_mask.shape == model.a.weight_orig.shape
    nn.utils.prune.remove(model.a, "weight")
    assert torch.allclose(model(x), expected)


def test_parametrizations_can_be_removed_afterwards() -> None:
    model = _pruned(models_parametrized.weight_norm().eval(), torch.randn(2, 3, 4, 4))
    x = torch.randn(2, 3, 4, 4)
    expected = model(x)
    nn.utils.parametrize.remove_parametrizations(model.a, "weight")
    assert torch.allclose(model(x), expected, atol=1e-6)


class Raising(nn.Module):
    """Fails with the user's own exception."""

    class RefusedError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0)
        raise self.RefusedError(f"no {tuple(self.a(x).shape)}")


def test_the_users_exception_comes_through_unchanged() -> None:
    model = Raising()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(Raising.RefusedError, match=r"^no \(4, 8\)$"):
        build_graph(model, [Example(torch.randn(4, 6))])
    assert "calls" not in vars(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Routed(nn.Module):
    """Two experts, chosen by the input: each example reaches one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.experts = nn.ModuleList([nn.Linear(8, 7), nn.Linear(8, 7)])
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor, expert: int) -> Tensor:
        return self.head(F.relu(self.experts[expert](self.stem(x))))


def test_two_examples_reach_both_experts() -> None:
    x = torch.randn(8, 6)
    one = build_graph(Routed(), [Example((x, 0))])
    assert not one.groups
    assert {row.tensor for row in one.frozen() if "never ran" in row.reason} >= {"stem.weight", "experts.1.weight"}
    both = build_graph(Routed().eval(), [Example((x, 0)), Example((x, 1))])
    assert [group.size for group in both.groups] == [8, 7]
    plan = drive.random_plan(both, 0, exact_only=True)
    for expert in (0, 1):
        assert tp.verify(both.model, plan, (x, expert)).exact


def test_unused_by_the_users_word() -> None:
    x = torch.randn(8, 6)
    graph = build_graph(Routed(), [Example((x, 0))], unused="ignore")
    assert [group.name for group in graph.groups] == ["stem", "experts.0"]
    assert {row.tensor for row in graph.frozen() if "never ran" in row.reason} == {
        "experts.1.weight",
        "experts.1.bias",
    }


def test_group_of_a_dead_attribute_is_none() -> None:
    """Activations that forward leaves on the model, of another shape than it finds there, are no group."""
    model = models_tensors.remembers_activations()
    model(torch.randn(3, 6))
    graph = build_graph(model, [Example(torch.randn(5, 6))])
    assert [group.name for group in graph.groups] == ["a"]
