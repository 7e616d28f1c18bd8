"""A language model of the transformers library: inputs as a dict, a tied head, gated feed-forward nets."""

import copy

import pytest
import torch

import torch_pruning as tp

transformers = pytest.importorskip("transformers")


@pytest.mark.models
def test_the_feed_forward_nets_of_llama_are_solved_for_and_nearer_to_the_dense_model() -> None:
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=200, num_hidden_layers=2, tie_word_embeddings=True, use_cache=False, **sizes
    )
    model = transformers.LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # at the scale of initialisation nothing in the blocks matters
        if parameter.dim() > 1:
            parameter.data.mul_(5)
    for layer in model.model.layers:  # every other hidden unit says what another says
        layer.mlp.gate_proj.weight.data[1::2] = layer.mlp.gate_proj.weight.data[::2]
        layer.mlp.up_proj.weight.data[1::2] = layer.mlp.up_proj.weight.data[::2] / 2
    ids = torch.randint(200, (24, 32))
    batches = [{"input_ids": rows, "labels": rows} for rows in ids.split(8)]
    unseen = torch.randint(200, (8, 32))
    dense = model(input_ids=unseen).logits.detach()
    errors = {}
    for recovery in ("none", "least_squares"):
        pruned = copy.deepcopy(model)
        report = tp.prune(
            pruned,
            {"input_ids": ids[:1, :8]},
            params=0.8,
            importance="reconstruction",
            ignore=["model.embed_tokens.*", "*.q_proj.*", "*.k_proj.*"],
            calibration=batches,
            recovery=recovery,
        )
        errors[recovery] = float((pruned(input_ids=unseen).logits.detach() - dense).square().mean())
    solved = {row.weight: row for row in report.recovery.solved}
    assert all(solved[f"model.layers.{n}.mlp.down_proj.weight"].rows == 24 * 32 for n in range(2))
    assert all(row.after <= row.before for row in solved.values())
    assert errors["least_squares"] < 1e-3 * errors["none"]
