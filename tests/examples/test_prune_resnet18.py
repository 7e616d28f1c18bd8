"""examples/prune_resnet18_cifar10.py: training, two rounds of pruning and a test, on few digits; and its data sets."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SCRIPT = "python examples/prune_resnet18_cifar10.py"
SMALL = "--data digits --limit 8 --batch_size 4 --total_epochs 1 --step_size 1"


def counted(printed: str) -> list[int]:
    """The numbers in "11,173,962 -> 9,000,000 parameters"."""
    line = next(line for line in printed.splitlines() if "parameters" in line)
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]{6,}", line)]


@pytest.mark.models
def test_rounds_build_on_each_other(run_example: Callable[[str], str]) -> None:
    (dense,) = counted(run_example(f"{SCRIPT} --mode train {SMALL}"))
    assert dense == 11_172_810  # 11,173,962 for three input channels: 64 * 9 less for each that is missing
    first_before, first = counted(run_example(f"{SCRIPT} --mode prune --round 1 {SMALL}"))
    second_before, second = counted(run_example(f"{SCRIPT} --mode prune --round 2 {SMALL}"))
    assert (first_before, second_before) == (dense, first)
    assert second < first < dense
    tested = run_example(f"{SCRIPT} --mode test --round 2 {SMALL}")
    assert counted(tested) == [second]
    assert 0 <= float(re.search(r"accuracy ([\d.]+)", tested)[1]) <= 1
    # Whole objects: they run without the code that made them smaller.
    for number, parameters in enumerate([dense, first, second]):
        model = torch.load(f"resnet18-round{number}.pth", weights_only=False)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
        assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.models
def test_each_block_loses_its_share() -> None:
    from cifar_resnet import WIDTHS, BasicBlock, ResNet18
    from prune_resnet18_cifar10 import BLOCK_TO_SHARE, prune_blocks

    model = ResNet18()
    before = sum(parameter.numel() for parameter in model.parameters())
    removed = prune_blocks(model, torch.zeros(1, 3, 32, 32))
    assert before - sum(parameter.numel() for parameter in model.parameters()) == removed > 0
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    for index, (block, share) in enumerate(zip(blocks, BLOCK_TO_SHARE, strict=True)):
        width = WIDTHS[index // 2]
        assert block.conv1.out_channels == width - int(share * width)
        # Both blocks of a stage take channels from the sum that they share.
        twice = width - int(share * width)
        assert block.conv2.out_channels == twice - int(share * twice)


@pytest.mark.models
def test_round_without_the_one_before_is_refused(run_example: Callable[[str], str]) -> None:
    with pytest.raises(AssertionError, match=r"resnet18-round2\.pth does not exist"):
        run_example(f"{SCRIPT} --mode prune --round 3 {SMALL}")


def test_round_0_is_no_pruning(capsys: pytest.CaptureFixture[str]) -> None:
    from prune_resnet18_cifar10 import parsed

    with pytest.raises(SystemExit):
        parsed(["--mode", "prune", "--round", "0"])
    assert "--round must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "what"), [("cifar10", "CIFAR-10"), ("fashion-mnist", "Fashion-MNIST")])
def test_missing_data_is_explained(name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import image_data

    monkeypatch.setattr(image_data, "DEBIAN_FASHION_MNIST", tmp_path / "not-installed")
    with pytest.raises(SystemExit, match=rf"{what} is .*could not be downloaded(.|\n)*--data digits"):
        image_data.load_images(name, tmp_path / "data")


@pytest.mark.parametrize("place", ["data", "data/FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_from_its_files(place: str, packed: bool, tmp_path: Path) -> None:
    from image_data import load_images

    folder = tmp_path / place
    folder.mkdir(parents=True)
    pixels = torch.arange(3 * 28 * 28).remainder(256).to(torch.uint8).view(3, 28, 28)
    labels = torch.tensor([7, 0, 9], dtype=torch.uint8)
    for part, count in (("train", 3), ("t10k", 2)):
        for kind, array in (("images-idx3", pixels[:count]), ("labels-idx1", labels[:count])):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.dim()]) + sizes + array.numpy().tobytes()
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content) if packed else content)
    data = load_images("fashion-mnist", tmp_path / "data")
    assert data.training_labels.tolist() == [7, 0, 9]
    assert data.test_labels.tolist() == [7, 0]
    expected = pixels.unsqueeze(1) / 255
    torch.testing.assert_close(data.training, (expected - expected.mean()) / expected.std())
    assert data.test.equal(data.training[:2])


def test_other_files_are_not_taken_for_idx(tmp_path: Path) -> None:
    from image_data import read_idx

    (tmp_path / "floats").write_bytes(bytes([0, 0, 13, 1, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="unsigned bytes"):
        read_idx(tmp_path, "floats")


def test_digits_are_enlarged_and_standardised(tmp_path: Path) -> None:
    from image_data import load_images

    data = load_images("digits", tmp_path)
    assert data.training.shape == (1437, 1, 32, 32)
    assert data.test.shape == (360, 1, 32, 32)
    assert abs(float(data.training.mean())) < 1e-4
    assert abs(float(data.training.std()) - 1) < 1e-4


@pytest.mark.parametrize("mirror", [True, False])
def test_augmented_images_are_shifted_and_mirrored_whole(mirror: bool) -> None:
    from image_data import augmented

    image = torch.arange(1.0, 1 + 2 * 3 * 4).view(1, 2, 3, 4)
    bordered = torch.zeros(1, 2, 5, 6)
    bordered[:, :, 1:4, 1:5] = image
    windows = [bordered[:, :, top : top + 3, left : left + 4] for top in range(3) for left in range(3)]
    allowed = [*windows, *(window.flip(-1) for window in windows)] if mirror else windows
    found = augmented(image.expand(400, -1, -1, -1), mirror, margin=1).unique(dim=0)
    assert len(found) == len(allowed)
    assert all(any(result.equal(window[0]) for window in allowed) for result in found)
