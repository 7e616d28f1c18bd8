"""A slice of the benchmark: a trained network that is pruned without training keeps what it knows."""

import copy
import sys
from pathlib import Path

import pytest
import torch

import torch_pruning as tp

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from digits import DigitsNet, Split, accuracy, digits, train

BATCH_NORM, LEAST_SQUARES, OURS = "batch norm", "least squares", "reconstruction, least squares"


@pytest.fixture(scope="module")
def trained() -> tuple[DigitsNet, Split, Split]:
    torch.manual_seed(0)
    training, test = digits()
    model = DigitsNet(width=16)
    train(model, torch.optim.AdamW(model.parameters(), lr=2e-3), training, epochs=12)
    return model.eval(), training, test


@pytest.mark.models
def test_least_squares_keeps_what_batch_norm_alone_loses(trained: tuple[DigitsNet, Split, Split]) -> None:
    """Wide margins only: measured are 99 % dense; at a quarter of the MACs 27, 94 and 97 %."""
    model, training, test = trained
    calibration = training.images[:512].split(128)
    found = {"dense": accuracy(model, test)}
    for name, importance, scope, recovery in (
        ("alone", "l2", "local", "none"),
        (BATCH_NORM, "l2", "local", "batch_norm"),
        (LEAST_SQUARES, "l2", "local", "least_squares"),
        (OURS, "reconstruction", "cost", "least_squares"),
    ):
        pruned = copy.deepcopy(model)
        options = {"importance": importance, "scope": scope, "recovery": recovery, "calibration": calibration}
        report = tp.prune(pruned, test.images[:2], macs=0.25, **options)
        assert report.after.macs <= 0.25 * report.before.macs
        found[name] = accuracy(pruned, test)
    assert found["dense"] > 0.97
    assert found["alone"] < 0.5
    assert found[LEAST_SQUARES] > max(found[BATCH_NORM], found["alone"]) + 0.2
    assert found[OURS] > found["dense"] - 0.07
    assert found[OURS] > found[LEAST_SQUARES] - 0.02
