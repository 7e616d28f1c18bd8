"""What did not run is not known: parameters that no trace executed, and what they could read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch_pruning.axes.expression import Axis, Reason, freeze
from torch_pruning.graph.infer import Inferred


def freeze_unused(
    programs: Iterable[Inferred], of_state: Mapping[str, tuple[Axis, ...]], siblings: bool = True
) -> list[str]:
    """Freeze the axes of parameters that never ran, and with `siblings` of everything near that has one of their sizes.

    "Near" is the smallest module around them of which something did run: an expert that was not chosen reads what
    its siblings read. Returns the names of the tensors that never ran.
    """
    used: set[str] = set()
    for inferred in programs:
        by_storage = {value.storage: name for name, value in inferred.program.state.items()}
        used.update(inferred.program.rewritten)
        for call in inferred.calls:
            used.update(value.name or by_storage.get(value.storage, "") for value in call.inputs())
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


def _around(name: str, used: set[str]) -> str:
    """The prefix of the smallest enclosing module in which something ran."""
    parts = name.split(".")[:-1]
    while parts:
        prefix = ".".join(parts) + "."
        if any(other.startswith(prefix) for other in used):
            return prefix
        parts.pop()
    return ""
