"""README.md and docs/ keep their word: code runs as written and prints what is shown, commands exist and work."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "docs/architecture.md",
    "docs/choosing.md",
    "docs/recovery.md",
    "docs/importance.md",
    "docs/from-torch-pruning.md",
    "docs/how-it-fails.md",
]

# name of document -> (language, text) of each block
BLOCKS = {
    name: re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for name in DOCUMENTS
}
# (document, code, the block after it): each block of Python is followed by what it prints.
CODE = [
    (name, code, blocks[index + 1])
    for name, blocks in BLOCKS.items()
    for index, (language, code) in enumerate(blocks)
    if language == "python"
]
LINKS = [(name, link) for name in DOCUMENTS for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text("utf-8"))]
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, text in BLOCKS["README.md"]
    if language == "sh"
    for line in text.splitlines()
]
EXAMPLES = [command for command in COMMANDS if command.startswith("python examples/")]
TARGETS = [command.removeprefix("make ") for command in COMMANDS if command.startswith("make ")]

# Appended to a command so that it takes seconds: arguments that are given twice count as given last.
SCRIPT_TO_LESS_WORK = {
    "examples/demo.py": "--epochs 1 --fine-tuning-epochs 1 --repeats 1",
    "examples/prune_resnet18_cifar10.py": "--data digits --limit 4 --batch_size 4 --total_epochs 1",
    "examples/test_models.py": "",
}


def test_there_is_something_to_check() -> None:
    counts = {name: [found for found, *_ in CODE].count(name) for name in DOCUMENTS}
    assert list(counts.values()) == [3, 2, 4, 1, 1, 1, 3]
    assert LINKS
    assert TARGETS == ["demo", "test"]
    assert len(EXAMPLES) == 5
    assert len(EXAMPLES) + len(TARGETS) == len(COMMANDS), "commands of another kind need a test of their own"


@pytest.mark.models
@pytest.mark.parametrize(("name", "code", "shown"), CODE, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(CODE)])
def test_code_prints_what_is_shown(
    name: str, code: str, shown: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    language, output = shown
    assert language == "text", "a block of code is followed by what it prints"
    exec(compile(code, f"{Path(name).stem}.py", "exec"), {"__name__": Path(name).stem})
    assert comparable(capsys.readouterr().out) == comparable(output)


def comparable(output: str) -> list[str]:
    """The lines without blanks at their ends, line numbers, and the numbers of axes without a name of their own."""
    lines = [re.sub(r"(\.py):\d+ in", r"\1 in", line.rstrip()) for line in output.splitlines()]
    return [re.sub(r"\bx\d+:", "x:", line) for line in lines if line]


@pytest.mark.models
def test_commands_run_in_the_order_given(run_example: Callable[[str], str]) -> None:
    for command in EXAMPLES:
        assert run_example(f"{command} {SCRIPT_TO_LESS_WORK[shlex.split(command)[1]]}"), f"{command} prints nothing"


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_runs_something_that_is_there(target: str) -> None:
    # The tests themselves may run under make, which hands its own flags down and then names the directory as well.
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "--dry-run", target]
    shown = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    recipe = shlex.split(shown.strip().splitlines()[-1])
    assert recipe[0].endswith("/python")
    assert recipe[1:3] == (["examples/demo.py"] if target == "demo" else ["-m", "pytest"])
    assert (ROOT / recipe[1]).is_file() or recipe[1] == "-m"


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_links_lead_somewhere(name: str, link: str) -> None:
    assert ((ROOT / name).parent / link).is_file()
