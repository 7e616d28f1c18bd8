"""What a zoo is made of: named cases, each of which builds a model with random weights and says how to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

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


# What makes a model, and what it is called with.
Recipe = tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]]]


def tiny_cases(recipes: Mapping[str, Recipe]) -> list[Case]:
    """One for each recipe; what stands before a comma in its name is the family."""

    def build(name: str) -> Built:
        make, inputs = recipes[name]
        return Built(make().eval(), (Example(inputs()),))

    return [Case(name, name.partition(",")[0], partial(build, name)) for name in recipes]


class Zoo(Protocol):
    """A module `<name>_zoo.py` beside this one."""

    PACKAGES: Sequence[str]  # distributions whose versions the tables name

    @staticmethod
    def cases() -> list[Case]:
        """Every model, in a fixed order. Building none of them."""
        ...
