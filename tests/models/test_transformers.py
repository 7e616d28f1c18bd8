"""Small transformers of every common kind of attention and normalisation, without a hint, through the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import prunable_parameters, random_choice
from torch_pruning.trace.tracer import Example

pytestmark = pytest.mark.models

BASE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**BASE, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
T = transformers


def tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(3, 90, (2, 12))}


def both() -> dict[str, Any]:
    return {**tokens(), "decoder_input_ids": torch.randint(3, 90, (2, 12))}


# (model, inputs, least share of parameters in groups, are all groups exact). Hidden states that a model gives out are
# frozen, so what has no head of its own keeps its width.
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]], float, bool]] = {
    "llama": (lambda: T.LlamaForCausalLM(T.LlamaConfig(**GROUPED)), tokens, 0.99, True),
    "qwen3": (lambda: T.Qwen3ForCausalLM(T.Qwen3Config(**GROUPED, head_dim=16)), tokens, 0.99, True),
    "mistral": (lambda: T.MistralForCausalLM(T.MistralConfig(**GROUPED)), tokens, 0.99, True),
    "gemma": (lambda: T.GemmaForCausalLM(T.GemmaConfig(**GROUPED, head_dim=8)), tokens, 0.99, False),
    "phi": (lambda: T.PhiForCausalLM(T.PhiConfig(**BASE)), tokens, 0.99, False),
    "gpt2": (lambda: T.GPT2LMHeadModel(T.GPT2Config(**GPT2)), tokens, 0.99, False),
    "bert": (lambda: T.BertModel(T.BertConfig(**BASE)), tokens, 0.4, True),
    "t5": (
        lambda: T.T5Model(T.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)),
        both,
        0.9,
        True,
    ),
    "mamba": (
        lambda: T.MambaForCausalLM(
            T.MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=0)
        ),
        tokens,
        0.99,
        False,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_transformers_are_exact_without_a_hint(name: str) -> None:
    build, inputs, share, all_exact = MODELS[name]
    model, example = build().eval(), inputs()
    graph = tp.build_graph(model, [Example(example)])
    assert graph.ops_without_rule() == {}
    assert prunable_parameters(graph) >= share * graph.cost().parameters
    if all_exact:
        assert [group for group in graph.groups if not group.exact] == []
    exact = build_plan(graph, random_choice(graph, 0.4, exact_only=True))
    assert exact.parameters_removed > 0
    seen = tp.verify(model, exact, rescale=True)
    assert seen.exact, seen
    build_plan(graph, random_choice(graph, 0.4)).exec()
    loss = sum(out.float().square().mean() for out in model(**example).values() if isinstance(out, torch.Tensor))
    loss.backward()
    assert all(p.grad is None or p.grad.shape == p.shape for p in model.parameters())


def test_grouped_queries_and_rotary_pairs_fall_out_by_themselves() -> None:
    config = T.LlamaConfig(**{**GROUPED, "num_attention_heads": 8})
    graph = tp.build_graph(T.LlamaForCausalLM(config).eval(), [Example(tokens())])
    layer = "model.layers.0.self_attn"
    of_queries = [
        g for g in graph.groups if any(m.tensor == f"{layer}.q_proj.weight" and m.dim == 0 for m in g.members)
    ]
    # key-value heads, query heads of each (which may differ from head to head), and rotary pairs
    assert [(group.size, bool(group.lanes)) for group in of_queries] == [(2, False), (4, True), (2, False)]
    keys = {m.tensor for m in of_queries[0].members}
    assert keys == {f"{layer}.{name}_proj.weight" for name in "qkvo"}
    assert any(m.tensor == "model.rotary_emb.inv_freq" for m in of_queries[2].members)


def test_one_config_object_on_many_modules_is_rewritten_once_and_not_for_others() -> None:
    config = T.GPT2Config(**GPT2)
    first, second = T.GPT2LMHeadModel(config).eval(), T.GPT2LMHeadModel(config).eval()
    example = tokens()
    before = second(**example).logits
    tp.prune(first, example, pruning_ratio=0.5)
    assert torch.equal(second(**example).logits, before)
    assert second.transformer.h[0].attn.head_dim == 8
    assert first.transformer.h[0].attn.head_dim == 4
