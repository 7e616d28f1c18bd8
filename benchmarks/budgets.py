"""Budgets: what was asked for, what the plan predicts, and what torch counts on the pruned model.

python benchmarks/budgets.py                                # all models; writes results/budgets.{csv,md}
python benchmarks/budgets.py --models resnet50 --scopes global

MACs are counted by `torch.utils.flop_counter` (two flops for each) and parameters by `numel`, neither of which knows of
this package; on tensors without data, in training mode and with attention written out, since
torch's counter does not look into fused paths.
"""

from __future__ import annotations

import argparse
import copy
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from machine import heading, machine, table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import torch_pruning as tp
from torch_pruning.graph.graph import Graph
from torch_pruning.progress import track
from torch_pruning.pruner.budget import Budget
from torch_pruning.pruner.decide import target_of
from torch_pruning.pruner.selection import movable

HERE = Path(__file__).parent
BATCH = 2
VALUES = (0.75, 0.5, 0.25)
COLUMNS = ["model", "budget", "scope", "asked", "predicted", "counted", "counted / asked", "left over", "cheapest step"]


def _vision(name: str) -> tuple[nn.Module, Tensor]:
    import torchvision

    return torchvision.models.get_model(name, weights=None), torch.randn(BATCH, 3, 224, 224)


def _llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        use_cache=False,
    )
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 1000, (BATCH, 64))}


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    **{
        name: (lambda name=name: _vision(name))  # type: ignore[misc]
        for name in ("resnet50", "densenet121", "mobilenet_v3_large", "vit_b_16", "convnext_tiny", "swin_t")
    },
    "small llama": _llama,
}


def counted(model: nn.Module, example: Any, kind: str) -> int:
    """What torch itself counts: MACs of one sample, or elements of all parameters."""
    if kind == "params":
        return sum(parameter.numel() for parameter in model.parameters())
    copied = copy.deepcopy(model).train()
    try:
        flops = _flops(copied.to("meta"), example, "meta")
    except RuntimeError:  # looks at values: run it for real
        flops = _flops(copy.deepcopy(model).train(), example, "cpu")
    assert flops % (2 * BATCH) == 0
    return flops // (2 * BATCH)


def _flops(model: nn.Module, example: Any, device: str) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        if isinstance(example, dict):
            model(**{name: tensor.to(device) for name, tensor in example.items()})
        else:
            model(example.to(device))
    return counter.get_total_flops()


def cheapest_step(graph: Graph, plan: tp.Plan, kind: str) -> float:
    """What the least of all single steps would add to the cost of the plan."""
    clusters = movable(graph, set(), exact_only=False)
    cost = target_of(graph, clusters, Budget(kind, 1.0)).cost
    choice = plan.choice or {}
    steps = []
    for cluster in clusters:
        axis = cluster.axes[0]
        count = choice[axis].count if axis in choice else axis.size
        steps.append(count * cluster.steps // axis.size)
    now = torch.tensor([steps], dtype=torch.float64)
    able = [index for index, cluster in enumerate(clusters) if steps[index] < cluster.steps]
    more = now.repeat(len(able), 1)
    more[torch.arange(len(able)), able] += 1
    return float((cost(more) - cost(now)).min())


def rows(name: str, kinds: list[str], scopes: list[str]) -> Iterator[dict[str, Any]]:
    """One row for every budget of a model."""
    torch.manual_seed(0)
    model, example = MODELS[name]()
    model.eval()
    graph = tp.build_graph(model, [tp.Example(example)])
    for kind in kinds:
        dense = graph.cost().macs if kind == "macs" else graph.cost().parameters
        assert dense == counted(model, example, kind), f"{name}: {kind} differ before anything is pruned"
        for scope in scopes:
            for value in VALUES:
                start = time.perf_counter()
                plan = tp.plan(graph, scope=scope, **{kind: value})
                seconds = time.perf_counter() - start
                pruned = copy.deepcopy(model)
                plan.exec(model=pruned, check=False)
                assert plan.after is not None
                predicted = plan.after.macs if kind == "macs" else plan.after.parameters
                found = counted(pruned, example, kind)
                yield {
                    "model": name,
                    "budget": f"{kind}={value}",
                    "scope": scope,
                    "asked": int(value * dense),
                    "predicted": predicted,
                    "counted": found,
                    "counted / asked": f"{found / (value * dense):.5f}",
                    "left over": int(value * dense - found),
                    "cheapest step": int(cheapest_step(graph, plan, kind)),
                    "seconds": f"{seconds:.2f}",
                }


def write(found: list[dict[str, Any]], out: Path) -> None:
    """The rows as CSV, and as a Markdown table with what they mean."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*COLUMNS, "seconds"])
        writer.writeheader()
        writer.writerows(found)
    wrong = sum(row["predicted"] != row["counted"] for row in found)
    over = sum(row["left over"] < 0 for row in found)
    loose = sum(row["left over"] >= row["cheapest step"] for row in found)
    text = [
        heading("Budgets: asked, predicted, counted", machine("torch", "torchvision", "transformers")),
        "`predicted` is the plan's, `counted` what `torch.utils.flop_counter` (flops / 2, one sample) and `numel` find",
        "on the pruned model. `left over` is what the budget would still allow; it is met to within the cheapest",
        "admissible step if that is less than `cheapest step`, the least that one more step of any group costs.",
        "",
        f"* {len(found)} budgets: predicted differs from counted in {wrong}, the budget is exceeded in {over}, and one",
        f"  more step would have fitted in {loose}.",
        "",
        table(COLUMNS, [[_shown(row[column]) for column in COLUMNS] for row in found]),
        "",
    ]
    out.with_suffix(".md").write_text("\n".join(text))


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--kinds", nargs="+", choices=["macs", "params"], default=["macs", "params"])
    parser.add_argument("--scopes", nargs="+", default=["local", "global", "cost"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "budgets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in track(options.models, "Budgets") for row in rows(name, options.kinds, options.scopes)]
    write(found, options.out)
    print(options.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
