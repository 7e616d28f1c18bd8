"""A residual network for scikit-learn's handwritten digits, and the loops that train and measure it.

Everything the other examples need and nothing of pruning: plain PyTorch, as it might stand in any project.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

CLASSES = 10
TEST_SIZE = 360  # of the 1797 images; the other 1437 are for training


@dataclass(frozen=True, slots=True)
class Split:
    """Images [images, 1, 8, 8] in 0..1 with their labels [images]."""

    images: Tensor
    labels: Tensor


def digits() -> tuple[Split, Split]:
    """(training, test): the same split every time. The images come with scikit-learn, nothing is downloaded."""
    data = load_digits()
    order = numpy.random.RandomState(0).permutation(len(data.target))
    images = torch.from_numpy(data.images[order]).float().unsqueeze(1) / 16
    labels = torch.from_numpy(data.target[order]).long()
    return Split(images[:-TEST_SIZE], labels[:-TEST_SIZE]), Split(images[-TEST_SIZE:], labels[-TEST_SIZE:])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [B, in, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class DigitsNet(nn.Module):
    """A stem, two stages of two residual blocks, and a linear classifier: [B, 1, 8, 8] -> [B, 10]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.stage1 = nn.Sequential(ResidualBlock(width, width), ResidualBlock(width, width))
        self.stage2 = nn.Sequential(ResidualBlock(width, 2 * width, stride=2), ResidualBlock(2 * width, 2 * width))
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        return self.classifier(x.mean(dim=(2, 3)))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Split, epochs: int, batch_size: int = 64) -> None:
    """Cross entropy, over batches in a fresh order each epoch."""
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
            optimizer.step()


@torch.inference_mode()
def accuracy(model: nn.Module, data: Split) -> float:
    """The share of images that are classified correctly."""
    model.eval()
    return (model(data.images).argmax(dim=1) == data.labels).float().mean().item()


@torch.inference_mode()
def latencies_ms(models: Sequence[nn.Module], images: Tensor, repeats: int) -> list[float]:
    """Milliseconds of one forward pass over the batch, for each model: medians, after three repeats to warm up.

    The models take turns, so that whatever else the machine is doing slows all of them alike.
    """
    times: list[list[float]] = [[] for _ in models]
    for _ in range(repeats + 3):
        for model, of_model in zip(models, times, strict=True):
            model.eval()
            start = time.perf_counter()
            model(images)
            of_model.append(1000 * (time.perf_counter() - start))
    return [statistics.median(of_model[3:]) for of_model in times]
