"""A log of traced integers that tests can look into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch_pruning.axes.sizes import AttributeSource, Expression
from torch_pruning.axes.traced import TracedInt


def source(name: str) -> AttributeSource:
    return AttributeSource("", (("attribute", name),))


@dataclass
class Log:
    """Everything that traced integers reported, in order."""

    guards: list[tuple[str, Expression, Expression, bool]] = field(default_factory=list)
    value_uses: list[Expression] = field(default_factory=list)
    unevens: list[Expression] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def guard(self, symbol: str, left: Expression, right: Expression, outcome: bool) -> None:
        self.guards.append((symbol, left, right, outcome))

    def value_use(self, expression: Expression) -> int:
        self.value_uses.append(expression)
        return len(self.value_uses) - 1

    def uneven(self, expression: Expression) -> None:
        self.unevens.append(expression)

    def rounded(self, event: int) -> None:
        self.rounds.append(event)

    def traced(self, value: int, name: str = "n") -> TracedInt:
        return TracedInt(value, source(name), self)

    @contextmanager
    def nothing_new(self) -> Iterator[None]:
        """What happens inside is no use of a size that anybody has to know of."""
        before = (list(self.guards), list(self.value_uses), list(self.unevens))
        yield
        assert (self.guards, self.value_uses, self.unevens) == before
