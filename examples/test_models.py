"""Prune torchvision's classification and segmentation models, with random weights, and run what comes out.

python examples/test_models.py                         all of them, which takes a while and 8 GB of memory
python examples/test_models.py --models 'resnet*'      those that match
python examples/test_models.py --models 'vit_b*' --verify
"""

from __future__ import annotations

import argparse
import fnmatch
import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

import torch_pruning as tp

# Where 224 pixels are too few for one of its heads.
NAME_TO_PIXELS = {"inception_v3": 299}
# Builders that warn unless they are told how to initialise.
NAME_TO_OPTIONS = {"inception_v3": {"init_weights": True}, "googlenet": {"init_weights": True}}


class PruningFailedError(Exception):
    """A model that was not pruned as it should be."""


@dataclass(frozen=True, slots=True)
class Result:
    """Parameters before and after. `error` is that of the oracle, if it was asked."""

    before: int
    after: int
    error: float | None


def supported(pattern: str) -> list[str]:
    """The names of the models that match, classification first."""
    names = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def build(name: str) -> nn.Module:
    """The model with random weights, the same every time."""
    torch.manual_seed(0)
    builder = models.get_model_builder(name)
    no_backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
    return builder(weights=None, **no_backbone, **NAME_TO_OPTIONS.get(name, {})).eval()


@torch.inference_mode()
def output_shapes(model: nn.Module, images: Tensor) -> Mapping[str, Any]:
    """The shape of every output; a single one is called "out", as the segmentation models do."""
    outputs = model(images)
    named = {"out": outputs} if isinstance(outputs, Tensor) else outputs
    return {key: output.shape for key, output in named.items()}


def pruned(name: str, ratio: float, verify: bool) -> Result:
    """Prune one model and run it.

    Raises:
        PruningFailedError: if nothing went, an output changed its shape, or groups said to be exact are not.
    """
    model = build(name)
    pixels = NAME_TO_PIXELS.get(name, 224)
    images = torch.randn(1, 3, pixels, pixels)
    shapes = output_shapes(model, images)
    plan = tp.plan(model, images, pruning_ratio=ratio)
    error = None
    if verify:
        verification = tp.verify(model, tp.plan(plan.graph, pruning_ratio=ratio, exact_only=True), rescale=True)
        require(verification.exact, f"the pruned and the masked model differ: {verification}")
        error = verification.error
    plan.exec()
    after = sum(parameter.numel() for parameter in model.parameters())
    require(after < plan.before.parameters, "nothing was removed")
    require(after == plan.after.parameters, f"{plan.after.parameters:,} parameters were predicted, found {after:,}")
    found = output_shapes(model, images)
    require(found == shapes, f"outputs were {shapes}, found {found}")
    return Result(plan.before.parameters, after, error)


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise PruningFailedError(otherwise)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Prune torchvision's models and run what comes out.")
    parser.add_argument("--models", default="*", metavar="PATTERN", help="which ones, such as 'resnet*'")
    parser.add_argument("--pruning-ratio", type=float, default=0.3, help="the share of units to remove")
    parser.add_argument("--verify", action="store_true", help="ask the oracle too, in float64; takes longer")
    options = parser.parse_args(arguments)
    names = supported(options.models)
    if not names:
        parser.error(f"no model matches {options.models!r}")
    failed = 0
    print(f"{'model':30}{'':6}{'parameters':>13}{'pruned':>13}{'error':>9}{'time':>8}")
    for name in names:
        start = time.perf_counter()
        try:
            result = pruned(name, options.pruning_ratio, options.verify)
            error = "" if result.error is None else f"{result.error:.0e}"
            row = f"{'ok':6}{result.before:13,}{result.after:13,}{error:>9}"
        except Exception as problem:  # one model that fails must not hide the others
            failed += 1
            row = f"FAIL  {type(problem).__name__}: {str(problem).partition(chr(10))[0]} "
        print(f"{name:30}{row}{time.perf_counter() - start:6.1f} s", flush=True)
    print(f"{len(names) - failed} of {len(names)} ok")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
