"""Functions of `math` that read integers without asking them: for the length of a run they notice sizes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from torch_pruning.axes.sizes import TracedInt

# Others (`sqrt`, `exp`) convert with `float`, which a traced integer sees by itself.
_LOGARITHMS = ("log", "log2", "log10")
# Their results are integers again, which no polynomial gives.
_WHOLE = ("gcd", "lcm", "isqrt", "comb", "perm", "factorial")


@contextlib.contextmanager
def math_sees_sizes() -> Iterator[None]:
    """`math.log(x.shape[1])` is a use as a number, `math.gcd(x.shape[1], 8)` freezes what it looks at."""
    originals = {name: getattr(math, name) for name in (*_LOGARITHMS, *_WHOLE)}
    try:
        for name, function in originals.items():
            setattr(math, name, _seeing(function, whole=name in _WHOLE))
        yield
    finally:
        for name, function in originals.items():
            setattr(math, name, function)


def _seeing(function: Callable[..., Any], whole: bool) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        for number in args:
            if isinstance(number, TracedInt):
                (number.log.uneven if whole else number.log.value_use)(number.expression)
        return function(*(int.__int__(number) if isinstance(number, TracedInt) else number for number in args))

    return call
