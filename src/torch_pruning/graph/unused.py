"""What did not run is not known: parameters that no trace executed, and what they could read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from torch_pruning.axes.expression import Axis, Free, Reason, freeze, leaves
from torch_pruning.axes.unify import unify
from torch_pruning.graph.homes import Path, path_of
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.graph.regions import MOVING


def freeze_unused(
    programs: Iterable[Inferred],
    of_state: Mapping[str, tuple[Axis, ...]],
    homes: Mapping[Free, Path] | None = None,
    copies: Collection[str] = (),
) -> list[str]:
    """Freeze the axes of parameters that never ran, and with `homes` of everything near that has one of their sizes.

    "Near" is the smallest module around them of which something did run: an expert that was not chosen reads what
    its siblings read. What is at home inside a part of that module is out of its reach. `copies` are those that
    `follow_copies` took care of. Returns the names of the tensors that never ran.
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
    for name in unused if homes is not None else ():
        around = next((prefix for prefix in _prefixes(name) if prefix in running), "")
        near.setdefault(around, set()).update(axis.size for axis in of_state[name] if axis.size > 1)
    for name in names if near else ():
        for around in near.keys() & {*_prefixes(name), ""}:
            reason = Reason(f"a tensor beside it in {around.rstrip('.') or 'the model'} never ran in any trace")
            for axis in of_state[name]:
                if axis.size in near[around]:
                    _freeze_within_reach(axis, path_of(around.rstrip(".")), homes or {}, reason)
    return unused


def _freeze_within_reach(axis: Axis, around: Path, homes: Mapping[Free, Path], reason: Reason) -> None:
    """Freeze what code of the module `around` can get hold of: all but what is at home inside one of its parts."""
    for leaf in leaves(axis):
        home = homes.get(leaf, ())
        if len(home) <= len(around) or home[: len(around)] != around:
            freeze(leaf, reason)


def freeze_unread_parts(programs: Iterable[Inferred], of_state: Mapping[str, tuple[Axis, ...]]) -> None:
    """Freeze what is cut off a tensor and read by nothing: the positions that longer inputs would take from a table.

    Ops that only move entries do not read them.
    """
    read = {leaf for inferred in programs for leaf in _read(inferred, of_state)}
    for name, axes in of_state.items():
        for leaf in (leaf for axis in axes for leaf in leaves(axis)):
            if leaf.depth and leaf not in read:
                freeze(leaf, Reason(f"a part of {name} was not read in any trace"))


def _read(inferred: Inferred, of_state: Mapping[str, tuple[Axis, ...]]) -> set[Free]:
    """The axes of all values that an op works on, or that are left when the run is over."""
    program = inferred.program
    values = [*program.outputs, *program.carried, *program.rewritten.values(), *program.reachable]
    for call in (*inferred.calls, *inferred.dead):
        if call.op.split(".")[1] not in MOVING:
            values += call.inputs()
    seen = {id(axes): axes for axes in (axes_of(value, inferred, of_state) for value in values)}
    return {leaf for axes in seen.values() for axis in axes for leaf in leaves(axis)}


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
