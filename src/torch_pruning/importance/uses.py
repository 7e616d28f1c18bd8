"""Watching a model's weights being used: what each reads, and what it makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from torch_pruning.importance.factors import Contraction, Geometry, Product, observe_product
from torch_pruning.importance.sources import Sources
from torch_pruning.importance.statistics import GATES, KRONECKER, OF_ACTIVATIONS, Channels, Statistics


@dataclass(frozen=True, slots=True)
class Signal:
    """An activation whose channels, on dimension `along`, are the positions of dimension `dim` of a weight."""

    weight: Tensor
    dim: int
    activation: Tensor
    along: int


@dataclass(slots=True)
class Use:
    """One call of a layer's function: activations that its weights read, and those that they make."""

    reads: list[Signal]
    makes: list[Signal]
    product: Product | None = None  # where it is one weight times one activation


class _Arguments:
    """The arguments of a call, by position or name."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs

    def __call__(self, position: int, *names: str, default: Any = None) -> Any:
        if position < len(self.args):
            return self.args[position]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)


def _linear(given: _Arguments, out: Tensor, sources: Sources) -> Use:
    x, weight, bias = given(0, "input"), given(1, "weight"), given(2, "bias")
    made = [Signal(weight, 0, out, -1)] if weight.dim() > 1 else []
    product = Product(Contraction(weight, 1, 0), x, out, bias) if weight.dim() == 2 else None
    return Use([Signal(weight, weight.dim() - 1, x, -1)], made, product)


def _convolution(spatial: int, transposed: bool) -> Callable[[_Arguments, Tensor, Sources], Use]:
    def use(given: _Arguments, out: Tensor, sources: Sources) -> Use:
        x, weight, bias = given(0, "input"), given(1, "weight"), given(2, "bias")
        channel = -spatial - 1
        reads, makes = (0, 1) if transposed else (1, 0)
        geometry = Geometry(
            given(3, "stride", default=1),
            given(4, "padding", default=0),
            given(7 if transposed else 5, "dilation", default=1),
            given(6, "groups", default=1),
            transposed,
        )
        product = Product(Contraction(weight, reads, makes, geometry), x, out, bias)
        return Use([Signal(weight, reads, x, channel)], [Signal(weight, makes, out, channel)], product)

    return use


def _matmul(first: int) -> Callable[[_Arguments, Tensor, Sources], Use | None]:
    """[..., A, B] @ [..., B, C], from argument `first` on (a bias may stand before)."""

    def use(given: _Arguments, out: Tensor, sources: Sources) -> Use | None:
        left = given(first, "input", "mat1", "batch1", "self")
        right = given(first + 1, "other", "mat2", "batch2", "vec")
        bias = given(0, "input") if first else None
        if not isinstance(left, Tensor) or not isinstance(right, Tensor):
            return None
        if sources.knows(left) and sources.knows(right):  # a weight in the making, as of spectral norm
            return None
        if sources.find(right) is not None:
            rows = max(0, right.dim() - 2)
            made = [Signal(right, right.dim() - 1, out, -1)] if right.dim() > 1 else []
            product = Product(Contraction(right, 0, 1), left, out, bias) if right.dim() == 2 else None
            return Use([Signal(right, rows, left, -1)], made, product)
        if sources.find(left) is None:
            return None
        along = -1 if right.dim() == 1 else -2
        made = [Signal(left, left.dim() - 2, out, along)] if left.dim() > 1 else []
        return Use([Signal(left, left.dim() - 1, right, along)], made)

    return use


def _reflected_matmul(given: _Arguments, out: Tensor, sources: Sources) -> Use | None:
    return _matmul(0)(_Arguments((given(1), given(0)), {}), out, sources)


def _einsum(given: _Arguments, out: Tensor, sources: Sources) -> Use | None:
    equation = given(0, "equation")
    operands = given.args[1] if isinstance(given(1), (list, tuple)) else given.args[1:]
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return None
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    use = Use([], [])
    for number, (weight, term) in enumerate(zip(operands, terms, strict=True)):
        if sources.find(weight) is None:
            continue
        for dim, letter in enumerate(term):
            if letter in right:
                use.makes.append(Signal(weight, dim, out, right.index(letter)))
                continue
            others = [n for n, other in enumerate(terms) if n != number and letter in other]
            use.reads += [Signal(weight, dim, operands[n], terms[n].index(letter)) for n in others]
    return use


def _bilinear(given: _Arguments, out: Tensor, sources: Sources) -> Use:
    x, y, weight = given(0, "input1"), given(1, "input2"), given(2, "weight")
    return Use([Signal(weight, 1, x, -1), Signal(weight, 2, y, -1)], [Signal(weight, 0, out, -1)])


def _embedding(given: _Arguments, out: Tensor, sources: Sources) -> Use:
    return Use([], [Signal(given(1, "weight"), 1, out, -1)])


def _cell(given: _Arguments, out: Any, sources: Sources) -> Use:
    """x, h (or (h, c)), w_ih, w_hh."""
    x, state, w_ih, w_hh = given(0, "input"), given(1, "hx"), given(2, "w_ih"), given(3, "w_hh")
    h = state[0] if isinstance(state, (list, tuple)) else state
    return Use([Signal(w_ih, 1, x, -1), Signal(w_hh, 1, h, -1)], [])


def _recurrent(function: Any) -> Callable[[_Arguments, Any, Sources], Use]:
    """Layers of cells. What passes between them is not to be seen from outside, so all but the last run once more."""

    def use(given: _Arguments, out: Any, sources: Sources) -> Use:
        packed = isinstance(given(3), (list, tuple))  # data, batch sizes, state, weights; else input, state, weights
        first = given.args[: 2 if packed else 1]
        state, weights, has_biases, layers, _, training, bidirectional, *rest = given.args[len(first) :]
        directions = 2 if bidirectional else 1
        size = len(weights) // (layers * directions)
        found = Use([], [])
        x, *lengths = first
        for layer in range(layers):
            cells = [weights[(layer * directions + d) * size :][:size] for d in range(directions)]
            if layer == layers - 1:
                made = out[0]
            else:
                h = _of_layer(state, layer, directions)
                flat = [weight for cell in cells for weight in cell]
                made = function(x, *lengths, h, flat, has_biases, 1, 0.0, training, bidirectional, *rest)[0]
            for cell, h in zip(cells, made.chunk(directions, -1), strict=True):
                found.reads += [Signal(cell[0], 1, x, -1), Signal(cell[1], 1, h, -1)]
            x = made
        return found

    return use


def _of_layer(state: Any, layer: int, directions: int) -> Any:
    """The part of a state [layers * directions, B, H] (or of several) that is one layer's."""
    if isinstance(state, (list, tuple)):
        return tuple(_of_layer(part, layer, directions) for part in state)
    return state[layer * directions : (layer + 1) * directions]


_USES: dict[Any, Callable[[_Arguments, Any, Sources], Use | None]] = {
    F.linear: _linear,
    **{getattr(torch, f"conv{n}d"): _convolution(n, False) for n in (1, 2, 3)},
    **{getattr(torch, f"conv_transpose{n}d"): _convolution(n, True) for n in (1, 2, 3)},
    **{f: _matmul(0) for f in (torch.matmul, torch.mm, torch.bmm, torch.mv, Tensor.matmul, Tensor.mm, Tensor.bmm)},
    Tensor.__matmul__: _matmul(0),
    Tensor.__rmatmul__: _reflected_matmul,
    **{f: _matmul(1) for f in (torch.addmm, torch.baddbmm, Tensor.addmm)},
    torch.einsum: _einsum,
    torch.bilinear: _bilinear,
    F.embedding: _embedding,
    **{getattr(torch, f"{kind}_cell"): _cell for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f: _recurrent(f) for f in (getattr(torch._VF, kind) for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"))},
}


class UseMode(TorchFunctionMode):
    """Sees every function of torch that the model's code calls, and writes down what its weights read and make.

    Weights are known by identity, not by layer: a parameter of another module, in a call by hand, is seen alike.
    """

    def __init__(self, tensors: Mapping[str, Tensor], statistics: Statistics) -> None:
        super().__init__()
        self.sources = Sources(tensors)
        self.statistics = statistics
        self.active = False
        self._handles: list[RemovableHandle] = []  # of hooks on tensors that outlive the run
        # Activations whose gradients are waited for, as what a weight reads and as what one makes.
        self._read: Any = WeakIdKeyDictionary()
        self._made: Any = WeakIdKeyDictionary()

    def __enter__(self) -> UseMode:
        self.active = True
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.active = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with _Inside(self):
                return _opened(func)(*args, **kwargs)
        out = func(*args, **kwargs)
        use = _USES.get(func)
        if use is not None:
            backward = self.statistics.kinds & {GATES, KRONECKER}
            if backward and isinstance(out, Tensor) and out._is_view() and out.requires_grad:
                # A linear layer's result may be a view, and torch drops the hooks of a view that is changed in place.
                out = out.clone()
            with torch.no_grad():
                found = use(_Arguments(args, kwargs), out, self.sources)
            if found is not None:
                self._take(found)
        if isinstance(out, Tensor):
            self.sources.follow(_tensors(args), out)
        return out

    def _take(self, use: Use) -> None:
        statistics = self.statistics
        if statistics.kinds & (OF_ACTIVATIONS | {GATES}):
            for signal in use.reads:
                self._see(signal, statistics.reads, self._read)
            for signal in use.makes:
                self._see(signal, statistics.makes, self._made)
        if KRONECKER in statistics.kinds and use.product is not None:
            origin = self.sources.find(use.product.of.weight)
            if origin is not None:
                observe_product(use.product, origin, statistics, lambda: self.active)

    def _see(self, signal: Signal, kept: Any, felt: Any) -> None:
        """Take in an activation, and its gradient when it comes; that of one that several weights read once."""
        x, kinds = signal.activation, self.statistics.kinds
        origin = self.sources.find(signal.weight)
        place = None if origin is None else origin.places[signal.dim]
        if place is None or not x.is_floating_point():
            return
        channels = self.statistics.channels(kept, place, signal.weight.shape[signal.dim])
        if kinds & OF_ACTIVATIONS:
            with torch.no_grad():
                channels.update(x, signal.along)
        if GATES in kinds and x.requires_grad and x not in felt:
            felt[x] = True
            self._feel(x, signal.along, channels)

    def _feel(self, x: Tensor, along: int, channels: Channels) -> None:
        """Wait for the gradient of an activation."""
        seen = x.detach()  # not the activation itself, which holds the hook

        def arrived(gradient: Tensor) -> None:
            if self.active:
                channels.update_gates(seen, gradient, along)

        handle = x.register_hook(arrived)
        if x.is_leaf:
            self._handles.append(handle)


class _Inside:
    """The mode once more, for the body of a function that it was called with."""

    def __init__(self, mode: UseMode) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        TorchFunctionMode.__enter__(self.mode)

    def __exit__(self, *exception: Any) -> None:
        TorchFunctionMode.__exit__(self.mode, *exception)


def _tensors(args: tuple[Any, ...]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(tuple(arg))


@cache
def _opened(function: Any) -> Any:
    """A function of torch that is written in Python, as one that does not ask modes what to do: they see its inside."""
    assert inspect.isfunction(function)
    names = {**function.__globals__, "has_torch_function": lambda tensors: False}
    opened = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened
