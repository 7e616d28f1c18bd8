"""examples/test_models.py: the table of a few models, and that a failure is reported as one."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).parents[2] / "examples" / "test_models.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module, under a name that no test module can have."""
    spec = importlib.util.spec_from_file_location("examples.test_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.models
def test_models_that_match_are_pruned_and_verified(run_example: Callable[[str], str]) -> None:
    printed = run_example("python examples/test_models.py --models 'squeezenet1_*' --verify").splitlines()
    assert [line.split()[:2] for line in printed[1:-1]] == [["squeezenet1_0", "ok"], ["squeezenet1_1", "ok"]]
    for line in printed[1:-1]:
        _, _, before, after, error, _, _ = line.split()
        assert int(after.replace(",", "")) < 0.7 * int(before.replace(",", ""))
        assert float(error) < 1e-9
    assert printed[-1] == "2 of 2 ok"


@pytest.mark.models
def test_a_model_that_fails_does_not_hide_the_others(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Frozen(nn.Module):
        """Nothing can go: the only width is the output's."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    build = script.build
    monkeypatch.setattr(script, "supported", lambda pattern: ["frozen", "squeezenet1_1"])
    monkeypatch.setattr(script, "build", lambda name: Frozen() if name == "frozen" else build(name))
    with pytest.raises(SystemExit) as end:
        script.main([])
    _, frozen, squeezenet, summary = capsys.readouterr().out.splitlines()
    assert end.value.code == 1
    assert "FAIL" in frozen
    assert "no group may lose units" in frozen
    assert "ok" in squeezenet
    assert summary == "1 of 2 ok"


def test_classification_and_segmentation_are_supported(script: ModuleType) -> None:
    assert {"resnet18", "vit_b_16", "fcn_resnet50"} <= set(script.supported("*"))
    assert script.supported("resnet?8") == ["resnet18"]
    assert script.supported("no such model") == []
