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
    names = sorted(used & of_state.keys())
    running = {prefix for name in names for prefix in _prefixes(name)}
    near: dict[str, set[int]] = {}  # prefix of a module -> sizes that are not known in it
    for name in unused if siblings else ():
        around = next((prefix for prefix in _prefixes(name) if prefix in running), "")
        near.setdefault(around, set()).update(axis.size for axis in of_state[name] if axis.size > 1)
    for name in names if near else ():
        for around in near.keys() & {*_prefixes(name), ""}:
            reason = Reason(f"a tensor beside it in {around.rstrip('.') or 'the model'} never ran in any trace")
            for axis in of_state[name]:
                if axis.size in near[around]:
                    freeze(axis, reason)
    return unused


def follow_copies(
    programs: Iterable[Inferred], tensors: Mapping[str, torch.Tensor], of_state: Mapping[str, tuple[Axis, ...]]
) -> set[str]:
    """Give buffers that never ran, but are copies of the one beside them, the axes of that one; returns their names.

    A module that keeps an original to go back to (rotary frequencies, before they are stretched for long inputs) would
    read it in the place of the other. On the meta device, where there are no values to compare, equal shapes will do.
    """
    used = _used(programs)
    buffers: dict[str, list[str]] = {}  # those of each module that ran
    for name, tensor in tensors.items():
        if name in used and not isinstance(tensor, nn.Parameter):
            buffers.setdefault(name.rpartition(".")[0], []).append(name)
    found: set[str] = set()
    for name, tensor in tensors.items():
        if name in used or isinstance(tensor, nn.Parameter) or not tensor.dim():
            continue
        originals = [other for other in buffers.get(name.rpartition(".")[0], []) if _is_copy(tensor, tensors[other])]
        if len(originals) == 1:
            reason = Reason(f"{name} is a copy of {originals[0]}")
            for a, b in zip(of_state[name], of_state[originals[0]], strict=True):
                unify(a, b, reason)
            found.add(name)
    return found


def _is_copy(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    if (tensor.shape, tensor.dtype) != (other.shape, other.dtype):
        return False
    return tensor.is_meta or other.is_meta or torch.equal(tensor.to(other.device), other)


def _used(programs: Iterable[Inferred]) -> set[str]:
    """The names of the tensors that something read, or that were assigned anew."""
    used: set[str] = set()
    for inferred in programs:
        by_storage = {value.storage: name for name, value in inferred.program.state.items()}
        used.update(inferred.program.rewritten)
        for call in (*inferred.calls, *inferred.dead):
            used.update(value.name or by_storage.get(value.storage, "") for value in call.inputs())
    return used


def _prefixes(name: str) -> list[str]:
    """Those of the modules around a tensor, the smallest first: "a.b.weight" -> ["a.b.", "a."]."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:length]) + "." for length in range(len(parts), 0, -1)]
