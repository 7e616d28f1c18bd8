"""torchvision: all of `list_models()`."""

from __future__ import annotations

from functools import partial

import torch
from case import Built, Case
from torch import nn
from torchvision import models
from torchvision.models.regnet import BlockParams, RegNet

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "torchvision")
FIXED_SIZES = {"inception_v3": 299, "maxvit_t": 224}
REDUCED = {
    # The shape of the largest two, at a depth that fits.
    "vit_h_14": lambda: models.VisionTransformer(224, 14, num_layers=4, num_heads=16, hidden_dim=1280, mlp_dim=5120),
    "regnet_y_128gf": lambda: RegNet(
        BlockParams.from_init_params(depth=8, w_0=456, w_a=160.83, w_m=2.52, group_width=264, se_ratio=0.25)
    ),
}


def cases() -> list[Case]:
    found = [_classifier(name) for name in models.list_models(module=models)]
    found += [_case(name, "segmentation", _segmentation) for name in models.list_models(module=models.segmentation)]
    found += [_case(name, "detection", _detection) for name in models.list_models(module=models.detection)]
    found += [_case(name, "video", _video) for name in models.list_models(module=models.video)]
    found += [_case(name, "optical flow", _flow) for name in models.list_models(module=models.optical_flow)]
    for name in models.list_models(module=models.quantization):
        reason = "its weights are integers of a quantisation scheme, prune the model before quantising"
        found.append(Case(name, "quantization", partial(_nothing, name), skip=reason))
    return found


def _nothing(name: str) -> Built:
    raise ValueError(f"{name} is skipped")


def _case(name: str, family: str, build: object) -> Case:
    return Case(name, family, partial(build, name))


def _classifier(name: str) -> Case:
    note = "at reduced depth" if name in REDUCED else ""
    return Case(name, name.partition("_")[0].rstrip("0123456789"), partial(_classification, name), note=note)


def _classification(name: str) -> Built:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = REDUCED[name]() if name in REDUCED else models.get_model(name, weights=None, **options)
    square = 224 if name.startswith(("vit", "swin", "alex", "vgg")) else 128
    size = FIXED_SIZES.get(name, square)
    return _built(model, torch.randn(1, 3, size, size))


def _segmentation(name: str) -> Built:
    return _built(models.get_model(name, weights=None, weights_backbone=None), torch.randn(1, 3, 64, 64))


def _detection(name: str) -> Built:
    options = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 128}
    if "keypoint" in name:  # its heatmaps are searched one region after another
        options |= {"box_detections_per_img": 10}
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **options)
    return Built(model.eval(), (Example(([torch.rand(3, 96, 96)],)),))


def _video(name: str) -> Built:
    size = 224 if name.startswith("mvit") else 64
    frames = 16 if name.startswith("mvit") else 14 if name.startswith("s3d") else 8
    if name.startswith("s3d"):
        size, frames = 224, 16
    return _built(models.get_model(name, weights=None), torch.randn(1, 3, frames, size, size))


def _flow(name: str) -> Built:
    model = models.get_model(name, weights=None).eval()
    image = torch.rand(1, 3, 128, 128)
    return Built(model, (Example({"image1": image, "image2": image.flip(-1), "num_flow_updates": 2}),))


def _built(model: nn.Module, x: torch.Tensor) -> Built:
    return Built(model.eval(), (Example(x),))
