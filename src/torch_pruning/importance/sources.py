"""Which tensor of the model a tensor at hand is: the tensor itself, a view of it, or what is computed from it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from torch_pruning.importance.statistics import Place


@dataclass(frozen=True, slots=True)
class Origin:
    """The tensor of the model that something is, or has the shape of; for each dimension where it lies there."""

    name: str
    places: tuple[Place | None, ...]


class Sources:
    """The tensors of a model, found again in what its code passes to functions of torch.

    A layer may use a weight as it stands, transposed or in slices (views), or as a parametrization computes it
    (`weight_orig * mask`, weight norm): then what has the shape of the weight stands for it.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._by_storage: dict[int, list[tuple[str, Tensor]]] = {}
        # Parameters first: of a weight and its mask, which have one shape, the weight is meant.
        for name, tensor in sorted(tensors.items(), key=lambda entry: not isinstance(entry[1], nn.Parameter)):
            if tensor.layout == torch.strided and tensor.device.type != "meta":
                self._by_storage.setdefault(tensor.untyped_storage()._cdata, []).append((name, tensor))
        self._computed: Any = WeakIdKeyDictionary()  # tensor -> its origin, or None

    def find(self, tensor: Tensor) -> Origin | None:
        """The origin of a tensor; None for what does not come from the model's tensors alone."""
        if tensor in self._computed:
            origin: Origin | None = self._computed[tensor]
            return origin
        for name, whole in self._candidates(tensor):
            if tensor is whole:
                return Origin(name, tuple(Place(name, dim) for dim in range(tensor.dim())))
            places = _places(name, whole, tensor)
            if places is not None:
                return Origin(name, places)
        return None

    def follow(self, arguments: Iterable[Tensor], result: Any) -> None:
        """Remember the result of a function of the model's tensors alone."""
        arguments = list(arguments)
        if not isinstance(result, Tensor) or not all(self.knows(argument) for argument in arguments):
            return
        if any(result is argument for argument in arguments) or self._candidates(result):
            return
        origins = [self.find(argument) for argument in arguments if argument.shape == result.shape]
        self._computed[result] = next((origin for origin in origins if origin is not None), None)

    def knows(self, tensor: Tensor) -> bool:
        """Whether it comes from the model's tensors alone."""
        return tensor in self._computed or bool(self._candidates(tensor))

    def _candidates(self, tensor: Tensor) -> list[tuple[str, Tensor]]:
        if tensor.layout != torch.strided or tensor.device.type == "meta":
            return []
        return self._by_storage.get(tensor.untyped_storage()._cdata, [])


def _places(name: str, whole: Tensor, view: Tensor) -> tuple[Place | None, ...] | None:
    """Where each dimension of a view lies on the whole: that of the same stride. None for another part of the storage.

    [3 * E, E] sliced to its rows [E : 2 * E] -> (dim 0 from E on, dim 1). A dimension that is several is None.
    """
    start = int(view.storage_offset()) - int(whole.storage_offset())
    starts: dict[int, int] = {}
    strides = whole.stride()
    for dim in sorted(range(whole.dim()), key=lambda dim: -strides[dim]):
        stride = strides[dim]
        starts[dim] = start // stride if stride else 0
        start -= starts[dim] * stride
    if start != 0 or any(not 0 <= at < whole.shape[dim] for dim, at in starts.items()):
        return None
    places: list[Place | None] = []
    for size, stride in zip(view.shape, view.stride(), strict=True):
        fitting = [
            dim
            for dim in range(whole.dim())
            if strides[dim] == stride and whole.shape[dim] > 1 and starts[dim] + size <= whole.shape[dim]
        ]
        places.append(Place(name, fitting[0], starts[fitting[0]]) if fitting and size > 1 else None)
    return tuple(places)
