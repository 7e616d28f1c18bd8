"""Saving pruned models as plain data: tensors, and the numbers on modules that pruning changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.errors import StalePlanError
from torch_pruning.planning.attention import FreeMultiheadAttention
from torch_pruning.planning.attributes import AttributeWriter
from torch_pruning.planning.biases import create_bias, may_take_bias
from torch_pruning.planning.tensors import assign
from torch_pruning.trace.substitute import named_tensors, substituted

_FORMAT = 1


def state_dict(model: nn.Module) -> dict[str, Any]:
    """Everything of a pruned model that its code does not say, as plain data: load it into a fresh, unpruned model with
    `load_state_dict`. `torch.save` it, and `torch.load(..., weights_only=True)` reads it back.

    >>> import torch_pruning as tp
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> report = tp.prune(net, torch.randn(1, 4), pruning_ratio=0.5)
    >>> fresh = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> load_state_dict(fresh, state_dict(net))[0]
    Linear(in_features=4, out_features=4, bias=True)
    """
    return {
        "format": _FORMAT,
        "tensors": {name: tensor.detach() for name, tensor in named_tensors(model)},
        "numbers": [[source.module, _listed(source.steps), value] for source, value in _numbers(model).items()],
        "replaced": [path for path, module in model.named_modules() if isinstance(module, FreeMultiheadAttention)],
    }


def load_state_dict(model: nn.Module, state_dict: Mapping[str, Any]) -> nn.Module:
    """The model, with the tensors and numbers of a pruned one; its Parameter objects stay. All or nothing.

    Raises:
        ValueError: for something that `state_dict` of this module has not made.
        StalePlanError: if the model has other tensors.
    """
    if not isinstance(state_dict, Mapping) or state_dict.get("format") != _FORMAT:
        raise ValueError(
            f"expected what torch_pruning.state_dict(model) gives, of format {_FORMAT}; found "
            f"{type(state_dict).__name__}: a plain state dict of tensors is loaded by model.load_state_dict"
        )
    saved: Mapping[str, Tensor] = state_dict["tensors"]
    tensors = dict(named_tensors(model))
    biases = _biases_to_create(model, saved.keys() - tensors.keys())
    if tensors.keys() | biases.keys() != saved.keys():
        odd = sorted(tensors.keys() ^ saved.keys())
        raise StalePlanError(
            f"the model must have the tensors that were saved; found a difference in {odd[:4]}: build the model that "
            "was pruned, with the same arguments"
        )
    for name, tensor in saved.items():
        if name in tensors and tensor.dim() != tensors[name].dim():
            raise StalePlanError(
                f"{name} must have {tensor.dim()} dimensions, as saved; found {list(tensors[name].shape)}: build the "
                "model that was pruned, with the same arguments"
            )
    numbers = {AttributeSource(path, _tuples(steps)): value for path, steps, value in state_dict["numbers"]}
    _write_numbers(model, numbers, state_dict["replaced"])
    for name, path in biases.items():
        create_bias(model, path, saved[name])
    with torch.inference_mode(False), torch.no_grad():
        for name, old in tensors.items():
            new = saved[name].detach().to(device=old.device, dtype=old.dtype, copy=True)
            assign(old, new)
    return model


def _biases_to_create(model: nn.Module, missing: Iterable[str]) -> dict[str, str]:
    """{name: layer} of what is missing because recovery has created it: biases of layers that have none."""
    paths = {name: name.removesuffix("bias").removesuffix(".") for name in missing if name.split(".")[-1] == "bias"}
    modules = dict(model.named_modules())
    return {name: path for name, path in paths.items() if path in modules and may_take_bias(modules[path])}


def _write_numbers(model: nn.Module, numbers: Mapping[AttributeSource, Any], replaced: list[str]) -> None:
    """Classes first: a replaced layer has numbers of its own. Undone where one does not fit."""
    converted: list[Callable[[], None]] = []
    writer = AttributeWriter(model)
    try:
        for path in replaced:
            module = model.get_submodule(path)
            if type(module) is nn.MultiheadAttention:
                converted.append(FreeMultiheadAttention.convert(module))
        present = _numbers(model)
        for source, value in numbers.items():
            if source in present and present[source] != value:
                writer.write(source, value)
    except BaseException:
        writer.undo()
        for undo in converted:
            undo()
        raise


def _numbers(model: nn.Module) -> dict[AttributeSource, int | float]:
    """Every integer on a module, in its containers and config objects, and every float on the module itself."""
    found: dict[AttributeSource, Any] = {}
    with substituted(model, lambda name, tensor: tensor, _Silent(), found):
        pass
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if type(value) is float:
                found[AttributeSource(path, (("attribute", name),))] = value
    return found


class _Silent:
    """A log of sizes that nobody reads."""

    def guard(self, symbol: str, left: Any, right: Any, outcome: bool) -> None: ...

    def value_use(self, expression: Any) -> int:
        return -1

    def uneven(self, expression: Any) -> None: ...

    def rounded(self, event: int) -> None: ...


def _listed(steps: Any) -> Any:
    return [_listed(step) for step in steps] if isinstance(steps, tuple) else steps


def _tuples(steps: Any) -> Any:
    return tuple(_tuples(step) for step in steps) if isinstance(steps, (list, tuple)) else steps


def save(obj: Any, f: Any) -> None:
    """Write to a file what `load` reads: of a model its `state_dict`, anything else as it is."""
    torch.save(state_dict(obj) if isinstance(obj, nn.Module) else obj, f)


def load(f: Any, map_location: Any = None, *, model: nn.Module | None = None, weights_only: bool = True) -> Any:
    """What `save` wrote; with `model`, a fresh one, that model after loading. Nothing in the file is executed.

    A file with a whole model object (`torch.save(model, f)`) runs code when it is read: `weights_only=False` is your
    word that you trust it.
    """
    found = torch.load(f, map_location=map_location, weights_only=weights_only)
    return found if model is None else load_state_dict(model, found)
