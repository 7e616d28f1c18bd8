"""A trace leaves the model as it found it: what forward passes install on modules too."""

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp


class Listener(nn.Module):
    """Hooks its layer in the first forward pass and notes that it has, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)
        self.heard: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if "hooked" not in vars(self):
            self.layer.register_forward_hook(lambda _, args, out: self.heard.append(1))
            self.hooked = True
        return self.head(self.layer(x))


def test_hooks_go_with_the_note_that_they_are_there() -> None:
    model = Listener()
    x = torch.randn(3, 4)
    tp.prune(model, x, pruning_ratio=0.25)
    assert not model.layer._forward_hooks
    model.heard.clear()
    model(x)
    assert model.heard == [1]


def test_a_hook_of_the_users_stays_and_can_be_removed() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    calls: list[int] = []
    handle = model[1].register_forward_hook(lambda *_: calls.append(1))
    tp.prune(model, torch.randn(3, 4), pruning_ratio=0.25)
    calls.clear()
    model(torch.randn(3, 4))
    assert calls == [1]
    handle.remove()
    model(torch.randn(3, 4))
    assert calls == [1]


def test_hidden_states_come_once() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        output_hidden_states=True,
    )
    model = transformers.LlamaModel(config).eval()
    tokens = torch.arange(6)[None]
    tp.build_graph(model, [tp.Example({"input_ids": tokens})])
    assert len(model(tokens).hidden_states) == 4
