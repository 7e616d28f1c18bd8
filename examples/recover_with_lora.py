"""Prune a language model, recover by least squares, then train LoRA adapters on what is left, merge and save.

    python examples/recover_with_lora.py

The model is a small Llama that has learned to count up in steps, which takes most of the half minute that this needs
on a CPU. Needs transformers and peft.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import torch_pruning as tp

VOCABULARY = 37
LENGTH = 16


def sequences(count: int) -> Tensor:
    """Numbers that go up by a step, modulo the vocabulary: [count, LENGTH]. The first two say how it goes on."""
    start, step = torch.randint(VOCABULARY, (2, count, 1))
    return (start + step * torch.arange(LENGTH)) % VOCABULARY


def llama() -> nn.Module:
    """Two layers of width 64."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_hidden_layers=2, use_cache=False, **sizes)).eval()


def batches(number: int, size: int = 64) -> Iterator[Tensor]:
    return (sequences(size) for _ in range(number))


def train(model: nn.Module, learning_rate: float, number: int) -> None:
    """Next tokens, for so many batches; what is frozen stays."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    model.train()
    for ids in batches(number):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()


@torch.inference_mode()
def right(model: nn.Module) -> float:
    """The share of the numbers from the third on that are predicted."""
    generator = torch.get_rng_state()
    torch.manual_seed(1)
    ids = sequences(256)
    torch.set_rng_state(generator)
    found = model(input_ids=ids).logits[:, 1:-1].argmax(-1)
    return (found == ids[:, 2:]).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Prune a small Llama; LoRA afterwards.")
    parser.add_argument("--batches", type=int, default=600, help="of training before")
    parser.add_argument("--lora-batches", type=int, default=100)
    parser.add_argument("--params", type=float, default=0.6, help="the share of parameters to keep")
    parser.add_argument("--out", default="pruned.pt")
    args = parser.parse_args(arguments)

    torch.manual_seed(0)
    model = llama()
    train(model, 3e-3, args.batches)
    print(f"dense: {sum(p.numel() for p in model.parameters()):,} parameters, {right(model):.1%} right")

    calibration = [{"input_ids": ids} for ids in batches(8)]
    example = {"input_ids": sequences(2)}
    tp.prune(model, example, params=args.params, importance="reconstruction", calibration=calibration)
    print(f"pruned: {sum(p.numel() for p in model.parameters()):,} parameters, {right(model):.1%} right")

    # The pruned model is a plain one with smaller layers: peft wraps it as any other.
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    train(adapted, 3e-3, args.lora_batches)
    merged = adapted.merge_and_unload()
    print(f"LoRA: {trained:,} parameters trained, {right(merged):.1%} right")

    # Smaller layers are no part of a config: save with what says how large everything is, load into a fresh model.
    tp.save(merged, args.out)
    loaded = tp.load(args.out, model=llama())
    print(f"loaded: {right(loaded):.1%} right")


if __name__ == "__main__":
    main()
