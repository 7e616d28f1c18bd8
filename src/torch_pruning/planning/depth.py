"""Blocks to remove, as plain data: elements of lists, numbers that count them, sums that lose a branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch_pruning.axes.sizes import AttributeSource
from torch_pruning.errors import StalePlanError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class SilencedSum:
    """A sum that adds a branch of a removed block: the `ordinal`-th addition at a line of the code of a module.

    `operand` says which of the two is the branch. With it multiplied by zero the original is what the shortened model
    computes.
    """

    module: str
    file: str
    line: int
    ordinal: int
    operand: int


@dataclass(frozen=True, slots=True)
class ListChange:
    """A module list: its keys now, and those of the elements that stay. Keys that are numbers are counted anew."""

    path: str
    keys: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def new_keys(self) -> tuple[str, ...]:
        counted = self.keys == tuple(map(str, range(len(self.keys))))
        return tuple(map(str, range(len(self.kept)))) if counted else self.kept


@dataclass(frozen=True, slots=True)
class ItemsChange:
    """A number, or a list with one entry for each element, that follows. `source` leads to it from a module."""

    source: AttributeSource
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class DepthChange:
    """The blocks that go. `shapes` are those of their tensors, the fingerprint; `score` is by path of a block."""

    lists: tuple[ListChange, ...]
    changes: tuple[ItemsChange, ...] = ()
    sums: tuple[SilencedSum, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None

    @property
    def removed(self) -> tuple[str, ...]:
        """The paths of the blocks that go."""
        return tuple(_join(a.path, key) for a in self.lists for key in a.keys if key not in a.kept)

    def original_name(self, name: str) -> str:
        """The name that a tensor of the shortened model had before: `layers.2.weight` -> `layers.3.weight`."""
        old_key = {(a.path, new): old for a in self.lists for new, old in zip(a.new_keys, a.kept, strict=True)}
        path = ""
        for part in name.split("."):
            path = _join(path, old_key.get((path, part), part))
        return path

    def gone(self, name: str) -> bool:
        """Whether a tensor of this name, before, is one of a removed block."""
        return any(name.startswith(f"{path}.") for path in self.removed)

    def fits(self, model: nn.Module) -> None:
        """Raises StalePlanError unless the lists have these elements, and the blocks tensors of these shapes."""
        modules = dict(model.named_modules())
        for change in self.lists:
            found = tuple(modules[change.path]._modules) if change.path in modules else None
            if found != change.keys:
                raise StalePlanError(
                    f"the plan was made for {change.path or 'a model'} with the elements {list(change.keys)}; found "
                    f"{'no such list' if found is None else list(found)}: plan again for the model as it is now"
                )
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
        for name, shape in (self.shapes or {}).items():
            if shapes.get(name) != shape:
                raise StalePlanError(
                    f"the plan was made for {name} of shape {list(shape)}; found "
                    f"{list(shapes[name]) if name in shapes else 'no such parameter'}: plan again for the model as it "
                    "is now"
                )

    def to_data(self) -> dict[str, Any]:
        """As lists and dicts, for JSON."""
        return {
            "lists": [[change.path, change.keys, change.kept] for change in self.lists],
            "changes": [[c.source.module, c.source.steps, c.old, c.new] for c in self.changes],
            "sums": [[s.module, s.file, s.line, s.ordinal, s.operand] for s in self.sums],
            "shapes": dict(self.shapes or {}),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> DepthChange:
        """What `to_data` gave."""
        return cls(
            tuple(ListChange(path, tuple(keys), tuple(kept)) for path, keys, kept in data["lists"]),
            tuple(
                ItemsChange(AttributeSource(module, tuple(map(tuple, steps))), old, new)
                for module, steps, old, new in data["changes"]
            ),
            tuple(SilencedSum(*entries) for entries in data["sums"]),
            {name: tuple(shape) for name, shape in data["shapes"].items()},
        )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
