"""The examples for Trainer, Accelerate, Lightning and peft run and prune, and momenta of kept units are kept."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pruning as tp


class Moments:
    """What a pruner's steps do to the state of the optimizer: checked in each step, counted over all."""

    def __init__(self) -> None:
        self.steps = 0
        self.compared = 0
        self.shrunk = 0

    def of(self, pruner: tp.Pruner) -> dict[tuple[str, str], Tensor]:
        """{(parameter, entry of its state): a copy} of all entries of a parameter's shape."""
        optimizers: Any = pruner.optimizer if isinstance(pruner.optimizer, list) else [pruner.optimizer]
        return {
            (name, key): entry.clone()
            for optimizer in optimizers
            for name, parameter in pruner.model.named_parameters()
            for key, entry in optimizer.state.get(parameter, {}).items()
            if isinstance(entry, Tensor) and entry.shape == parameter.shape and entry.dim()
        }

    def check(self, plan: tp.Plan, before: dict[tuple[str, str], Tensor], after: dict[tuple[str, str], Tensor]) -> None:
        assert before.keys() == after.keys()
        for (name, key), entry in before.items():
            if name in plan.blocks or any(target == name for target, *_ in plan.scales):
                continue  # cut by lane, or scaled: of another form than a plain choice of positions
            for dim, kept in plan.kept.get(name, {}).items():
                entry = entry.index_select(dim, torch.tensor(kept))
            assert entry.equal(after[name, key]), f"{key} of {name} is not what it was on the units that stay"
            self.compared += bool(entry.any())
            self.shrunk += bool(entry.any()) and name in plan.kept
        self.steps += 1


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    """Watches every step of every pruner."""
    found, step = Moments(), tp.Pruner.step

    def watched(pruner: tp.Pruner, *args: Any, **given: Any) -> Any:
        before = found.of(pruner)
        done = step(pruner, *args, **given)
        found.check(done.report.plan, before, found.of(pruner))
        return done

    monkeypatch.setattr(tp.Pruner, "step", watched)
    return found


def test_a_momentum_that_is_not_kept_would_be_noticed(moments: Moments) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    plan = tp.plan(model, torch.randn(2, 4), pruning_ratio=0.5)
    pruner = tp.Pruner(model, torch.randn(2, 4), pruning_ratio=0.5, optimizer=optimizer)
    before = moments.of(pruner)
    plan.exec(optimizer)
    after = moments.of(pruner)
    moments.check(plan, before, after)
    with pytest.raises(AssertionError, match=r"momentum_buffer of 0\.weight"):
        moments.check(plan, before, {key: entry + 1 for key, entry in after.items()})


def figures(printed: str) -> tuple[int, int, float]:
    """(parameters before, after, accuracy in percent) of the line that the examples end with."""
    found = re.search(r"([\d,]+) -> ([\d,]+) parameters, accuracy on test images ([\d.]+)%", printed)
    assert found is not None, printed
    before, after, accuracy = (float(number.replace(",", "")) for number in found.groups())
    return int(before), int(after), accuracy


@pytest.mark.models
def test_trainer_prunes_on_schedule(run_example: Callable[[str], str], moments: Moments) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    command = "python examples/prune_with_trainer.py --epochs 4 --every 20 --steps 3 --params 0.5"
    before, after, accuracy = figures(run_example(command))
    assert after <= 0.5 * before
    assert accuracy > 30  # ten classes: it has learned something, through all steps of pruning
    assert (moments.steps, moments.shrunk > 20) == (3, True)


@pytest.mark.models
def test_accelerate_prunes_between_epochs(run_example: Callable[[str], str], moments: Moments) -> None:
    pytest.importorskip("accelerate")
    printed = run_example("python examples/prune_with_accelerate.py --epochs 4 --steps 2 --macs 0.4")
    lines = re.findall(r"epoch (\d): ([\d,]+) parameters, accuracy ([\d.]+)%", printed)
    counts = [int(count.replace(",", "")) for _, count, _ in lines]
    assert counts[0] > counts[1] > counts[2] == counts[3]
    assert float(lines[-1][2]) > 80
    assert (moments.steps, moments.shrunk > 10) == (2, True)


@pytest.mark.models
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated")
def test_lightning_prunes_on_schedule(run_example: Callable[[str], str], moments: Moments) -> None:
    pytest.importorskip("lightning")
    printed = run_example("python examples/prune_with_lightning.py --epochs 4 --steps 2 --macs 0.4")
    before, after, accuracy = figures(printed)
    assert after < 0.5 * before
    assert accuracy > 80
    assert (moments.steps, moments.shrunk > 10) == (2, True)


@pytest.mark.models
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_lora_is_trained_on_the_pruned_model_merged_and_saved(run_example: Callable[[str], str]) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    printed = run_example("python examples/recover_with_lora.py --batches 250 --lora-batches 80")
    right = {line.partition(":")[0]: float(line.split()[-2].rstrip("%")) for line in printed.splitlines()}
    counts = [int(line.split()[1].replace(",", "")) for line in printed.splitlines()[:2]]
    assert counts[1] <= 0.6 * counts[0]
    assert right["LoRA"] > right["pruned"] + 5
    assert right["loaded"] == right["LoRA"]
