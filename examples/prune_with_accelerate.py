"""A training loop with Accelerate that prunes between epochs and keeps the optimizer.

    python examples/prune_with_accelerate.py

Seconds on the CPU, on images that come with scikit-learn. Needs accelerate and scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from digits import DigitsNet, accuracy, digits
from torch.utils.data import DataLoader, TensorDataset

import torch_pruning as tp


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train, and prune a little after each of some epochs.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="epochs after which something goes, from the second on")
    parser.add_argument("--macs", type=float, default=0.25, help="the share of multiply-accumulates to keep")
    args = parser.parse_args(arguments)

    torch.manual_seed(0)
    training, test = digits()
    accelerator = Accelerator()
    model = DigitsNet()
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.AdamW(model.parameters(), lr=2e-3),
        DataLoader(TensorDataset(training.images, training.labels), batch_size=64, shuffle=True),
    )
    # The model itself, without what is wrapped around it; every process decides alike, because its weights are alike.
    bare = accelerator.unwrap_model(model)
    images = training.images.to(accelerator.device)
    pruner = tp.Pruner(bare, images[:1], macs=args.macs, schedule="cubic", optimizer=optimizer)
    for epoch in range(args.epochs):
        model.train()
        for batch, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(model(batch), labels))
            optimizer.step()
        if 1 <= epoch <= args.steps:
            pruner.step(args.steps, calibration=images[:512].split(128))
        count = sum(parameter.numel() for parameter in bare.parameters())
        accelerator.print(f"epoch {epoch + 1}: {count:,} parameters, accuracy {accuracy(bare.cpu(), test):.1%}")
        bare.to(accelerator.device)


if __name__ == "__main__":
    main()
