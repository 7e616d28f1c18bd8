"""Recovery: what pruning took from the outputs, given back without labels and without training."""

from torch_pruning.recovery.distill import FeatureMatch, distillation_loss, match_features
from torch_pruning.recovery.execute import RecoveryReport, compensate_mean, execute, reconstruct
from torch_pruning.recovery.normalisation import reestimate_batch_norm
from torch_pruning.recovery.options import METHODS, Options
from torch_pruning.recovery.selection import ReconstructionScore

__all__ = [
    "METHODS",
    "FeatureMatch",
    "Options",
    "ReconstructionScore",
    "RecoveryReport",
    "compensate_mean",
    "distillation_loss",
    "execute",
    "match_features",
    "reconstruct",
    "reestimate_batch_norm",
]
