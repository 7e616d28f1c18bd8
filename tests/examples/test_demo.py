"""examples/demo.py: the table tells the truth, and pruning does what it says."""

import re
from collections.abc import Callable

import pytest


@pytest.fixture(scope="module")
def rows_of_table() -> dict[str, list[str]]:
    return {}


@pytest.fixture
def rows(run_example: Callable[[str], str], rows_of_table: dict[str, list[str]]) -> dict[str, list[str]]:
    """The cells of each row of the table by its title, of one short run for all tests here."""
    if not rows_of_table:
        printed = run_example("python examples/demo.py --epochs 2 --fine-tuning-epochs 1 --repeats 3")
        for line in printed.splitlines():
            title, *cells = (cell.strip() for cell in re.split("[│┃|]", line.strip("│┃| ")))
            rows_of_table[title] = cells
        rows_of_table["caption"] = [re.sub(r"\s+", " ", printed.rpartition("The pruned model")[2])]
    return rows_of_table


def numbers(cells: list[str]) -> list[float]:
    """`['1,234', '5.0 ms', '67%']` -> `[1234.0, 5.0, 67.0]`"""
    assert len(cells) == 4, f"before, after pruning, after recovery, after fine-tuning; found {cells}"
    return [float(re.sub(r"[^\d.]", "", cell)) for cell in cells]


@pytest.mark.models
def test_macs_are_a_quarter_and_stay_so(rows: dict[str, list[str]]) -> None:
    before, pruned, recovered, tuned = numbers(rows["MACs of one image"])
    # 32 * (9 + 4 * 9 * 32) * 64 pixels, then the second stage at 16 pixels, then the classifier.
    assert before == 32 * (9 + 4 * 9 * 32) * 64 + 64 * (32 + 9 * 32 + 3 * 9 * 64) * 16 + 64 * 10
    assert 0.24 * before < pruned <= 0.25 * before
    assert recovered == tuned == pruned


@pytest.mark.models
def test_parameters_go(rows: dict[str, list[str]]) -> None:
    before, pruned, recovered, tuned = numbers(rows["parameters"])
    assert before == 169_834
    assert pruned < 0.3 * before
    assert recovered == tuned == pruned


@pytest.mark.models
def test_fine_tuning_with_the_same_optimizer_recovers(rows: dict[str, list[str]]) -> None:
    before, pruned, _, tuned = numbers(rows["accuracy on test images"])
    assert before > 90
    assert tuned > max(pruned, 90)


@pytest.mark.models
def test_recovery_gives_back_most_of_what_pruning_takes(rows: dict[str, list[str]]) -> None:
    before, pruned, recovered, _ = numbers(rows["accuracy on test images"])
    assert before - recovered < 0.5 * (before - pruned)
    assert recovered > pruned + 10


@pytest.mark.models
def test_oracle_is_asked(rows: dict[str, list[str]]) -> None:
    (caption,) = rows["caption"]
    assert "(exact)" in caption
    errors = [
        float(number)
        for number in re.findall(r"differ by (\S+),|gradients by (\S+),", caption)
        for number in number
        if number
    ]
    assert len(errors) == 2
    assert all(error < 1e-9 for error in errors)


@pytest.mark.models
def test_latency_is_measured(rows: dict[str, list[str]]) -> None:
    assert all(latency > 0 for latency in numbers(rows["latency of a batch of 256"]))


def test_split_is_fixed_and_without_overlap() -> None:
    from digits import digits

    (training, test), (again, _) = digits(), digits()
    assert (training.images.shape, test.images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert training.images.equal(again.images)
    assert training.labels.equal(again.labels)
    seen = {image.numpy().tobytes() for image in training.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)
    assert len(test.labels.unique()) == 10
    assert (float(training.images.min()), float(training.images.max())) == (0, 1)
