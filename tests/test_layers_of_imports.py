"""Imports run downward: the order of the modules, and what the lowest of them must not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "torch_pruning"
ROOT = Path(__file__).parent.parent / "src" / PACKAGE

# From the lowest to the highest. A module may import from its own layer and from those above it in this list.
LAYERS = [
    ("errors", "progress"),
    ("axes",),
    ("rules",),
    ("trace",),
    ("graph",),
    ("planning",),
    ("layers", "dependency"),
    ("importance",),
    ("recovery",),
    ("pruner",),
    ("checkpoint", "export", "report", "cli"),
    ("strategy", "counting", "measuring", "comparing", "drawing", "utils", "__init__"),
]
MODULE_TO_LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

# The algebra of axes is pure Python; so is what it imports. A progress bar has nothing to do with tensors.
WITHOUT_TORCH = {"errors", "progress", "axes"}

# Extras and whatever is slow to import: loaded by the function that needs it, never by `import torch_pruning`.
HEAVY = """
accelerate jinja2 lightning matplotlib onnx onnxruntime peft sklearn timm torchvision transformers typer
""".split()


def source_files() -> list[Path]:
    """The package's Python files, relative to its folder. None at all is an error: nothing would be checked."""
    files = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    assert files, f"no Python files under {ROOT}"
    return files


def top_module(file: Path) -> str:
    """`axes/unify.py` -> `axes`, `errors.py` -> `errors`"""
    return file.parts[0].removesuffix(".py")


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(node: ast.AST, *, for_types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements below a node, in functions too; those under `if TYPE_CHECKING` only `for_types`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child.test) and not for_types:
            for statement in child.orelse:  # an `elif` is an If of its own here, so it is judged by its own condition
                yield from imports(ast.Module([statement], []), for_types=for_types)
        else:
            yield from imports(child, for_types=for_types)


def imported_names(file: Path, statement: ast.Import | ast.ImportFrom) -> list[str]:
    """Absolute dotted names: in `axes/unify.py`, `from ..errors import A, B` -> torch_pruning.errors.A and .B"""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    base = [statement.module] if statement.module else []
    if statement.level:
        folder = [PACKAGE, *file.parts[:-1]]
        kept = len(folder) - (statement.level - 1)
        assert kept > 0, f"{file}:{statement.lineno} reaches outside the package"
        base = folder[:kept] + base
    return [".".join([*base, alias.name]) for alias in statement.names]


def target_module(name: str) -> str | None:
    """`torch_pruning.axes.unify` -> `axes`; what is no module comes from `__init__`; None outside the package."""
    package, _, rest = name.partition(".")
    if package != PACKAGE:
        return None
    module = rest.split(".")[0]
    return module if module in MODULE_TO_LEVEL else "__init__"


def imports_upward(file: Path, source: str) -> list[str]:
    """One line for each import that goes to a higher layer than the file's own."""
    module = top_module(file)
    return [
        f"{file}:{statement.lineno} {module} imports {name}, which is in the higher layer of {target}"
        for statement in imports(ast.parse(source), for_types=False)
        for name in imported_names(file, statement)
        if (target := target_module(name)) and MODULE_TO_LEVEL[target] > MODULE_TO_LEVEL[module]
    ]


def imports_of_torch(file: Path, source: str) -> list[str]:
    """One line for each import of torch, also of types only."""
    return [
        f"{file}:{statement.lineno} imports {name}"
        for statement in imports(ast.parse(source), for_types=True)
        for name in imported_names(file, statement)
        if name.split(".")[0] == "torch"
    ]


def test_every_module_has_a_layer() -> None:
    unplaced = {top_module(file) for file in source_files()} - MODULE_TO_LEVEL.keys()
    assert not unplaced, f"give these modules a place in LAYERS: {sorted(unplaced)}"


def test_no_module_has_two_layers() -> None:
    assert len(MODULE_TO_LEVEL) == sum(map(len, LAYERS))


def test_imports_run_downward() -> None:
    placed = [file for file in source_files() if top_module(file) in MODULE_TO_LEVEL]
    assert [line for file in placed for line in imports_upward(file, (ROOT / file).read_text("utf-8"))] == []


def test_axes_know_no_torch() -> None:
    pure = [file for file in source_files() if top_module(file) in WITHOUT_TORCH]
    assert any(top_module(file) == "axes" for file in pure), "no files in axes: nothing was checked"
    assert [line for file in pure for line in imports_of_torch(file, (ROOT / file).read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("axes/unify.py", "import torch_pruning"),
        ("axes/unify.py", "import torch_pruning.rules.shape as s"),
        ("axes/unify.py", "import ast, torch_pruning.rules"),
        ("axes/unify.py", "from torch_pruning import rules"),
        ("axes/unify.py", "from torch_pruning import prune"),
        ("axes/unify.py", "from torch_pruning import *"),
        ("axes/unify.py", "from torch_pruning.rules.shape import view"),
        ("axes/unify.py", "from ..rules import view"),
        ("axes/unify.py", "from .. import rules"),
        ("axes/unify.py", "from .. import prune"),
        ("axes/__init__.py", "from ..graph import groups"),
        ("axes/deeper/unify.py", "from ...graph import groups"),
        ("errors.py", "from . import axes"),
        ("errors.py", "from .axes import Free"),
        ("errors.py", "def f():\n    from .axes import Free"),
        ("errors.py", "class A:\n    async def f(self):\n        with a:\n            import torch_pruning.cli"),
        ("errors.py", "if not TYPE_CHECKING:\n    from .axes import Free"),
        ("errors.py", "if TYPE_CHECKING:\n    Free = 0\nelse:\n    from .axes import Free"),
        ("errors.py", "if TYPE_CHECKING:\n    Free = 0\nelif True:\n    from .axes import Free"),
        ("recovery/distill.py", "from ..pruner.pruner import Pruner"),
        ("report.py", "from .utils import count_params"),
    ],
)
def test_import_of_a_higher_layer_is_found(file: str, source: str) -> None:
    assert len(imports_upward(Path(file), source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("axes/unify.py", "import torch_pruning_elsewhere.rules, rules, math"),
        ("axes/unify.py", "from torch_pruning.axes import expression"),
        ("axes/unify.py", "from .expression import Free"),
        ("axes/unify.py", "from . import rules"),  # axes.rules
        ("axes/unify.py", "from ..errors import SizeError"),
        ("axes/deeper/unify.py", "from ..expression import Free"),
        ("axes/unify.py", "if TYPE_CHECKING:\n    from ..rules import view"),
        ("axes/unify.py", "if typing.TYPE_CHECKING:\n    from ..rules import view"),
        ("report.py", "from .export import to_onnx"),
        ("utils.py", "from . import prune"),
        ("__init__.py", "from .cli import main\nfrom . import axes"),
    ],
)
def test_import_of_the_same_or_a_lower_layer_is_fine(file: str, source: str) -> None:
    assert imports_upward(Path(file), source) == []


@pytest.mark.parametrize(
    "source",
    ["import torch", "import torch.nn as nn", "from torch import nn", "def f():\n    from torch.fx import Graph",
     "if TYPE_CHECKING:\n    from torch import Tensor"],
)  # fmt: skip
def test_import_of_torch_is_found(source: str) -> None:
    assert len(imports_of_torch(Path("axes/unify.py"), source)) == 1


def test_a_name_like_torch_is_not_torch() -> None:
    assert imports_of_torch(Path("axes/unify.py"), "import torch_pruning.axes, torchlike\nfrom . import torch") == []


def modules_loaded_by(*statements: str) -> list[str]:
    """Which of the HEAVY ones a fresh interpreter has loaded after running the statements."""
    program = [*statements, "import sys", f"print(*[module for module in {HEAVY} if module in sys.modules])"]
    run = subprocess.run([sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_import_is_lean() -> None:
    assert modules_loaded_by("import torch_pruning") == []


def test_a_heavy_import_would_be_noticed() -> None:
    assert "torchvision" in modules_loaded_by("import torchvision")
