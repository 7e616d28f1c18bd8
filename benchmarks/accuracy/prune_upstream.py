"""Prune a network by Torch-Pruning at many ratios and keep all results.

Run by upstream.py, with that package on the path:

python prune_upstream.py NETWORK WEIGHTS FOLDER
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from networks import CLASSES, NETWORKS
from torch import nn

import torch_pruning as tp

RATIOS = [n / 64 for n in range(8, 56)]


def main() -> None:
    network, weights, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    model = NETWORKS[network]()
    model.load_state_dict(torch.load(weights, weights_only=True))
    for ratio in RATIOS:
        small = copy.deepcopy(model).eval()
        linear = [layer for layer in small.modules() if isinstance(layer, nn.Linear)]
        tp.pruner.BasePruner(
            small,
            torch.zeros(1, 1, 28, 28),
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[layer for layer in linear if layer.out_features == CLASSES],
        ).step()
        torch.save(small, folder / f"{ratio:.4f}.pt")
    print(Path(tp.__file__).parent)


if __name__ == "__main__":
    main()
