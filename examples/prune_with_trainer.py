"""Prune while the `Trainer` of transformers trains: a callback with a schedule, here on a small vision transformer.

    python examples/prune_with_trainer.py

The optimizer goes along: its momenta shrink with the weights, and training continues as if the model had always been
that small. Seconds on the CPU, on images that come with scikit-learn. Needs transformers, accelerate and scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from digits import CLASSES, digits
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

import torch_pruning as tp


class PruneOnSchedule(TrainerCallback):
    """Prunes every so many updates, in `steps` steps, to the budget that `options` name (as for `tp.Pruner`)."""

    def __init__(self, example_inputs: dict[str, torch.Tensor], every: int, steps: int, **options: Any) -> None:
        self.example_inputs = example_inputs
        self.every = every
        self.steps = steps
        self.options = options
        self.pruner: tp.Pruner | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        model: nn.Module = given["model"]
        device = next(model.parameters()).device
        example = {name: tensor.to(device) for name, tensor in self.example_inputs.items()}
        self.pruner = tp.Pruner(model, example, optimizer=given["optimizer"], **self.options)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """An update is done and the gradients are gone: the moment at which the shapes may change."""
        due = state.global_step % self.every == 0
        if self.pruner is not None and due and self.pruner.current_step < self.steps:
            self.pruner.step(self.steps)


class Images(Dataset):
    """Digits in the form in which the model wants them."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def vision_transformer() -> nn.Module:
    """8 x 8 pixels in patches of 2 x 2, two layers, four heads of 16 dimensions."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=CLASSES, **sizes))


def accuracy(found: Any) -> dict[str, float]:
    """The share of images that are classified correctly."""
    return {"accuracy": float(numpy.mean(found.predictions.argmax(-1) == found.label_ids))}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a small vision transformer and prune it on the way.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=40, help="updates between two steps of pruning")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--params", type=float, default=0.4, help="the share of parameters to keep")
    args = parser.parse_args(arguments)

    set_seed(0)
    training, test = digits()
    model = vision_transformer()
    before = sum(parameter.numel() for parameter in model.parameters())
    pruning = PruneOnSchedule(
        {"pixel_values": test.images[:2]}, args.every, args.steps, params=args.params, schedule="cubic"
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir="trainer",
            num_train_epochs=args.epochs,
            per_device_train_batch_size=64,
            learning_rate=2e-3,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Images(training.images, training.labels),
        eval_dataset=Images(test.images, test.labels),
        compute_metrics=accuracy,
        callbacks=[pruning],
    )
    trainer.train()
    after = sum(parameter.numel() for parameter in model.parameters())
    found = trainer.evaluate()["eval_accuracy"]
    print(f"{before:,} -> {after:,} parameters, accuracy on test images {found:.1%}")


if __name__ == "__main__":
    main()
