"""One row of the table of cases: an op as users call it, on small tensors of which every dimension may be pruned."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Maker = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """`call` is given a namespace with the tensors and sizes of the case.

    `conservative` lists, each with its reason, what the rule forbids though it would be possible: the check finds these
    by brute force, and what it finds must be exactly what is listed. `counted` is the op with a number of units of its
    own: `counted(pruned, full)` must give what the masked op gives, for axes of which only the number of units matters.
    """

    name: str
    call: Callable[[Any], Any]
    makers: Mapping[str, Maker]
    sizes: Mapping[str, int]
    conservative: Mapping[str, str] = field(default_factory=dict)
    counted: Callable[[Any, Any], Any] | None = None
    real: Callable[[Any], Any] | None = None  # computes the same where this machine cannot run the op itself
    twin: Callable[[Any], Any] | None = None  # the same in steps that check all sizes, for an op that does not
    random: bool = False  # the values are drawn anew or left over from before: only sizes and zeros are compared
    train: bool = False
    unchecked: bool = (
        False  # the op takes tensors of wrong sizes (resizes them, or reads beyond their end): nothing is tried
    )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the case, the same every time."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        return {name: make(generator) for name, make in self.makers.items()}

    def __repr__(self) -> str:
        return self.name


def case(name: str, call: Callable[[Any], Any], **given: Any) -> Case:
    """A case from keyword arguments: a shape (normally distributed float64), a maker, a tensor, or an integer size.

    >>> case("linear", lambda m: m.x @ m.w.T, x=(2, 3), w=(4, 3))
    linear
    """
    options = {
        key: given.pop(key)
        for key in ("conservative", "counted", "real", "twin", "random", "train", "unchecked")
        if key in given
    }
    makers: dict[str, Maker] = {}
    sizes: dict[str, int] = {}
    for key, item in given.items():
        if isinstance(item, int):
            sizes[key] = item
        elif isinstance(item, tuple):
            makers[key] = normal(*item)
        elif isinstance(item, Tensor):
            makers[key] = lambda _, item=item: item.clone()
        else:
            makers[key] = item
    return Case(name, call, makers, sizes, **options)


def known(because: str, *findings: str) -> dict[str, str]:
    """What the rule is known to forbid needlessly, and why."""
    return dict.fromkeys(findings, because)


def normal(*shape: int) -> Maker:
    return lambda generator: torch.randn(shape, generator=generator, dtype=torch.float64)


def positive(*shape: int) -> Maker:
    """Between 0.5 and 1.5."""
    return lambda generator: torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5


def negative(*shape: int) -> Maker:
    """Between -1.5 and -0.5."""
    return lambda generator: -positive(*shape)(generator)


def unit(*shape: int) -> Maker:
    """Between 0 and 1, without the ends."""
    return lambda generator: torch.rand(shape, generator=generator, dtype=torch.float64) * 0.8 + 0.1


def complex_(*shape: int) -> Maker:
    return lambda generator: torch.randn(shape, generator=generator, dtype=torch.complex128)


def mask(*shape: int) -> Maker:
    """Booleans with True and False in every row and column of three or more entries."""

    def make(generator: torch.Generator) -> Tensor:
        positions = torch.stack(torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")).sum(0)
        return positions % 2 == 0

    return make


def index(high: int, *shape: int) -> Maker:
    """Integers below `high`, every one of which occurs (in a scrambled order) if there is room."""

    def make(generator: torch.Generator) -> Tensor:
        count = int(torch.tensor(shape).prod()) if shape else 1
        return (torch.arange(count) * 7 + 1).remainder(high).reshape(shape)

    return make


def integers(*shape: int) -> Maker:
    """Integers from 1 to 9."""
    return lambda generator: torch.randint(1, 10, shape, generator=generator)


def namespace(case_: Case, tensors: Mapping[str, Tensor]) -> SimpleNamespace:
    """What `counted` is given as `full`."""
    return SimpleNamespace(**tensors, **case_.sizes)
