"""What a zoo is made of: named cases, each of which builds a model with random weights and says how to call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from torch_pruning.trace.tracer import Example


@dataclass(frozen=True, slots=True)
class Built:
    """A model in evaluation mode and the calls to trace into one graph. The first is what runs and is compared.

    `note` says what was reduced (depth, resolution), where only building shows it.
    """

    model: nn.Module
    examples: tuple[Example, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One model of a zoo.

    `build` takes no downloads. `executed` cases are compared in float64, run, trained; the others are traced, planned
    and checked on fake tensors. `skip` is the reason why there is nothing to measure. `note` says what was reduced.
    """

    name: str
    family: str
    build: Callable[[], Built]
    executed: bool = True
    note: str = ""
    skip: str = ""


class Zoo(Protocol):
    """A module `<name>_zoo.py` beside this one."""

    PACKAGES: Sequence[str]  # distributions whose versions the tables name

    @staticmethod
    def cases() -> list[Case]:
        """Every model, in a fixed order. Building none of them."""
        ...
