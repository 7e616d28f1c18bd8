"""What a figure depends on besides the code: date, versions, processor."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def machine(*packages: str) -> dict[str, str]:
    """Labels and values for the head of a table of results, with the versions of these packages."""
    found = {
        "date": datetime.date.today().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} cores, one thread used",
        "load": f"{os.getloadavg()[1]:.1f} (mean of five minutes, this included)",
        "Python": platform.python_version(),
        "commit": _commit(),
    }
    return {**found, **{name: importlib.metadata.version(name) for name in packages}}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the working tree, marked if the tree differs from it."""
    here = Path(__file__).parent
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def heading(title: str, values: dict[str, str]) -> str:
    """A Markdown heading with the values below it."""
    return "\n".join([f"# {title}", "", *(f"* {name}: {value}" for name, value in values.items()), ""])


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *rows])
