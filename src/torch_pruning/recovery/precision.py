"""The widest floating-point numbers that a device has, in which sums over many rows are kept."""

from __future__ import annotations

import torch

# Devices without float64, by type.
_WITHOUT_DOUBLES = {"mps": torch.float32}


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it.

    >>> widest(torch.device("cpu")), widest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return _WITHOUT_DOUBLES.get(device.type, torch.float64)
