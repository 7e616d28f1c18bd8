"""Three sets of small images as tensors: CIFAR-10, Fashion-MNIST, and the digits of scikit-learn.

Images are [images, channels, height, width] and standardised with the mean and deviation of the training images.
"""

from __future__ import annotations

import gzip
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

# Where the Debian package dataset-fashion-mnist puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True)
class Images:
    """Training and test images with their labels. `mirror`: whether a mirror image is of the same class."""

    training: Tensor
    training_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int
    mirror: bool

    @property
    def channels(self) -> int:
        return self.training.shape[1]

    def first(self, count: int) -> Images:
        """Only the first `count` images of each kind, to try things out."""
        return replace(
            self,
            training=self.training[:count],
            training_labels=self.training_labels[:count],
            test=self.test[:count],
            test_labels=self.test_labels[:count],
        )


def load_images(name: str, folder: Path) -> Images:
    """One of `DATA_SETS`, from `folder` where it is not part of a package.

    Raises:
        SystemExit: if the files are not there and cannot be downloaded; the message says where they belong.
    """
    data = DATA_SETS[name](folder)
    mean = data.training.mean(dim=(0, 2, 3), keepdim=True)
    deviation = data.training.std(dim=(0, 2, 3), keepdim=True)
    return replace(data, training=(data.training - mean) / deviation, test=(data.test - mean) / deviation)


def cifar10(folder: Path) -> Images:
    """60,000 photographs, 3 x 32 x 32."""
    from torchvision.datasets import CIFAR10

    try:
        training, test = (CIFAR10(folder, train=train, download=True) for train in (True, False))
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise SystemExit(
            f"CIFAR-10 is not in {folder} and could not be downloaded ({error}).\n"
            f"Put cifar-10-python.tar.gz into {folder}, or choose --data fashion-mnist or --data digits."
        ) from error
    return Images(
        torch.from_numpy(training.data).permute(0, 3, 1, 2) / 255,
        torch.tensor(training.targets),
        torch.from_numpy(test.data).permute(0, 3, 1, 2) / 255,
        torch.tensor(test.targets),
        classes=10,
        mirror=True,
    )


def fashion_mnist(folder: Path) -> Images:
    """70,000 pieces of clothing, 1 x 28 x 28."""
    place = fashion_mnist_folder(folder)
    parts = [
        read_idx(place, f"{part}-{kind}-ubyte") for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    training, training_labels, test, test_labels = parts
    return Images(
        training.unsqueeze(1) / 255,
        training_labels.long(),
        test.unsqueeze(1) / 255,
        test_labels.long(),
        classes=10,
        mirror=True,
    )


def fashion_mnist_folder(folder: Path) -> Path:
    """The first that holds the files: `folder`, torchvision's folder in it, Debian's; else they are downloaded."""
    raw = folder / "FashionMNIST" / "raw"
    for place in (folder, raw, DEBIAN_FASHION_MNIST):
        if any(place.glob("train-images-idx3-ubyte*")):
            return place
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(folder, download=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise SystemExit(
            f"Fashion-MNIST is neither in {folder} nor in {DEBIAN_FASHION_MNIST}, "
            f"and could not be downloaded ({error}).\n"
            f"Install the Debian package dataset-fashion-mnist, put its four .gz files into {folder}, "
            "or choose --data digits."
        ) from error
    return raw


def read_idx(folder: Path, name: str) -> Tensor:
    """The array of bytes in an idx file, packed or not.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, their sizes as big-endian
    32-bit integers, then the data in row-major order.
    """
    packed = folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{folder / name} must be an idx file of unsigned bytes; it begins with {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = numpy.frombuffer(content[4:start], dtype=">i4")
    return torch.from_numpy(numpy.frombuffer(content, numpy.uint8, offset=start).reshape(shape).copy())


def digits(folder: Path) -> Images:
    """1,797 handwritten digits, enlarged from 8 x 8 to 1 x 32 x 32. They come with scikit-learn, not in `folder`."""
    from digits import digits as small_digits

    training, test = small_digits()
    return Images(
        F.interpolate(training.images, size=32, mode="bilinear"),
        training.labels,
        F.interpolate(test.images, size=32, mode="bilinear"),
        test.labels,
        classes=10,
        mirror=False,
    )


DATA_SETS: dict[str, Callable[[Path], Images]] = {"cifar10": cifar10, "fashion-mnist": fashion_mnist, "digits": digits}


def augmented(images: Tensor, mirror: bool, margin: int = 4) -> Tensor:
    """Each image shifted by up to `margin` pixels, zeros moving in, and mirrored half of the time if `mirror`."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (margin, margin, margin, margin))
    rows = torch.randint(0, 2 * margin + 1, (count, 1)) + torch.arange(height)  # (images, height)
    columns = torch.randint(0, 2 * margin + 1, (count, 1)) + torch.arange(width)  # (images, width)
    if mirror:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    of_image = torch.arange(count)[:, None, None, None]
    of_channel = torch.arange(channels)[:, None, None]
    return padded[of_image, of_channel, rows[:, None, :, None], columns[:, None, None, :]]
