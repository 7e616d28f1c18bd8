"""Texts that come with Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def docstrings(files: slice = slice(None), least: int = 200) -> Iterator[str]:
    """Docstrings of at least so many characters of the modules of the standard library, in the order of the files."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py"))[files]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                if len(text) > least:
                    yield text


def topics() -> Iterator[str]:
    """The texts behind `help("...")`: the language reference."""
    from pydoc_data.topics import topics as texts

    for name in sorted(texts):
        yield texts[name]
