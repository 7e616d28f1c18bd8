"""Writing integers back: attributes that sizes define, and those of torch's own layers that people read."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from torch_pruning.axes.sizes import AttributeSource

_Size = Callable[[Any], int]

# Attributes of torch's layers that `forward` never reads, by what they should say.
_STOCK: list[tuple[tuple[type, ...], dict[str, _Size]]] = [
    (
        (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        {"out_channels": lambda m: m.weight.shape[0], "in_channels": lambda m: m.weight.shape[1] * m.groups},
    ),
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        {"in_channels": lambda m: m.weight.shape[0], "out_channels": lambda m: m.weight.shape[1] * m.groups},
    ),
    ((nn.Linear,), {"out_features": lambda m: m.weight.shape[0], "in_features": lambda m: m.weight.shape[1]}),
    (
        (nn.Bilinear,),
        {
            "out_features": lambda m: m.weight.shape[0],
            "in1_features": lambda m: m.weight.shape[1],
            "in2_features": lambda m: m.weight.shape[2],
        },
    ),
    ((nn.modules.batchnorm._NormBase,), {"num_features": lambda m: _first(m.weight, m.running_mean, m.num_features)}),
    ((nn.GroupNorm,), {"num_channels": lambda m: _first(m.weight, None, m.num_channels)}),
    ((nn.Embedding, nn.EmbeddingBag), {"embedding_dim": lambda m: m.weight.shape[1]}),
    ((nn.PReLU,), {"num_parameters": lambda m: m.weight.shape[0]}),
    (
        (nn.modules.rnn.RNNBase,),
        {
            "input_size": lambda m: m.weight_ih_l0.shape[1],
            "hidden_size": lambda m: m.weight_hh_l0.shape[0] // _gates(m),
            "proj_size": lambda m: m.weight_hr_l0.shape[0] if m.proj_size else 0,
        },
    ),
    (
        (nn.modules.rnn.RNNCellBase,),
        {"input_size": lambda m: m.weight_ih.shape[1], "hidden_size": lambda m: m.weight_hh.shape[1]},
    ),
    (
        (nn.MultiheadAttention,),
        {
            "embed_dim": lambda m: m.out_proj.weight.shape[0],
            "head_dim": lambda m: m.out_proj.weight.shape[1] // m.num_heads,
            "kdim": lambda m: (m.in_proj_weight if m.k_proj_weight is None else m.k_proj_weight).shape[1],
            "vdim": lambda m: (m.in_proj_weight if m.v_proj_weight is None else m.v_proj_weight).shape[1],
        },
    ),
]


def _first(weight: Any, buffer: Any, default: int) -> int:
    tensor = weight if weight is not None else buffer
    return default if tensor is None else int(tensor.shape[0])


def _gates(module: nn.RNNBase) -> int:
    return {"LSTM": 4, "GRU": 3}.get(module.mode, 1)


def stock_attributes(model: nn.Module) -> list[tuple[nn.Module, str, int]]:
    """(module, attribute, value) of every such attribute that no longer says what the tensors are."""
    found = []
    with _at_rest(model):
        for module in model.modules():
            for classes, attributes in _STOCK:
                if isinstance(module, classes):
                    for name, size in attributes.items():
                        new = size(module)
                        if getattr(module, name, new) != new:
                            found.append((module, name, new))
    return found


@contextlib.contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Reading a parametrized weight computes it, and in training mode may update buffers (spectral norm does)."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class AttributeWriter:
    """Writes attributes and can take everything back. Containers and config objects are copied, never changed in place:
    another model may hold them too. All holders in this model are re-pointed to the copies, also of what lies inside
    another container: the part of a config that an inner module holds is one object with that part of the whole."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.undone: list[tuple[dict[str, Any], str, bool, Any]] = []
        self.own: dict[int, Any] = {}  # copies made here, by identity: these may be changed

    def write(self, source: AttributeSource, value: Any) -> None:
        """Set what is at the end of the source's path: a number, or a list of plain data. A tuple stays one."""
        module = self.model.get_submodule(source.module)
        (_, name), *rest = source.steps
        if rest:
            self._changed(module.__dict__[name], rest, value)
        else:
            self.set(module, name, _of_type(vars(module).get(name), value))

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        """Set an attribute on the instance (one of the class is shadowed)."""
        entries = module.__dict__
        self.undone.append((entries, name, name in entries, entries.get(name)))
        entries[name] = value

    def undo(self) -> None:
        for entries, name, existed, old in reversed(self.undone):
            if existed:
                entries[name] = old
            else:
                entries.pop(name, None)
        self.undone.clear()

    def _changed(self, item: Any, steps: Any, value: Any) -> Any:
        """A copy of a container or object with the integer at the end of the path replaced, in the place of the old."""
        if not steps:
            return _of_type(item, value)
        (kind, key), *rest = steps
        new_child = self._changed(item[key] if kind == "item" else vars(item)[key], rest, value)
        if isinstance(item, tuple):
            parts = [new_child if index == key else part for index, part in enumerate(item)]
            new: Any = type(item)(*parts) if hasattr(item, "_fields") else type(item)(parts)
        else:
            new = item if id(item) in self.own else copy.copy(item)
            entries = new if kind == "item" else vars(new)
            entries[key] = new_child
        if new is not item:
            self._repoint(item, new)
        return new

    def _repoint(self, old: Any, new: Any) -> None:
        """Every module attribute that is the old object becomes the new one."""
        self.own[id(new)] = new
        for module in self.model.modules():
            for name, item in list(module.__dict__.items()):
                if item is old:
                    self.set(module, name, new)


def _of_type(old: Any, new: Any) -> Any:
    return tuple(new) if isinstance(old, tuple) and isinstance(new, list) else new
