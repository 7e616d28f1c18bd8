"""Batch-norm statistics of a pruned model, taken anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torch_pruning.progress import track
from torch_pruning.recovery.calibration import as_batches
from torch_pruning.trace.tracer import Example, _fast_path_off, _mode, _random_state, copied


def reestimate_batch_norm(
    model: nn.Module, batches: Iterable[Any], *, example: Example | None = None, layers: Iterable[str] | None = None
) -> list[str]:
    """The names of the layers whose running mean and variance now are those of these batches, all weighing alike.

    Statistics are reset, then averaged over the batches (cumulatively: momentum 1 / n), layer by layer in one pass,
    each layer seeing inputs that earlier ones have normalised by the batch. Everything else runs in evaluation mode;
    modes, momenta and the random state come back. Give batches as large as in training. `layers` restricts it to some.

    Batches are given as in `tp.prune(calibration=...)`: without `example`, `(images, labels)` counts as its images.

    Raises:
        CalibrationError: for no batches. The statistics are as before after this or any other error.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))
    >>> reestimate_batch_norm(net, [torch.randn(64, 2), torch.randn(64, 2)])
    ['1']
    """
    example = example or Example(torch.empty(0))
    chosen = None if layers is None else set(layers)
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and (chosen is None or name in chosen)
    }
    inputs = as_batches(batches, example.inputs)
    if not found:
        return []
    with _restored_on_error(found.values()), _mode(model, False), _random_state(), _fast_path_off(), torch.no_grad():
        momenta = [(module, module.momentum) for module in found.values()]
        try:
            for module in found.values():
                module.reset_running_stats()
                module.momentum = None
                module.train()
            for batch in track(inputs, "Batch norm"):
                example.call(model, copied(batch, lambda name, tensor: tensor.detach().clone()))
        finally:
            for module, momentum in momenta:
                module.momentum = momentum
    return list(found)


@contextmanager
def _restored_on_error(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    buffers: list[Tensor] = [buffer for layer in layers for buffer in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)
        raise
