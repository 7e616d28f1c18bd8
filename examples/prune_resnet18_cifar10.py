"""Train a ResNet-18 on small images and prune it round by round, each round followed by fine-tuning.

    python examples/prune_resnet18_cifar10.py --mode train --total_epochs 200 --step_size 70
    python examples/prune_resnet18_cifar10.py --mode prune --round 1 --total_epochs 30 --step_size 20
    python examples/prune_resnet18_cifar10.py --mode prune --round 2 --total_epochs 30 --step_size 20
    python examples/prune_resnet18_cifar10.py --mode test --round 2

Training writes the whole model to resnet18-round0.pth; round N starts from resnet18-round{N-1}.pth and writes
resnet18-round{N}.pth. Within a round every block loses a share of the channels of its two convolutions, those with the
smallest L1 norm, together with everything that depends on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from cifar_resnet import BasicBlock, ResNet18
from image_data import DATA_SETS, Images, augmented, load_images
from torch import Tensor, nn

import torch_pruning as pruning

# The share of channels that each of the eight blocks loses in one round: later blocks are wider and lose more.
BLOCK_TO_SHARE = (0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3)


def prune_blocks(model: nn.Module, example_inputs: Tensor) -> int:
    """One round of pruning, in place; returns the number of parameters removed."""
    graph = pruning.DependencyGraph()
    graph.build_dependency(model, example_inputs=example_inputs)
    strategy = pruning.strategy.L1Strategy()
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    removed = 0
    for block, share in zip(blocks, BLOCK_TO_SHARE, strict=True):
        # The second convolution is added to the shortcut, so its plan reaches through the whole stage.
        for conv in (block.conv1, block.conv2):
            plan = graph.get_pruning_plan(conv, pruning.prune_conv, idxs=strategy(conv.weight, amount=share))
            removed += plan.exec()
    return removed


def train(model: nn.Module, data: Images, path: Path, options: argparse.Namespace) -> None:
    """Stochastic gradient descent with momentum; the whole model is written to `path` after every epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, options.step_size, gamma=0.1)
    for epoch in range(1, options.total_epochs + 1):
        model.train()
        for batch in torch.randperm(len(data.training)).split(options.batch_size):
            images = augmented(data.training[batch], data.mirror).to(options.device)
            optimizer.zero_grad()
            with precision(options):
                loss = F.cross_entropy(model(images), data.training_labels[batch].to(options.device))
            loss.backward()
            optimizer.step()
        scheduler.step()
        torch.save(model, path)
        print(f"epoch {epoch}/{options.total_epochs}: accuracy {accuracy(model, data, options):.4f}", flush=True)


def precision(options: argparse.Namespace) -> torch.autocast:
    """The context in which the model runs: convolutions in bfloat16 if asked for, which is about twice as fast."""
    return torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bfloat16)


@torch.inference_mode()
def accuracy(model: nn.Module, data: Images, options: argparse.Namespace) -> float:
    """The share of test images that are classified correctly."""
    model.eval()
    correct = 0
    for images, labels in zip(
        data.test.split(options.batch_size), data.test_labels.split(options.batch_size), strict=True
    ):
        with precision(options):
            found = model(images.to(options.device)).argmax(dim=1).cpu()
        correct += int((found == labels).sum())
    return correct / len(data.test)


def saved_model(path: Path, device: str) -> nn.Module:
    """The model of an earlier round. The file holds the whole object: load only files that you wrote yourself.

    Raises:
        SystemExit: if there is no such file.
    """
    if not path.exists():
        raise SystemExit(f"{path} does not exist: --mode train writes round 0, --mode prune --round N writes round N")
    return torch.load(path, map_location=device, weights_only=False)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a ResNet-18 on small images, then prune it round by round.")
    parser.add_argument("--mode", required=True, choices=("train", "prune", "test"))
    parser.add_argument("--round", type=int, default=1, help="of pruning, from 1; with --mode test, 0 is unpruned")
    parser.add_argument("--total_epochs", type=int, default=100)
    parser.add_argument("--step_size", type=int, default=70, help="epochs until the learning rate falls to a tenth")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.1, help="the learning rate at the start")
    parser.add_argument("--data", default="cifar10", choices=sorted(DATA_SETS))
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where data sets are found or put")
    parser.add_argument("--model-dir", type=Path, default=Path(), help="where models are found and put")
    parser.add_argument("--limit", type=int, help="use only so many training and test images")
    parser.add_argument("--bfloat16", action="store_true", help="run the model under autocast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.mode == "prune" and options.round < 1:
        parser.error(f"--round must be at least 1 to prune, found {options.round}: round 0 is the trained model")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    torch.manual_seed(options.seed)
    data = load_images(options.data, options.data_dir)
    if options.limit is not None:
        data = data.first(options.limit)

    def path(number: int) -> Path:
        return options.model_dir / f"resnet18-round{number}.pth"

    if options.mode == "train":
        model: nn.Module = ResNet18(data.channels, data.classes).to(options.device)
        print(f"{count_parameters(model):,} parameters")
        train(model, data, path(0), options)
    elif options.mode == "prune":
        model = saved_model(path(options.round - 1), options.device)
        before = count_parameters(model)
        prune_blocks(model, data.test[:1].to(options.device))
        print(f"{before:,} -> {count_parameters(model):,} parameters")
        train(model, data, path(options.round), options)
    else:
        model = saved_model(path(options.round), options.device)
        print(f"{count_parameters(model):,} parameters, accuracy {accuracy(model, data, options):.4f}")


if __name__ == "__main__":
    main()
