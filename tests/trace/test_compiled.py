"""Grouped queries, and torch's own attention: the way of a mask, and of an export, is traced too."""

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


class Pooling(nn.Module):
    """A mask that hides nothing is left out, but when compiled; otherwise there is one for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 32)
        self.attention = nn.MultiheadAttention(32, 8, batch_first=True)
        self.down = nn.Linear(32, 4)
        self.heads = 8

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.up(x)
        hidden = None
        if torch.compiler.is_compiling() or not mask.all():
            hidden = ~mask[:, None, None].repeat(1, self.heads, x.shape[1], 1).flatten(0, 1)
        return self.down(self.attention(x, x, x, attn_mask=hidden, need_weights=False)[0])


def test_one_mask_for_each_head_that_is_left() -> None:
    torch.manual_seed(0)
    model = Pooling().eval()
    x, seen = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    halved(model, (x, seen))
    assert model.heads == model.attention.num_heads == 4
    padded = torch.cat([x, torch.randn(2, 1, 8)], 1)
    mask = torch.cat([seen, torch.zeros(2, 1, dtype=torch.bool)], 1)
    torch.testing.assert_close(model(padded, mask)[:, :5], model(x, seen))
    exported = torch.export.export(model, (x, seen), strict=False).module()
    torch.testing.assert_close(exported(x, seen), model(x, seen))


def _all_but_first(rows: int, columns: int) -> Tensor:
    mask = torch.ones(rows, columns, dtype=torch.long)
    mask[:, 0] = 0
    return mask
