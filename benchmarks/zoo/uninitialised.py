"""Models built without spending time on their initial weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _LeaveParameters(TorchFunctionMode):
    """Operations in place on parameters do nothing, so that their memory is never touched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        changes = name.endswith("_") and not name.endswith("__") and name not in ("requires_grad_", "detach_")
        if changes and args and isinstance(args[0], torch.nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def uninitialised() -> TorchFunctionMode:
    """A context in which models are built without initialising their weights: enough for a trace, and fast."""
    return _LeaveParameters()
