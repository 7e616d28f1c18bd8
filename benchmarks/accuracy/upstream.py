"""What Torch-Pruning makes of the same network: L2 over whole groups, one ratio everywhere, the highest that is needed.

The package runs in a process of its own, for it has the name of this one:

    pip install --target upstream --no-deps torch-pruning==1.6.1
    python benchmarks/accuracy/compare.py run --networks resnet20 --upstream upstream
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

import torch_pruning as tp

HERE = Path(__file__).parent


def name(package: Path) -> str:
    """ "Torch-Pruning 1.6.1", of the package that lies in this folder."""
    (metadata,) = package.glob("torch_pruning-*.dist-info")
    return f"Torch-Pruning {metadata.name.split('-')[1].removesuffix('.dist')}"


def pruned_upstream(network: str, model: nn.Module, x: Tensor, budget: float, package: Path) -> nn.Module:
    """The largest of its results that costs at most this share of the MACs, as `tp.utils` counts them here."""
    limit = budget * _macs(model, x)
    costs = [(_macs(small, x), number, small) for number, small in enumerate(_candidates(network, model, package))]
    return max(cost for cost in costs if cost[0] <= limit)[2]


def _macs(model: nn.Module, x: Tensor) -> float:
    return float(tp.utils.count_ops_and_params(model, x)[0])


@lru_cache(maxsize=1)
def _candidates(network: str, model: nn.Module, package: Path) -> list[nn.Module]:
    """The network pruned at many ratios."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "dense"
        torch.save(model.state_dict(), weights)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(HERE / "prune_upstream.py"), network, str(weights), folder],
            env={**os.environ, "PYTHONPATH": str(package.resolve())},
            capture_output=True,
            text=True,
            check=False,
        )
        used = done.stdout.strip().splitlines()[-1:]
        if done.returncode or not Path(*used).is_relative_to(package.resolve()):
            raise RuntimeError(f"Torch-Pruning was to run from {package}, found {used}: {done.stderr[-500:]}")
        return [torch.load(path, weights_only=False).eval() for path in sorted(Path(folder).glob("*.pt"))]
