"""A program recorded with remembered results equals one for which every op ran."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from torch_pruning.trace.memo import Memo
from torch_pruning.trace.program import Program
from torch_pruning.trace.tracer import Example, trace


class Forgetful(Memo):
    """Runs every op."""

    def run(self, function: Any, args: Any, kwargs: Any, tensors: Any, run: Callable[[], Any]) -> Any:
        return run()


class Counting(Memo):
    """Counts the ops on fake tensors that had to run."""

    ran = 0

    def run(self, function: Any, args: Any, kwargs: Any, tensors: Any, run: Callable[[], Any]) -> Any:
        def counted() -> Any:
            self.ran += any(isinstance(tensor, FakeTensor) for tensor, _ in tensors)
            return run()

        return super().run(function, args, kwargs, tensors, counted)


def described(program: Program) -> list[Any]:
    """Everything that analysis reads: values with their memory (numbered by first appearance), calls, outputs."""
    memory: dict[int, int] = {}
    values = [
        (v.shape, v.strides, v.offset, v.dtype, v.kind, v.name, memory.setdefault(v.storage, v.index))
        for v in program.values
    ]
    calls = [
        (call.op, [v.index for v in call.inputs()], [v.index for v in call.results()], str(call.where))
        for call in program.calls
    ]
    return [values, calls, [value.index for value in program.outputs]]


class Views(nn.Module):
    """Views of activations and of parameters, written to afterwards; twice the same, then in another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, 6))

    def block(self, x: Tensor) -> Tensor:
        token = self.token.expand(x.shape[0], -1, -1)
        first, second = x.chunk(2, dim=1)
        first.add_(second)
        rest = x.transpose(1, 2).reshape(x.shape[0], -1)[:, 2:-2]
        rest.relu_()
        flat = x.flatten(1)
        flat[:, 0] = 0
        return x + token + flat.view_as(x) + rest.sum() + self.token.view(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.block(x))
        return self.block(x.permute(0, 2, 1)[..., :4].permute(0, 2, 1).contiguous()) + self.block(x)[:, :4]


class Reshaped(nn.Module):
    """In-place ops that change the shape of a tensor, twice."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            turned = x.clone()
            turned.transpose_(0, 1).unsqueeze_(0)
            x = x + turned.squeeze_(0).transpose(0, 1)
        return x


class Arguments(nn.Module):
    """Calls that differ in nothing but a number, its type, or in whether two arguments are one."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        whole, half = x.long(), x.half()
        same, other = torch.cat([x, x]), torch.cat([x, x.clone()])
        return (
            x.sum(0), x.sum(1), x.cumsum(0), x.sum(0, keepdim=True), whole + 1, whole + 1.0, half + 1, half.float(),
            same, other, torch.stack([x, x], 0), torch.stack([x, x], 1), x.mean(-1), x.mean(0), x.mean((0, 1)),
        )  # fmt: skip


class Layers(nn.Module):
    """The layers that are worked out without PyTorch, with tensors in and out of row-major order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.last = nn.Conv2d(8, 8, 1).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(8)
        self.group = nn.GroupNorm(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.conv(x)))
        x = self.group(self.last(x) * x.mean((2, 3), keepdim=True))
        x = x.to(memory_format=torch.channels_last).relu_() + x
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.attention(tokens, tokens, tokens)[0]
        return self.out(torch.softmax(tokens @ tokens.transpose(1, 2), dim=-1) @ tokens)


MODELS = [
    (Views, torch.randn(1, 6, 6)),
    (Views, torch.randn(2, 6, 6)),
    (Arguments, torch.randn(3, 3)),
    (Layers, torch.randn(2, 4, 5, 5)),
    (Layers, torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last)),
]


@pytest.mark.parametrize(("build", "inputs"), [*MODELS, (Reshaped, torch.randn(2, 3))])
def test_programs_are_the_same_with_and_without(build: type[nn.Module], inputs: Tensor) -> None:
    model, memo = build(), Counting()
    for mode in ("eval", "train", "eval"):
        remembered = trace(model, Example(inputs), mode, memo)
        run = trace(model, Example(inputs), mode, Forgetful())
        assert remembered.kind == run.kind == "fake"
        assert described(remembered) == described(run)


@pytest.mark.parametrize(("build", "inputs"), MODELS)
def test_nothing_runs_the_second_time(build: type[nn.Module], inputs: Tensor) -> None:
    model, memo = build(), Counting()
    trace(model, Example(inputs), "eval", memo)
    assert memo.ran
    memo.ran = 0
    trace(model, Example(inputs), "eval", memo)
    assert memo.ran == 0


def test_two_views_of_one_tensor_are_not_two_tensors() -> None:
    """Which memory a result lies on may depend on which arguments share theirs."""

    class Shared(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            y, z = x + 1, x + 2
            return [*torch.broadcast_tensors(y, y), *torch.broadcast_tensors(y, z)]

    program, run = (trace(Shared(), Example(torch.ones(2)), "eval", memo) for memo in (Memo(), Forgetful()))
    assert described(program) == described(run)


def test_the_default_type_may_change() -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long() / 2

    memo = Memo()
    types = []
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            types.append(trace(Halved(), Example(torch.ones(2)), "eval", memo).outputs[0].dtype)
    finally:
        torch.set_default_dtype(before)
    assert types == [torch.float32, torch.float64]


def test_real_tensors_are_computed_every_time() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            steps = torch.arange(3) + 1
            assert (steps + steps).tolist() == [2, 4, 6]
            steps.add_(1)
            assert (steps + steps).tolist() == [4, 6, 8]
            return x[:, steps - 2]

    assert trace(Counts(), Example(torch.randn(2, 5))).kind == "fake"


def test_what_does_not_fit_is_refused_by_pytorch_itself() -> None:
    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, torch.ones_like(x[:, :-1]))

    with pytest.raises(RuntimeError, match=r"cannot be multiplied|shape"):
        trace(Narrow(), Example(torch.randn(3, 4)))
