"""What did not run is not known: parameters that no trace executed, and what they could read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from torch_pruning.axes.expression import Axis, Reason, freeze
from torch_pruning.axes.unify import unify
from torch_pruning.graph.infer import Inferred


def freeze_unused(
    programs: Iterable[Inferred],
    of_state: Mapping[str, tuple[Axis, ...]],
    siblings: bool = True,
    copies: Collection[str] = (),
) -> list[str]:
    """Freeze the axes of parameters that never ran, and with `siblings` of everything near that has one of their sizes.

    "Near" is the smallest module around them of which something did run: an expert that was not chosen reads what
    its siblings read. `copies` are those that `follow_copies` took care of. Returns the names of the tensors that
    never ran.
    """
    used = _used(programs)
    used.update(copies)
    unused = [name for name, axes in of_state.items() if name not in used and axes]
    for name in unused:
        reason = Reason(f"{name} never ran in any trace")
        for axis in of_state[name]:
            freeze(axis, reason)
    prefixes: dict[str, set[int]] = {}
    for name in unused if siblings else ():
        around = _around(name, used)
        prefixes.setdefault(around, set()).update(axis.size for axis in of_state[name] if axis.size > 1)
    for around, sizes in prefixes.items():
        for other in used & of_state.keys():
            if other.startswith(around):
                for axis in of_state[other]:
                    if axis.size in sizes:
                        freeze(
                            axis,
                            Reason(f"a tensor beside it in {around.rstrip('.') or 'the model'} never ran in any trace"),
                        )
    return unused


def follow_copies(
    programs: Iterable[Inferred], tensors: Mapping[str, torch.Tensor], of_state: Mapping[str, tuple[Axis, ...]]
) -> set[str]:
    """Give buffers that never ran, but are copies of the one beside them, the axes of that one; returns their names.

    A module that keeps an original to go back to (rotary frequencies, before they are stretched for long inputs) would
    read it in the place of the other. On the meta device, where there are no values to compare, equal shapes will do.
    """
    used = _used(programs)
    found: set[str] = set()
    for name, tensor in tensors.items():
        if name in used or isinstance(tensor, nn.Parameter) or not tensor.dim():
            continue
        module = name.rpartition(".")[0]
        originals = [
            other
            for other in used & tensors.keys()
            if other.rpartition(".")[0] == module and _is_copy(tensor, tensors[other])
        ]
        if len(originals) == 1:
            reason = Reason(f"{name} is a copy of {originals[0]}")
            for a, b in zip(of_state[name], of_state[originals[0]], strict=True):
                unify(a, b, reason)
            found.add(name)
    return found


def _is_copy(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    if isinstance(other, nn.Parameter) or (tensor.shape, tensor.dtype) != (other.shape, other.dtype):
        return False
    return tensor.is_meta or other.is_meta or torch.equal(tensor.to(other.device), other)


def _used(programs: Iterable[Inferred]) -> set[str]:
    """The names of the tensors that something read, or that were assigned anew."""
    used: set[str] = set()
    for inferred in programs:
        by_storage = {value.storage: name for name, value in inferred.program.state.items()}
        used.update(inferred.program.rewritten)
        for call in inferred.calls:
            used.update(value.name or by_storage.get(value.storage, "") for value in call.inputs())
    return used


def _around(name: str, used: set[str]) -> str:
    """The prefix of the smallest enclosing module in which something ran."""
    parts = name.split(".")[:-1]
    while parts:
        prefix = ".".join(parts) + "."
        if any(other.startswith(prefix) for other in used):
            return prefix
        parts.pop()
    return ""
