"""Small models around nn.MultiheadAttention, and what they say of its rule and of the layer that replaces it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rules.reality import choices
from torch_pruning.graph.graph import Graph, build_graph
from torch_pruning.planning.build import build_plan
from torch_pruning.planning.verify import verify
from torch_pruning.trace.tracer import Example

WIDTH, HEADS, TOKENS, KEYS, BATCH = 6, 3, 4, 5, 2


@dataclass(frozen=True)
class Setting:
    """Arguments of the layer and of its call. `mask`: None, "bool", "float" or "per head"; `padding` likewise."""

    name: str
    cross: bool = False
    key_widths: bool = False
    batch_first: bool = True
    batched: bool = True
    bias: bool = True
    bias_kv: bool = False
    zero_attention: bool = False
    need_weights: bool = False
    average: bool = True
    mask: str | None = None
    padding: str | None = None
    causal: bool = False

    def __repr__(self) -> str:
        return self.name

    @property
    def keys(self) -> int:
        return KEYS if self.cross else TOKENS

    def layer(self) -> nn.MultiheadAttention:
        torch.manual_seed(1)
        widths = {"kdim": 5, "vdim": 4} if self.key_widths else {}
        layer = nn.MultiheadAttention(
            WIDTH,
            HEADS,
            bias=self.bias,
            add_bias_kv=self.bias_kv,
            add_zero_attn=self.zero_attention,
            batch_first=self.batch_first,
            **widths,
        )
        for parameter in layer.parameters():  # stock biases are zero, and a zero shows nothing
            nn.init.normal_(parameter, std=0.5)
        return layer.double().eval()

    def options(self) -> dict[str, Any]:
        given: dict[str, Any] = {"need_weights": self.need_weights, "average_attn_weights": self.average}
        generator = torch.Generator().manual_seed(5)
        rows = torch.arange(TOKENS)[:, None] < torch.arange(self.keys)
        rows = rows & (torch.arange(self.keys) > 0)
        per_head = torch.randn((BATCH if self.batched else 1) * HEADS, TOKENS, self.keys, generator=generator)
        any_values = torch.randn(TOKENS, self.keys, generator=generator)
        masks = {"bool": rows, "float": any_values.double(), "per head": per_head.double()}
        if self.mask is not None:
            given["attn_mask"] = masks[self.mask]
        if self.causal:
            square = torch.ones(TOKENS, self.keys, dtype=torch.bool).triu(1)
            given |= {"attn_mask": square, "is_causal": True}
        if self.padding is not None:
            gone = torch.zeros(BATCH, self.keys, dtype=torch.bool)
            gone[0, -1:] = True
            gone = gone if self.batched else gone[0]
            given["key_padding_mask"] = gone if self.padding == "bool" else gone.double() * -2
        return given

    def inputs(self) -> tuple[Tensor, ...]:
        """query, key and value; one tensor for all three of self-attention."""
        generator = torch.Generator().manual_seed(2)
        widths = (WIDTH, 5, 4) if self.key_widths else (WIDTH, WIDTH, WIDTH)
        shapes = [(TOKENS, widths[0]), *((self.keys, width) for width in widths[1:])]
        tensors = [torch.randn(BATCH, *shape, generator=generator).double() for shape in shapes]
        if not self.batched:
            tensors = [tensor[0] for tensor in tensors]
        elif not self.batch_first:
            tensors = [tensor.transpose(0, 1).contiguous() for tensor in tensors]
        return tuple(tensors) if self.cross or self.key_widths else (tensors[0],) * 3


SETTINGS = [
    Setting("self"),
    Setting("tokens first", batch_first=False),
    Setting("no batch", batched=False),
    Setting("no bias", bias=False),
    Setting("weights", need_weights=True),
    Setting("weights of each head", need_weights=True, average=False),
    Setting("weights of each head, no batch", need_weights=True, average=False, batched=False),
    Setting("cross", cross=True),
    Setting("cross, tokens first, weights", cross=True, batch_first=False, need_weights=True),
    Setting("widths of key and value", cross=True, key_widths=True),
    Setting("widths of key and value, no bias", cross=True, key_widths=True, bias=False),
    Setting("key and value bias", bias_kv=True),
    Setting("widths, both biases, zero attention", cross=True, key_widths=True, bias_kv=True, zero_attention=True),
    Setting("zero attention, mask", zero_attention=True, mask="bool"),
    Setting("mask", mask="float"),
    Setting("mask per head", mask="per head"),
    Setting("mask per head, weights", mask="per head", need_weights=True, batch_first=False),
    Setting("padding", padding="bool"),
    Setting("padding and mask", padding="float", mask="float", cross=True),
    Setting("padding, mask, weights, both biases", padding="bool", mask="bool", need_weights=True, bias_kv=True),
    Setting("padding, no batch", padding="bool", batched=False),
    Setting("causal", causal=True),
    Setting("causal, with weights", causal=True, need_weights=True),
    Setting("causal, with padding", causal=True, padding="bool"),
    Setting("causal, key and value bias", causal=True, bias_kv=True),
]


class Around(nn.Module):
    """Layers before and after the attention, so that the widths of query, key, value and output can be pruned."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = (setting,)
        self.attention = setting.layer()
        inputs = setting.inputs()
        # One projection for each different input: in self-attention all three are one.
        self.before = nn.ModuleList(nn.Linear(3, x.shape[-1]) for x in dict.fromkeys(inputs))
        self.after = nn.Linear(WIDTH, 2)
        for name, mask in setting.options().items():
            if isinstance(mask, Tensor):
                self.register_buffer(name, mask)
        self.double().eval()

    def forward(self, *inputs: Tensor) -> Any:
        (setting,) = self.setting
        projected = [layer(x) for layer, x in zip(self.before, inputs, strict=True)]
        query, key, value = projected * 3 if len(projected) == 1 else projected
        options = {name: getattr(self, name, option) for name, option in setting.options().items()}
        out, weights = self.attention(query, key, value, **options)
        return self.after(out) if weights is None else (self.after(out), weights)


def graph_of(setting: Setting) -> Graph:
    torch.manual_seed(3)
    model = Around(setting)
    inputs = dict.fromkeys(setting.inputs())
    # Three features for each token that the attention sees.
    return build_graph(model, [Example(tuple(torch.randn(*x.shape[:-1], 3).double() for x in inputs))], modes=["eval"])


def disagreements(setting: Setting) -> list[str]:
    """What is claimed to be exact and is not, for units of each group alone and of all at once."""
    graph = graph_of(setting)
    found = []
    for choice in choices(graph):
        plan = build_plan(graph, choice)
        result = verify(graph.model, plan, gradients=False)
        kept = {axis.name: list(rows.rows.values()) for axis, rows in choice.items()}
        if not result.shapes_equal or (plan.exact and not result.exact):
            found.append(f"{setting.name}: {kept}: error {result.error:.1e}, sensitivity {result.sensitivity:.1e}")
        else:
            plan.check()
    return found
