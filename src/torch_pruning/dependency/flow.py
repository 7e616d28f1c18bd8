"""The dataflow of a recorded program: from one call to all that carry the same positions, depth first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch_pruning.axes.expression import Free, leaves
from torch_pruning.graph.infer import Inferred, infer_alone
from torch_pruning.trace.program import Call, Value

Port = tuple[int, int]
"""One dimension of one value: (index of the value, dimension)."""

Affected = Callable[[Port], bool]
"""Whether positions go from a dimension of a value."""


@dataclass(eq=False, slots=True)
class Visit:
    """A call that carries the positions, the dimensions on which it does, and the visit it was reached from."""

    call: Call
    ports: tuple[Port, ...]
    reached_from: Visit | None


class Flow:
    """Who makes and who uses each value, and which dimensions each op ties together by itself.

    What one op ties is not what the model ties: in `x + conv(x)` the convolution's inputs and outputs are one axis,
    but through the addition, not through the convolution.
    """

    def __init__(self, inferred: Inferred) -> None:
        self.inferred = inferred
        self.order: dict[int, int] = {}
        self.maker: dict[int, Call] = {}
        self.users: dict[int, list[Call]] = {}
        self.values: dict[int, Value] = {}
        self._tied: dict[int, dict[Port, frozenset[Free]]] = {}
        for position, call in enumerate(inferred.calls):
            self.order[id(call)] = position
            for value in call.inputs():
                self.values[value.index] = value
                users = self.users.setdefault(value.index, [])
                if not users or users[-1] is not call:
                    users.append(call)
            for value in call.results():
                self.values[value.index] = value
                self.maker[value.index] = call

    def walk(self, starts: Iterable[tuple[Call, Port]], affected: Affected) -> Iterator[Visit]:
        """Every call that carries the positions of the starts, each when it is first reached.

        From a call first the makers of its operands, in the order of its arguments, then the users of its results (and
        of the model's tensors that it reads) in the order of the program.
        """
        seen: dict[int, set[Free | Port]] = {}
        stack: list[Iterator[tuple[Call, Port, Visit | None]]] = [((*start, None) for start in starts)]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                continue
            visit = self._visit(*step, seen.setdefault(id(step[0]), set()), affected)
            if visit is not None:
                yield visit
                stack.append(self._onward(visit))

    def _visit(
        self, call: Call, port: Port, reached_from: Visit | None, seen: set[Free | Port], affected: Affected
    ) -> Visit | None:
        """The dimensions that the op ties to `port`; None if they were visited before."""
        tied = self._ties(call)
        fresh = tied[port] - seen
        if port in seen or (tied[port] and not fresh):
            return None
        ports = tuple(other for other, own in tied.items() if (other == port or own & fresh) and affected(other))
        seen |= {port, *fresh}
        return Visit(call, ports, reached_from)

    def _onward(self, visit: Visit) -> Iterator[tuple[Call, Port, Visit]]:
        operands = {value.index for value in visit.call.inputs()}
        onward: list[tuple[Call, Port]] = []
        for port in visit.ports:
            maker = self.maker.get(port[0])
            if port[0] in operands and maker is not None:
                yield maker, port, visit
            if port[0] not in operands or maker is None:
                onward += [(user, port) for user in self.users.get(port[0], ())]
        for call, port in sorted(onward, key=lambda step: self.order[id(step[0])]):
            yield call, port, visit

    def _ties(self, call: Call) -> dict[Port, frozenset[Free]]:
        """For each dimension of the operands and results, the variables it consists of where the op runs alone."""
        found = self._tied.get(id(call))
        if found is None:
            alone = infer_alone(self.inferred.program, call)
            found = {
                (index, dim): frozenset(leaves(axis))
                for index, axes in alone.axes.items()
                for dim, axis in enumerate(axes)
            }
            self._tied[id(call)] = found
        return found
