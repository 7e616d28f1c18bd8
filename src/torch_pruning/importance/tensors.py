"""The tensors of a model by name, with the layers that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from torch_pruning.trace.substitute import named_tensors


class ModelTensors(Mapping[str, Tensor]):
    """Parameters, buffers and plain tensor attributes of a model, by the names that groups use.

    >>> tensors = ModelTensors(nn.Sequential(nn.Linear(2, 3)))
    >>> list(tensors), tensors.layer("0.weight")
    (['0.weight', '0.bias'], Linear(in_features=2, out_features=3, bias=True))
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors = dict(named_tensors(model))
        self._layers = dict(model.named_modules())

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def layer(self, name: str) -> nn.Module:
        """The layer that a tensor belongs to; what a parametrization holds belongs to the layer it parametrizes."""
        path = f".{name}".partition(".parametrizations.")[0] + "." if ".parametrizations." in f".{name}" else f".{name}"
        while path:
            path = path.rpartition(".")[0]
            found = self._layers.get(path.removeprefix("."))
            if found is not None:
                return found
        raise KeyError(name)


def widened(tensor: Tensor) -> Tensor:
    """The numbers of a tensor in the precision that scores are computed in: at least float32, without history."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
