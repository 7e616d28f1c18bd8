"""The examples run here as a user runs them: with their own folder first on the path, in an empty working directory."""

import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torch_pruning.rules import registry

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def examples_importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`import digits` finds examples/digits.py; what an example writes stays out of the tree."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def rules_put_back() -> Iterator[None]:
    """An example that registers a rule must not leave it to other tests."""
    before = registry.registered()
    yield
    for op in registry.registered().keys() - before.keys():
        registry.unregister_rule(op)


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Runs a command line such as "python examples/demo.py --epochs 1" and returns what it prints.

    In this process, so that the guards of the tests (no network, warnings are errors) hold for examples too. An exit
    with a status other than 0 is an error.
    """

    def run(command: str) -> str:
        python, script, *arguments = shlex.split(command)
        assert python == "python", f"examples are run with python, found {command!r}"
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        capsys.readouterr()
        status: object = None
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            status = end.code
        assert not status, f"{command} exits with {status}"
        return capsys.readouterr().out

    return run
