"""An optimizer that was not told of a pruning: found out at its next step, before anything is updated."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from torch_pruning.errors import OptimizerError

# Parameters that were pruned without an optimizer and not stepped since, with their names. Weak: it holds no model.
# torch runs hooks of this kind for all optimizers and cannot drop one while it runs, hence one hook for all of them.
_watched = WeakIdKeyDictionary()


def watch_optimizers(parameters: dict[str, nn.Parameter]) -> None:
    """Compare each of these parameters with the state of the optimizer that steps it next."""
    _install()
    for name, parameter in parameters.items():
        _watched[parameter] = name


@cache
def _install() -> RemovableHandle:
    return register_optimizer_step_pre_hook(_compare)


def _compare(optimizer: Any, args: Any, kwargs: Any) -> None:
    if not _watched:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = _watched.get(parameter)
            if name is None:
                continue
            for key, entry in optimizer.state.get(parameter, {}).items():
                if isinstance(entry, Tensor) and entry.dim() == parameter.dim() > 0 and entry.shape != parameter.shape:
                    raise OptimizerError(
                        f"optimizer state must follow its parameter; {key!r} of {name} has {list(entry.shape)}, the "
                        f"pruned parameter {list(parameter.shape)}: pass the optimizer when pruning, "
                        "plan.exec(optimizer=...), or build a new one"
                    )
            del _watched[parameter]
