"""Ways from a width to a number that no subclass of `int` can see: the check of the plan refuses them.

A plan that claims to be exact and passes its check equals masking, always.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drive import random_plan
from torch import Tensor, nn

import torch_pruning as tp
from torch_pruning.errors import CheckError
from torch_pruning.graph.graph import build_graph
from torch_pruning.trace.tracer import Example

Use = Callable[[Tensor, int], Tensor]  # what the last layer gives, and the width of the one before

UNSEEN: dict[str, Use] = {
    "float on the left": lambda y, n: y * (1.0 / n),
    "in a tensor": lambda y, n: y * torch.tensor(1.0 / n),
    "in a list in a tensor": lambda y, n: y * torch.tensor([1.0 / n]),
    "by way of numpy": lambda y, n: y * torch.from_numpy(np.full(5, 1.0 / n)).to(y.dtype),
    "index": lambda y, n: y * operator.index(n),
    "numpy integer": lambda y, n: y * np.int64(n),
    "text": lambda y, n: y * float(f"{n}"),
    "fraction": lambda y, n: y * float(Fraction(1, n)),
    "range": lambda y, n: y * len(range(n)),
    "sum of a range": lambda y, n: y * sum(range(n)),
    "loop": lambda y, n: y * sum(1 for _ in range(n)),
    "bits": lambda y, n: y * (n | 1),
    "bit length": lambda y, n: y * n.bit_length(),
    "real part": lambda y, n: y * n.real,
    "negative power of a float": lambda y, n: y * 2.0**-n,
    "float minus": lambda y, n: y + (0.5 - n),
    "numpy float": lambda y, n: y * float(np.float64(3.0) / n),
    "beside one that is repaired": lambda y, n: y / n * (1.0 / n),
    "in the same way as one that is repaired": lambda y, n: y * (1 / n) * (1.0 / n),
    "position": lambda y, n: y[:, int(n) % 4],
    "position in a table": lambda y, n: y * torch.arange(9.0)[n].to(y.dtype),
    "bound of a slice": lambda y, n: y[:, int(n) - 4 : int(n) - 2],
    "shift": lambda y, n: y.roll(int(n) % 4, 1),
    "scale of a resampling": lambda y, n: F.interpolate(y[None], scale_factor=16.0 / n)[0],
    "steps": lambda y, n: y * torch.linspace(0, 1.0 / n, 5).to(y.dtype),
    "threshold": lambda y, n: F.threshold(y, 0.1, 1.0 / n),
    "eps": lambda y, n: F.layer_norm(y, (5,), eps=8.0 / n),
}
SEEN: dict[str, Use] = {
    "divided": lambda y, n: y / n,
    "factor": lambda y, n: y * (1 / n),
    "root": lambda y, n: y * (1 / math.sqrt(n)),
    "power": lambda y, n: y * n**-0.5,
    "float": lambda y, n: y / float(n),
    "int": lambda y, n: y * int(n),
    "tensor": lambda y, n: y * torch.tensor(n),
    "numpy root": lambda y, n: y / np.sqrt(n),
    "rounded": lambda y, n: y * round(n * 0.5),
    "even part": lambda y, n: y * (n // 2 * 2),
    "reversed division": lambda y, n: y * n.__rtruediv__(1),  # type: ignore[attr-defined]
}


class used(nn.Module):
    """The width of the hidden layer, from a shape or an attribute, goes into its result as a number."""

    def __init__(self, use: Use, attribute: bool) -> None:
        super().__init__()
        self.use, self.attribute, self.width = use, attribute, 8
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.attribute:
            h = h.view(-1, self.width)
        return self.use(self.b(h), self.width if self.attribute else h.shape[-1])


def _strays(use: Use, attribute: bool) -> tuple[bool, bool]:
    """(is a plan over everything claimed to be exact and accepted, is it exact)"""
    torch.manual_seed(0)
    model = used(use, attribute).eval()
    graph = build_graph(model, [Example(torch.randn(3, 6))])
    plan = random_plan(graph, 1, exact_only=False)
    if not plan.groups:
        return False, False  # frozen
    seen = tp.verify(model, plan)
    assert not seen.degenerate
    try:
        plan.check()
    except CheckError:
        return False, seen.exact
    return plan.exact, seen.exact


@pytest.mark.parametrize("attribute", [False, True], ids=["shape", "attribute"])
@pytest.mark.parametrize("use", UNSEEN.values(), ids=UNSEEN)
def test_unseen_numbers_are_refused(use: Use, attribute: bool) -> None:
    accepted, exact = _strays(use, attribute)
    assert not accepted
    assert not exact  # or refusing it would cost prunability for nothing


@pytest.mark.parametrize("attribute", [False, True], ids=["shape", "attribute"])
@pytest.mark.parametrize("use", SEEN.values(), ids=SEEN)
def test_claims_about_seen_numbers_are_true(use: Use, attribute: bool) -> None:
    accepted, exact = _strays(use, attribute)
    assert accepted == exact


def test_pruning_leaves_the_layers_alone_in_which_it_was_refused() -> None:
    torch.manual_seed(0)
    inside = used(UNSEEN["float on the left"], False)
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 6), inside, nn.Linear(5, 9), nn.Linear(9, 2))
    x = torch.randn(3, 6)
    tp.prune(model, x, pruning_ratio=0.4)
    assert [tuple(p.shape) for p in model[2].parameters()][::2] == [(8, 6), (5, 8)]
    assert model[0].weight.shape == (6, 6)


def test_pruning_fails_with_the_line_where_no_layer_is_to_blame() -> None:
    torch.manual_seed(0)
    model = used(UNSEEN["in a tensor"], False).eval()
    x = torch.randn(3, 6)
    before = model(x)
    with pytest.raises(CheckError, match=r"test_unseen_numbers.py.*changed from.*ignore="):
        tp.prune(model, x, pruning_ratio=0.4)
    assert torch.equal(model(x), before)
