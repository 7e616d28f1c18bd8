"""A step of training: loss, backward, optimizer step."""

from __future__ import annotations

import torch
from torch import nn

from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example, copied, doubled


def trains(model: nn.Module, example: Example) -> str:
    """ "yes", "yes, in evaluation mode", or "NO: " and the error.

    Training mode is tried with the batch doubled too, since batch norm refuses a batch of one. Models that need targets
    in training mode are trained in evaluation mode.
    """
    error: Exception | None = None
    attempts = ((True, example), (True, doubled(example)), (False, example))
    for training, tried in attempts:
        try:
            _step(model.train(training), tried)
        except Exception as failure:
            error = error or failure
            continue
        finally:
            model.eval()
        return "yes" if training else "yes, in evaluation mode"
    return f"NO: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _step(model: nn.Module, example: Example) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        out = example.call(model, copied(example.inputs, lambda _, tensor: tensor.detach().clone()))
        outputs = [tensor for tensor, _ in tensors_in(out) if tensor.requires_grad and tensor.numel()]
        terms = [(torch.view_as_real(t) if t.is_complex() else t).float().pow(2).mean() for t in outputs]
        if not terms:
            raise ValueError("no output requires a gradient")
        torch.stack(terms).sum().backward()
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.shape != parameter.shape:
            raise ValueError(f"a gradient of shape {list(parameter.grad.shape)} for {list(parameter.shape)}")
    optimizer.step()
    optimizer.zero_grad()
