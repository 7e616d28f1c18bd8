"""Peak memory of one model in a process that measures many."""

from __future__ import annotations

from pathlib import Path


def reset_peak() -> None:
    marker = Path("/proc/self/clear_refs")
    if marker.exists():
        marker.write_text("5")


def peak_gb() -> float:
    """Peak resident memory since the last reset; since the start of the process where the system cannot reset."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 2**20, 2)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
