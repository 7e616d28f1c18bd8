"""Grouped queries: the way that code takes for a mask, and when it is exported, is traced too."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention

import torch_pruning as tp
from torch_pruning.planning.build import build_plan
from torch_pruning.pruner.allot import random_choice


class GroupedAttention(nn.Module):
    """Two keys for four queries each; keys and values are repeated for a mask, and when this is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 64), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out = nn.Linear(64, 16)
        self.repeats = 4

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        grouped = mask is None and not torch.compiler.is_compiling()
        if not grouped:
            k, v = (side.repeat_interleave(self.repeats, 1) for side in (k, v))
        return self.out(attention(q, k, v, mask, enable_gqa=grouped).transpose(1, 2).flatten(2))


def halved(model: nn.Module, inputs: object) -> None:
    """Take half of every group away, that of the queries of each key among them."""
    graph = tp.build_graph(model, [tp.Example(inputs)])
    plan = build_plan(graph, random_choice(graph, 0.5))
    assert plan.exact
    plan.exec()


def test_the_number_of_repeats_follows() -> None:
    torch.manual_seed(0)
    model = GroupedAttention().eval()
    x, mask = torch.randn(2, 5, 16), torch.zeros(2, 1, 5, 5)
    halved(model, x)
    assert model.repeats == 2
    torch.testing.assert_close(model(x, mask), model(x))
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x))


def test_a_language_model_traced_without_a_mask_takes_one() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.arange(10).view(2, 5)
    halved(model, {"input_ids": tokens})
    assert model.model.layers[0].self_attn.num_key_value_groups == 2
    padded = model(torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1), attention_mask=_all_but_first(2, 6))
    torch.testing.assert_close(padded.logits[:, 1:], model(tokens).logits)


def _all_but_first(rows: int, columns: int) -> Tensor:
    mask = torch.ones(rows, columns, dtype=torch.long)
    mask[:, 0] = 0
    return mask
