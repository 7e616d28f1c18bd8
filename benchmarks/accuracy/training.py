"""Fashion-MNIST, the dense networks trained on it, and the one fine-tuning that every method gets.

Checkpoints go to a cache outside the repository: $TORCH_PRUNING_CACHE, else ~/.cache/torch_pruning.
"""

from __future__ import annotations

import gzip
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from networks import NETWORKS
from torch import Tensor, nn

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CACHE = Path(os.environ.get("TORCH_PRUNING_CACHE", Path.home() / ".cache" / "torch_pruning")) / "accuracy"
CALIBRATION_IMAGES = 768  # unlabelled, from the training images


@dataclass(frozen=True, slots=True)
class Data:
    """Images [images, 1, 28, 28], standardised by the training images, and their labels [images]."""

    training: Tensor
    training_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def calibration(self, seed: int, batch: int = 128) -> list[Tensor]:
        """Batches of training images, drawn anew for each seed; no labels."""
        return list(self.training[self._chosen(seed)].split(batch))

    def calibration_labels(self, seed: int, batch: int = 128) -> list[Tensor]:
        """Their labels, for methods that need some."""
        return list(self.training_labels[self._chosen(seed)].split(batch))

    def _chosen(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self.training), generator=generator)[:CALIBRATION_IMAGES]


def fashion_mnist() -> Data:
    """The whole set, from the Debian package dataset-fashion-mnist.

    Raises:
        SystemExit: if the package is not installed.
    """
    if not FASHION_MNIST.is_dir():
        raise SystemExit(f"{FASHION_MNIST} is missing: apt-get install dataset-fashion-mnist")
    images = {part: _read(f"{part}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28) for part in ("train", "t10k")}
    labels = {part: _read(f"{part}-labels-idx1-ubyte.gz", 8).long() for part in ("train", "t10k")}
    mean, deviation = images["train"].mean(), images["train"].std()
    scaled = {part: (pixels - mean) / deviation for part, pixels in images.items()}
    return Data(scaled["train"], labels["train"], scaled["t10k"], labels["t10k"])


def _read(name: str, header: int) -> Tensor:
    with gzip.open(FASHION_MNIST / name) as file:
        return torch.from_numpy(numpy.frombuffer(file.read(), numpy.uint8, offset=header).copy()).float()


def train(
    model: nn.Module, data: Data, *, steps: int, rate: float, seed: int, batch: int = 128, weight_decay: float = 5e-4
) -> None:
    """Cross entropy by SGD with momentum (AdamW for transformers), one cycle of the learning rate, mirrored images."""
    generator = torch.Generator().manual_seed(seed)
    normalised = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), rate / 50, weight_decay=0.05)
        if normalised
        else torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    )
    highest = optimizer.param_groups[0]["lr"]
    model.train()
    for step in range(steps):
        share = (step + 1) / steps
        warm = min(1.0, share / 0.15)
        optimizer.param_groups[0]["lr"] = highest * warm * 0.5 * (1 + math.cos(math.pi * min(share, 0.999)))
        chosen = torch.randint(len(data.training), (batch,), generator=generator)
        images = data.training[chosen]
        mirrored = torch.rand(batch, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        optimizer.zero_grad()
        F.cross_entropy(model(images), data.training_labels[chosen]).backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(model: nn.Module, data: Data) -> float:
    """The share of the 10,000 test images that are classified correctly, in percent."""
    model.eval()
    right = [
        (model(images).argmax(1) == labels).sum()
        for images, labels in zip(data.test.split(500), data.test_labels.split(500), strict=True)
    ]
    return float(sum(right)) / len(data.test) * 100


def dense(name: str, data: Data, *, steps: int, seed: int = 0) -> nn.Module:
    """The trained network, from the cache if it is there."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    path = CACHE / f"{name}-{steps}-{seed}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    start = time.perf_counter()
    train(model, data, steps=steps, rate=0.1, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    print(f"{name}: {accuracy(model, data):.2f} % after {steps} steps, {time.perf_counter() - start:.0f} s", flush=True)
    return model.eval()
