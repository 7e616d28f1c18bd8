"""Build the graph of one model several times; print seconds, number of ops, peak memory and groups as JSON.

Started by scaling.py, in a process of its own for every model: peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
from collections import Counter
from typing import Any

import torch
from torch import nn


def resnet(name: str) -> tuple[nn.Module, Any]:
    import torchvision

    return torchvision.models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)


def llama(layers: int, *, full_size: bool) -> tuple[nn.Module, Any]:
    """A Llama decoder on the meta device, which holds no weights; at full size the one with 70 billion parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "vocab_size": 128256}
    if not full_size:
        size = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 16, "vocab_size": 1000}
    config = LlamaConfig(**size, num_hidden_layers=layers, num_key_value_heads=8 if full_size else 4)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    return model, {"input_ids": torch.zeros(1, 10, dtype=torch.long)}


def build(case: str) -> tuple[nn.Module, Any]:
    """ "resnet50", "llama-12" (layers) or "llama-80-full"."""
    family, _, rest = case.partition("-")
    if family != "llama":
        return resnet(case)
    layers, _, size = rest.partition("-")
    return llama(int(layers), full_size=size == "full")


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True)
    parser.add_argument("--repetitions", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from torch_pruning.graph.graph import build_graph
    from torch_pruning.trace.tracer import Example

    model, inputs = build(options.case)
    before = peak_bytes()
    times = []
    for repetition in range(options.repetitions):
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        graph = build_graph(model, [Example(inputs)])
        times.append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
        if repetition == 0:
            first_peak = peak_bytes()
    kinds = Counter((group.size, len(group.lanes), group.exact) for group in graph.groups)
    found = {
        "case": options.case,
        "times": times,
        "ops": sum(len(inferred.program.calls) for inferred in graph.programs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "groups": [[*kind, count] for kind, count in sorted(kinds.items())],
        "frozen": sorted({row.reason for row in graph.frozen()}),
        "peak_before": before,
        "peak": first_peak,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
