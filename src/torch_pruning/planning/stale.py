"""An optimizer that was not told of a pruning: found out at its next step, before anything is updated."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from torch_pruning.errors import OptimizerError


def watch_optimizers(parameters: dict[str, nn.Parameter]) -> None:
    """Until each of these parameters was stepped once, compare it with the optimizer's state for it.

    The watch ends by itself: with the first step that finds everything in order, or with the parameters.
    """
    watched = WeakIdKeyDictionary()
    for name, parameter in parameters.items():
        watched[parameter] = name
    handle: RemovableHandle | None = None

    def compare(optimizer: Any, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = watched.get(parameter)
                if name is None:
                    continue
                for key, entry in optimizer.state.get(parameter, {}).items():
                    if (
                        isinstance(entry, Tensor)
                        and entry.dim() == parameter.dim() > 0
                        and entry.shape != parameter.shape
                    ):
                        raise OptimizerError(
                            f"optimizer state must follow its parameter; {key!r} of {name} has {list(entry.shape)}, the pruned "
                            f"parameter {list(parameter.shape)}: pass the optimizer when pruning, plan.exec(optimizer=...), "
                            "or build a new one"
                        )
                del watched[parameter]
        if not watched and handle is not None:
            handle.remove()

    handle = register_optimizer_step_pre_hook(compare)
    for parameter in parameters.values():
        weakref.finalize(parameter, _drop_when_empty, watched, handle)


def _drop_when_empty(watched: Any, handle: RemovableHandle) -> None:
    if not watched:
        handle.remove()
