"""Fashion-MNIST, the dense networks trained on it, and the one fine-tuning that every method gets.

Checkpoints go to a cache outside the repository: $TORCH_PRUNING_CACHE, else ~/.cache/torch_pruning.
"""

from __future__ import annotations

import gzip
import math
import os
import time
from collections.abc import Callable
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
        """Batches of training images, drawn anew for each seed, then the same mirrored; no labels."""
        images = self.training[self._chosen(seed)]
        return [*images.split(batch), *images.flip(-1).split(batch)]

    def calibration_labels(self, seed: int, batch: int = 128) -> list[Tensor]:
        """Their labels, for methods that need some."""
        return 2 * list(self.training_labels[self._chosen(seed)].split(batch))

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


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps of `batch` images; `rate` is the highest of one cycle, a fiftieth of it for transformers."""

    steps: int
    rate: float
    seed: int
    batch: int = 128


DENSE_STEPS = {"resnet20": 1000, "vgg": 1000, "mobilenet": 600, "vit": 3000}
DENSE_RATE = 0.1


def train(model: nn.Module, data: Data, recipe: Recipe, after_backward: Callable[[], None] = lambda: None) -> None:
    """Cross entropy by SGD with momentum (AdamW for transformers), one cycle of the learning rate, mirrored images.

    Convolutional networks run under bfloat16 autocast, which is faster; weights and optimizer are in float32.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    transformer = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    highest = recipe.rate / 50 if transformer else recipe.rate
    optimizer = _optimizer(model, highest, transformer)
    model.to(memory_format=torch.channels_last).train()
    for step in range(recipe.steps):
        share = (step + 1) / recipe.steps
        warm = min(1.0, share / 0.15)
        optimizer.param_groups[0]["lr"] = highest * warm * 0.5 * (1 + math.cos(math.pi * min(share, 0.999)))
        images, labels = _drawn(data, recipe.batch, generator)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not transformer):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        after_backward()
        optimizer.step()


def _optimizer(model: nn.Module, rate: float, transformer: bool) -> torch.optim.Optimizer:
    if transformer:
        return torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    return torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


def _drawn(data: Data, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training images, half of them mirrored, and their labels."""
    chosen = torch.randint(len(data.training), (batch,), generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    images = data.training[chosen]
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images), data.training_labels[chosen]


@torch.inference_mode()
def accuracy(model: nn.Module, data: Data, batch: int = 100) -> float:
    """The share of the 10,000 test images that are classified correctly, in percent; in float32."""
    model.to(memory_format=torch.channels_last).eval()
    right = [
        (model(images).argmax(1) == labels).sum()
        for images, labels in zip(data.test.split(batch), data.test_labels.split(batch), strict=True)
    ]
    return float(sum(right)) / len(data.test) * 100


def dense(name: str, data: Data, seed: int = 0) -> nn.Module:
    """The trained network, from the cache if it is there."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    steps = DENSE_STEPS[name]
    path = CACHE / f"{name}-{steps}-{seed}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    start = time.perf_counter()
    train(model, data, Recipe(steps, DENSE_RATE, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    print(f"{name}: {accuracy(model, data):.2f} % after {steps} steps, {time.perf_counter() - start:.0f} s", flush=True)
    return model.eval()
