"""Prune one model several times with whichever `torch_pruning` is on the path; print a line of JSON after every run.

Started by speed.py, in a process of its own for every tool and model.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import torch_pruning as tp

Stages = dict[str, dict[str, float]]  # stage -> {"wall": seconds, "cpu": seconds}
RATIO = 0.5


class Clock:
    """Wall and processor time of the stages of one run."""

    def __init__(self) -> None:
        self.stages: Stages = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.stages[stage] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        return result


def ours(model: nn.Module, example: torch.Tensor, clock: Clock) -> None:
    """Graph with all groups; scores and choice of half of the units; surgery, with the check on fake tensors."""
    from torch_pruning.graph.graph import build_graph
    from torch_pruning.trace.tracer import Example

    graph = clock("graph", lambda: build_graph(model, [Example(example)]))
    plan = clock("plan", lambda: tp.plan(graph, pruning_ratio=RATIO))
    clock("surgery", plan.exec)


def upstream(model: nn.Module, example: torch.Tensor, clock: Clock) -> None:
    """The pruner's constructor, which builds the graph and collects the groups; its step, which scores and cuts."""
    classifier = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features == 1000]
    pruner = clock(
        "graph",
        lambda: tp.pruner.BasePruner(
            model,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=RATIO,
            ignored_layers=classifier,
        ),
    )
    clock("surgery", pruner.step)


def runs(model: nn.Module, example: torch.Tensor) -> str:
    """Empty if the pruned model runs, else the error."""
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:
        return f"the pruned model fails: {type(error).__name__}: {error}"[:160]
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", choices=["ours", "upstream"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--repetitions", type=int, required=True)
    options = parser.parse_args()
    import torchvision

    torch.set_num_threads(1)
    torch.manual_seed(0)
    original = torchvision.models.get_model(options.model, weights=None).eval()
    example = torch.randn(1, 3, 224, 224)
    prune = {"ours": ours, "upstream": upstream}[options.tool]
    for repetition in range(options.repetitions):
        model = copy.deepcopy(original)
        gc.collect()
        clock = Clock()
        prune(model, example, clock)
        left = sum(parameter.numel() for parameter in model.parameters())
        # Whether it runs is known after the first time, and takes longer than pruning for some.
        note = runs(model, example) if not repetition else ""
        row = {"stages": clock.stages, "parameters": left, "note": note, "file": tp.__file__}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
