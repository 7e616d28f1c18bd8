"""Scores: one per unit of a group, from the tensors it touches and from what was seen of the model as it ran."""

from torch_pruning.importance.activation import (
    ActivationImportance,
    APoZImportance,
    FisherImportance,
    FluctuationImportance,
    WandaImportance,
)
from torch_pruning.importance.base import Importance, Scores
from torch_pruning.importance.criterion import Criterion
from torch_pruning.importance.gradient import HessianImportance, TaylorImportance
from torch_pruning.importance.kronecker import OBDCImportance
from torch_pruning.importance.names import FunctionImportance, criterion, resolve_importance
from torch_pruning.importance.observation import observe
from torch_pruning.importance.reductions import normalized
from torch_pruning.importance.shares import GroupView, Share
from torch_pruning.importance.tensors import ModelTensors
from torch_pruning.importance.weight import (
    BNScaleImportance,
    FPGMImportance,
    LAMPImportance,
    MagnitudeImportance,
    RandomImportance,
)

GroupMagnitudeImportance = MagnitudeImportance
GroupTaylorImportance = TaylorImportance
GroupHessianImportance = HessianImportance

__all__ = [
    "APoZImportance",
    "ActivationImportance",
    "BNScaleImportance",
    "Criterion",
    "FPGMImportance",
    "FisherImportance",
    "FluctuationImportance",
    "FunctionImportance",
    "GroupHessianImportance",
    "GroupMagnitudeImportance",
    "GroupTaylorImportance",
    "GroupView",
    "HessianImportance",
    "Importance",
    "LAMPImportance",
    "MagnitudeImportance",
    "ModelTensors",
    "OBDCImportance",
    "RandomImportance",
    "Scores",
    "Share",
    "TaylorImportance",
    "WandaImportance",
    "criterion",
    "normalized",
    "observe",
    "resolve_importance",
]
