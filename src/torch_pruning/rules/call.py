"""What a rule sees of one recorded op, and what it can say about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from torch_pruning.axes import expression as ax
from torch_pruning.axes.expression import Axis, Fixed, Free, Reason
from torch_pruning.axes.sizes import Expression
from torch_pruning.axes.traced import TracedFloat, TracedInt, expression_of
from torch_pruning.axes.unify import split_concat, split_product, unify
from torch_pruning.errors import RuleError
from torch_pruning.rules.facts import (
    Cost,
    CustomizedCall,
    Divisible,
    EvenStrides,
    Facts,
    Mixing,
    Outcome,
    Role,
    ScaleRepair,
    SizeEquation,
    Statistic,
)
from torch_pruning.rules.laws import NOWHERE, AnyOf, Law
from torch_pruning.rules.operand import Operand

PRODUCED, CONTRACTED, NORMALISED, CARRIED, LOOKED_UP = "produced", "contracted", "normalised", "carried", "looked up"

# Torch functions whose own Python or C++ derives sizes from the tensors it is given.
_ADAPTING = frozenset(
    [
        "interpolate",
        "upsample",
        "expand_as",
        "view_as",
        "reshape_as",
        "flatten",
        "ravel",
        "tensordot",
        "inner",
        "kron",
        "stft",
        "istft",
        "cdist",
        "multi_head_attention_forward",
        "adaptive_avg_pool2d",
        "cosine_similarity",
        "normalize",
        "unfold",
        "fold",
        "grad",
        "backward",
        "__setitem__",  # what is written is brought to the shape of where it goes
    ]
)
_SAME_ARGUMENT = {
    "size": ("shape", "sizes"),
    "shape": ("size",),
    "split_size": ("split_size_or_sections",),
    "split_sizes": ("split_size", "split_size_or_sections"),
    "sections": ("indices_or_sections", "split_size_or_sections"),
    "sizes": ("unflattened_size",),
    "repeats": ("sizes", "dims"),
    "fill_value": ("value",),
}


class Origin(Protocol):
    """The call of the torch function that led to the op."""

    @property
    def function(self) -> Any: ...

    @property
    def name(self) -> str: ...

    @property
    def args(self) -> tuple[Any, ...]: ...

    @property
    def kwargs(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class OpCall:
    """One op with its arguments by name; tensors are Operands.

    Axes of outputs are returned with `outcome`; everything else a rule knows it says through the other methods.
    """

    op: str
    schema: Sequence[Any]
    arguments: dict[str, Any]
    output_shapes: list[tuple[int, ...]]
    where: Any
    origin: Origin | None
    facts: Facts
    training: bool = False
    unread: frozenset[int] = frozenset()  # numbers of the outputs that nothing reads

    # ---- arguments

    def operands(self, *names: str) -> tuple[Any, ...]:
        """The tensor arguments of these names; None for one that was not given."""
        return tuple(self.arguments.get(name) for name in names)

    def tensors(self) -> list[Operand]:
        """All tensor arguments, lists flattened, in order; not those that only receive the result (`out=`)."""
        found: list[Operand] = []
        receiving = {argument.name for argument in self.schema if argument.is_out}
        for name, argument in self.arguments.items():
            if name in receiving:
                continue
            for item in argument if isinstance(argument, list) else (argument,):
                if isinstance(item, Operand):
                    found.append(item)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        value = self.arguments.get(name)
        return default if value is None else value

    def dim(self, operand: Operand, name: str = "dim", default: int = 0) -> int:
        """A dimension argument, counted from the front."""
        dim: int = self.get(name, default)
        return dim % operand.rank if operand.rank else 0

    # ---- statements

    def reason(self, text: str) -> Reason:
        return Reason(f"{self.op.removeprefix('aten.').partition('.')[0]}: {text}", self.where)

    def unify(self, a: Axis, b: Axis) -> None:
        a, b = ax.resolve(a), ax.resolve(b)
        if ax.alike(a, b):
            return
        fixed = isinstance(a, Fixed) or isinstance(b, Fixed)
        text = (
            "meets a dimension that is never pruned (of an input, or a constant)"
            if fixed
            else "axes of unlike structure meet"
        )
        unify(a, b, self.reason(text))

    def unify_all(self, axes: Iterable[Axis]) -> Axis:
        """Unify all of them; returns the one axis they are."""
        first, *rest = axes
        for other in rest:
            self.unify(first, other)
        return ax.resolve(first)

    def freeze(self, axis: Axis, text: str) -> None:
        ax.freeze(axis, self.reason(text))

    def freeze_all(self, operand: Operand, text: str) -> None:
        for axis in operand.axes:
            self.freeze(axis, text)

    def fresh(self, size: int) -> Axis:
        """A new inference variable."""
        return Fixed(1) if size == 1 else Free(size, temporary=True)

    def fixed(self, shape: Iterable[int]) -> tuple[Axis, ...]:
        return tuple(Fixed(size) for size in shape)

    def split(self, axis: Axis, outer: int, text: str) -> tuple[Axis, Axis]:
        """`axis` as (outer, inner) factors; where it cannot be split it is frozen."""
        halves = split_product(axis, outer, self.reason(text))
        if halves is None:
            self.freeze(axis, text)
            return Fixed(outer), Fixed(axis.size // outer)
        return halves

    def within(self, inner: Axis, outer: Axis) -> None:
        """`inner` repeats for every position of `outer`: it may keep different units for each, if nothing objects."""
        inner, outer = ax.resolve(inner), ax.resolve(outer)
        if isinstance(inner, Free) and not isinstance(outer, Fixed):
            inner.outers = (*inner.outers, outer)

    def cut(self, axis: Axis, position: int, text: str) -> tuple[Axis, Axis]:
        """`axis` as (left, right) parts; where it cannot be cut it is frozen."""
        parts = split_concat(axis, position, self.reason(text))
        if parts is None:
            self.freeze(axis, text)
            return Fixed(position), Fixed(axis.size - position)
        return parts

    def contract(
        self, x: Operand, x_dim: int, y: Operand, y_dim: int, text: str = "contraction", batched: int = 0
    ) -> None:
        """Sum the product of two operands over one dimension of each; the last but `batched` dimensions are paired."""
        self.unify(x.axes[x_dim], y.axes[y_dim])
        self.sums(x.axes[x_dim], AnyOf(x, y), text)
        self.mixes(x, x_dim)
        self.mixes(y, y_dim)
        for operand, dim in ((x, x_dim), (y, y_dim)):
            for axis in operand.axes[max(0, operand.rank - batched) :] if batched else operand.axes:
                self.crosses(axis, operand.axes[dim])

    def sums(self, axis: Axis, law: Law, text: str) -> None:
        """A sum over `axis` of something with this law: exact where it is zero."""
        self.facts.statistics.append(Statistic(axis, "sum", law, text, self.where))

    def statistic(self, axis: Axis, text: str) -> None:
        """A statistic over `axis` that removed units take part in even when zero."""
        self.facts.statistics.append(Statistic(axis, "all", NOWHERE, text, self.where))

    def draws(self, axes: Iterable[Axis]) -> None:
        """Random numbers of this shape: another shape gets others. In training that is noise, and of no account."""
        if not self.training:
            for axis in axes:
                self.statistic(axis, "random numbers are drawn anew")

    def counts(self, axis: Axis, law: Law, text: str, repair: ScaleRepair | None = None) -> None:
        """A sum divided by the number of units: exact up to a factor that depends on counts only."""
        self.facts.statistics.append(Statistic(axis, "count", law, text, self.where, repair))

    def number(self, name: str, operand: Operand | None, power: float | None, linear: bool = True) -> None:
        """A scalar argument works on the values of `operand`: if a size went into it, that size's axes are inexact.

        `power` is 1 for a factor, -1 for a divisor (both can be repaired), None for anything else. `linear`: whether
        the result is linear in the operand.
        """
        given = self._given(name)
        if isinstance(given, TracedFloat) and power is not None and operand is not None:
            repair = ScaleRepair(operand, -power * given.exponent, event=given.event, where=self.where, linear=linear)
            self.facts.number_repairs.append(repair)
        elif isinstance(given, TracedInt):
            factor = None
            if power is not None and operand is not None:
                factor = ScaleRepair(operand, -power, event=-1, where=self.where, linear=linear)
            self.facts.scalar_uses.append((given.expression, self.where, factor))

    def mixes(self, operand: Operand, *dims: int) -> None:
        """Positions along these dimensions are related to each other."""
        chosen = {dim % operand.rank for dim in dims}
        carried = tuple(
            axis for dim, axis in enumerate(operand.axes) if dim not in chosen and not isinstance(axis, Fixed)
        )
        for dim in chosen:
            if carried and not isinstance(operand.axes[dim], Fixed):
                self.facts.mixings.append(Mixing(operand.axes[dim], carried))

    def crosses(self, axis: Axis, summed: Axis) -> None:
        """Each position of `axis` meets several of the other operand's in a sum over `summed`: no lanes over it."""
        if axis is not summed and not isinstance(axis, Fixed) and not isinstance(summed, Fixed):
            self.facts.mixings.append(Mixing(axis, (summed,)))

    def role(self, operand: Operand | None, dim: int, role: str) -> None:
        if operand is not None and operand.name:
            self.facts.roles.append(Role(operand.name, dim % operand.rank, role))

    def macs(self, *axes: Axis, factor: float = 1) -> None:
        self.facts.costs.append(Cost(axes, factor, self.where.module if self.where is not None else "", self.op))

    def customized(self, call: CustomizedCall) -> None:
        """A call of a layer that its user prunes; several calls of one have the same axes."""
        first = self.facts.customized.setdefault(call.path, call)
        if first is not call:
            self.unify(first.entering, call.entering)
            self.unify(first.leaving, call.leaving)

    def equal_counts(self, a: Axis, b: Axis) -> None:
        """Two axes must keep equally many units (parts of a `chunk`)."""
        self.facts.equal_counts.append((a, b, self.where))

    def divisible(self, operand: Operand, dim: int, divisor: int) -> None:
        """The kernel takes this dimension only while its size is a multiple of `divisor`, as it is now."""
        if operand.axes[dim].size % divisor == 0:
            self.facts.divisible.append(Divisible(operand.value, dim % operand.rank, divisor, self.where))

    def even_strides(self, operand: Operand) -> None:
        """The kernel reads pairs of numbers where they lie."""
        self.facts.even_strides.append(EvenStrides(operand.value, self.where))

    def outcome(self, *axes: Iterable[Axis], zero: Law | Sequence[Law] = NOWHERE) -> Outcome:
        """The axes of the outputs, and where they are zero: one law for all of them, or one for each."""
        zeros: tuple[Law, ...] = tuple(zero) if isinstance(zero, Sequence) else (zero,) * len(axes)
        return Outcome(tuple(tuple(output) for output in axes), zeros)

    # ---- sizes

    def sized(self, name: str, axis: Axis, index: int | None = None) -> None:
        """An integer argument (or entry `index` of a list) determines the size of `axis`."""
        expression = self.size_source(name, index)
        if expression is not None:
            self.size_is(expression, axis)

    @property
    def direct(self) -> bool:
        """Whether the user's code called this op itself, not a function made of it that derives its sizes."""
        return self.origin is None or self.origin.name.partition(".")[0] == self.op.split(".")[1]

    def size_is(self, expression: Expression, axis: Axis) -> None:
        self.facts.equations.append(SizeEquation(expression, axis, self.where))

    def size_source(self, name: str, index: int | None = None) -> Expression | None:
        """Where an integer argument came from; a plain int for a literal; None if it adapts by itself (-1)."""
        seen: Any = self.arguments.get(name)
        value: Any = seen if index is None or not isinstance(seen, (list, tuple)) else seen[index]
        given = self._given(name)
        if given is _UNSEEN:
            if self.origin is not None and self.origin.name in _ADAPTING:
                return None
            return None if value == -1 else value
        if index is not None and isinstance(given, (list, tuple)):
            if len(given) != len(seen):
                return int(value)
            given = given[index]
        if not isinstance(given, int):
            return value if isinstance(value, int) else None
        if given == -1:
            return None
        return expression_of(given) if int.__int__(given) == value else int(value)

    def _given(self, name: str) -> Any:
        """The argument as the user's code passed it to the torch function, or `_UNSEEN`."""
        origin = self.origin
        if origin is None:
            return _UNSEEN
        names = (name, *_SAME_ARGUMENT.get(name, ()))
        for candidate in names:
            if candidate in origin.kwargs:
                return origin.kwargs[candidate]
        parameters = _parameters(origin.function)
        if parameters is None:
            name_of_op = self.op.split(".")[1]
            name_of_origin = origin.name.partition(".")[0]  # of an overload called by hand, "split.sizes"
            if _OPERATORS.get(name_of_origin, name_of_origin).strip("_") != name_of_op.strip("_"):
                return _UNSEEN
            parameters = tuple(argument.name for argument in self.schema)
        for position, parameter in enumerate(parameters):
            if parameter in names:
                if position >= len(origin.args):
                    return _UNSEEN
                given = origin.args[position]
                varargs = isinstance(given, int) and isinstance(self.arguments.get(name), (list, tuple))
                return origin.args[position:] if varargs else given
        return _UNSEEN


_UNSEEN: Any = object()
# Python operators whose op has another name.
_OPERATORS = {"__rmul__": "mul", "__imul__": "mul", "__truediv__": "div", "__itruediv__": "div", "__div__": "div"}


@cache
def _parameters(function: Any) -> tuple[str, ...] | None:
    """Parameter names of a Python function; None for a builtin, whose names are those of the op's schema.

    `*size` counts as `size`.
    """
    if not inspect.isfunction(function):
        return None
    try:
        return tuple(inspect.signature(function).parameters)
    except ValueError:  # a wrapper around a builtin, such as Tensor.__pow__
        return None


def write_to_out(call: OpCall, outcome: Outcome) -> None:
    """Tensors given as `out=` become the outputs, and may be views of something larger. torch resizes other shapes."""
    receiving = [call.arguments.get(argument.name) for argument in call.schema if argument.is_out]
    for operand, axes in zip(receiving, outcome.axes, strict=False):
        if isinstance(operand, Operand) and operand.shape == tuple(axis.size for axis in axes):
            for mine, theirs in zip(axes, operand.axes, strict=True):
                call.unify(mine, theirs)


def check_outcome(call: OpCall, outcome: Outcome) -> None:
    """The contract of every rule: one axis per dimension of every output, of its size.

    Raises:
        RuleError: naming the op, the sizes found and the sizes recorded.
    """
    if len(outcome.zeros) != len(outcome.axes):
        raise RuleError(
            f"the rule of {call.op} gave {len(outcome.zeros)} laws of zeros for {len(outcome.axes)} outputs; "
            "give one for each, or one for all"
        )
    found = [tuple(axis.size for axis in axes) for axes in outcome.axes]
    if found != call.output_shapes:
        raise RuleError(
            f"the rule of {call.op} gave outputs of sizes {found}, the op itself {call.output_shapes} (at {call.where})"
        )


RuleFunction = Callable[[OpCall], Outcome]
