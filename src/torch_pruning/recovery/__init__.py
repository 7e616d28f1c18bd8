"""Recovery: what pruning took from the outputs, given back without labels and without training."""

from torch_pruning.recovery.execute import RecoveryReport, compensate_mean, execute, reconstruct
from torch_pruning.recovery.normalisation import reestimate_batch_norm
from torch_pruning.recovery.options import METHODS, Options
from torch_pruning.recovery.selection import ReconstructionScore

__all__ = [
    "METHODS",
    "Options",
    "ReconstructionScore",
    "RecoveryReport",
    "compensate_mean",
    "execute",
    "reconstruct",
    "reestimate_batch_norm",
]
