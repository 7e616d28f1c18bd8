"""A Lightning callback that prunes on a schedule and keeps the optimizer.

    python examples/prune_with_lightning.py

Seconds on the CPU, on images that come with scikit-learn. Needs lightning and scikit-learn.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from digits import DigitsNet, accuracy, digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import torch_pruning as tp


class PruneOnSchedule(lightning.Callback):
    """Prunes after each of the first `steps` epochs, to the budget that `options` name (as for `tp.Pruner`)."""

    def __init__(self, example_inputs: Tensor, steps: int, **options: Any) -> None:
        self.example_inputs = example_inputs
        self.steps = steps
        self.options = options
        self.pruner: tp.Pruner | None = None

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        example = self.example_inputs.to(pl_module.device)
        self.pruner = tp.Pruner(pl_module.model, example, optimizer=trainer.optimizers, **self.options)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.pruner is not None and self.pruner.current_step < self.steps:
            self.pruner.step(self.steps)


class Classifier(lightning.LightningModule):
    """What is trained: any network, in the attribute `model`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = DigitsNet()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train, and prune a little after each of the first epochs.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="epochs after which something goes")
    parser.add_argument("--macs", type=float, default=0.25, help="the share of multiply-accumulates to keep")
    args = parser.parse_args(arguments)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(0, verbose=False)
    training, test = digits()
    classifier = Classifier()
    before = sum(parameter.numel() for parameter in classifier.parameters())
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        callbacks=[PruneOnSchedule(training.images[:1], args.steps, macs=args.macs, schedule="cubic")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TensorDataset(training.images, training.labels), batch_size=64, shuffle=True)
    trainer.fit(classifier, loader)
    after = sum(parameter.numel() for parameter in classifier.parameters())
    print(f"{before:,} -> {after:,} parameters, accuracy on test images {accuracy(classifier.model, test):.1%}")


if __name__ == "__main__":
    main()
