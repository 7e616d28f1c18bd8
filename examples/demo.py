"""Train a small residual network, prune it to a quarter of its multiply-accumulates, recover, fine-tune, and compare.

    python examples/demo.py            (or: make demo)

Runs on the CPU in well under a minute, on images that come with scikit-learn.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence

import torch
from digits import DigitsNet, accuracy, digits, latencies_ms, train
from rich.console import Console
from rich.table import Table

import torch_pruning as tp

LATENCY_BATCH = 256


def run(epochs: int, fine_tuning_epochs: int, repeats: int, say: Callable[[str], None]) -> Table:
    """The whole demonstration; returns its table. `say` is told what is going on."""
    torch.manual_seed(0)
    training, test = digits()
    model = DigitsNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    say(f"training for {epochs} epochs")
    train(model, optimizer, training, epochs)
    models = {"before": copy.deepcopy(model)}

    # Decide, prove, and only then remove.
    say("pruning")
    calibration = training.images[:512].split(128)  # without their labels
    plan = tp.plan(model, test.images[:8], macs=0.25, importance="reconstruction", calibration=calibration)
    verification = tp.verify(model, plan)
    models["pruned"] = copy.deepcopy(model)
    plan.exec(model=models["pruned"])

    # The same plan, and what is left solved for what is gone. The optimizer goes along: its moments shrink with the
    # weights. In one call: tp.prune(model, images, macs=0.25, importance="reconstruction", calibration=calibration)
    tp.recovery.reconstruct(plan, calibration, optimizer=optimizer)
    models["recovered"] = copy.deepcopy(model)

    for group in optimizer.param_groups:
        group["lr"] /= 2
    say(f"fine-tuning for {fine_tuning_epochs} epochs")
    train(model, optimizer, training, fine_tuning_epochs)
    models["fine-tuned"] = model

    say("measuring")
    columns = list(models.values())
    macs = [plan.before.macs, *[plan.after.macs] * 3]
    latencies = latencies_ms(columns, test.images[:LATENCY_BATCH], repeats)
    result = Table("", title="DigitsNet, pruned to a quarter of its MACs")
    for title in models:
        result.add_column(title, justify="right")
    result.add_row("parameters", *(f"{sum(p.numel() for p in column.parameters()):,}" for column in columns))
    result.add_row("MACs of one image", *(f"{count:,}" for count in macs))
    result.add_row(f"latency of a batch of {LATENCY_BATCH}", *(f"{latency:.1f} ms" for latency in latencies))
    result.add_row("accuracy on test images", *(f"{accuracy(column, test):.1%}" for column in columns))
    result.caption = caption(verification)
    return result


def caption(verification: tp.Verification) -> str:
    """What the oracle said before anything was removed."""
    return (
        "The pruned model against the original with the removed channels set to zero, in float64: "
        f"outputs differ by {verification.error:.0e}, gradients by {verification.gradient_error:.0e}, relatively "
        f"({'exact' if verification.exact else 'NOT exact'})."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train, prune to a quarter of the MACs, recover, fine-tune.")
    parser.add_argument("--epochs", type=int, default=6, help="of training")
    parser.add_argument("--fine-tuning-epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=30, help="of the measurement of latency")
    chosen = parser.parse_args(arguments)
    # The network is so small that threads would wait for each other longer than they work.
    torch.set_num_threads(1)
    console = Console()
    with console.status("loading") as status:
        result = run(chosen.epochs, chosen.fine_tuning_epochs, chosen.repeats, status.update)
    console.print(result)


if __name__ == "__main__":
    main()
