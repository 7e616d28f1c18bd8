"""timm: every name in `list_models()`. The smallest member of each family is executed, the others are traced."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
import torch
from case import Built, Case
from torch import nn

from torch_pruning.trace.tracer import Example

PACKAGES = ("torch", "timm")


def cases() -> list[Case]:
    found = []
    for family in timm.list_modules():
        names = timm.list_models(module=family)
        found += [Case(name, family, partial(_build, name), executed=name.startswith("test_")) for name in names]
    return found


def _build(name: str) -> Built:
    model = timm.create_model(name, pretrained=False).eval()
    return Built(model, (Example(torch.randn(1, *input_size(name, model))),))


def input_size(name: str, model: nn.Module) -> tuple[int, int, int]:
    """The published size (its test size where that is smaller). Small for models that take any size."""
    config: Any = model.default_cfg
    channels, height, width = config["input_size"]
    return channels, height, width
