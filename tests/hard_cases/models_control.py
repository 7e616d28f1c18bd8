"""Control flow and calls: autograd functions, checkpoints, scripts, hooks, closures, heads that do not always run."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


class two_layers(nn.Module):
    """The base of many cases: two hidden widths."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Any:
        return self.c(self.b(self.a(x).relu()).relu())


class Doubled(torch.autograd.Function):
    """Channels twice, one after another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x], 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        first, second = grad.chunk(2, 1)
        return first + 2 * second


class custom_function(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(16, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(Doubled.apply(self.a(x)).relu()).relu())


class checkpointed(two_layers):
    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.block, x, use_reentrant=False)
        return self.c(x)

    def block(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()).relu()


class checkpointed_in_parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 5))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.net, 2, x, use_reentrant=False)


class calls_autograd(two_layers):
    """A forward that differentiates: it needs a run with gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            h = self.a(x)
            (slope,) = torch.autograd.grad(h.tanh().sum(), h, create_graph=True)
        return self.c(self.b(h * slope).relu())


class ScriptedPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu()


class script_inside(nn.Module):
    """A ScriptModule with parameters of its own: they stay, and with them what it reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.a = nn.Linear(9, 8)
        self.b = torch.jit.script(ScriptedPart())
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(self.first(x).relu()).relu()))


@torch.jit.script
def scripted_activation(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@torch.jit.script
def scripted_view(x: Tensor) -> Tensor:
    return x.view(x.size(0), 2, 4).sum(1)


class scripted_function(two_layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(scripted_activation(self.b(scripted_activation(self.a(x)))))


class scripted_literals(nn.Module):
    """view(..., 2, 4) where nobody sees the numbers come from."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(4, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(scripted_view(self.a(x))).relu())


class hooked(two_layers):
    """Forward hooks before and after that change what passes, one of them through a closure."""

    def __init__(self) -> None:
        super().__init__()
        scale = torch.rand(8) + 0.5
        self.register_buffer("scale", scale)
        self.a.register_forward_hook(lambda module, args, out: out * self.scale)
        self.b.register_forward_pre_hook(lambda module, args: (args[0].relu() + args[0],))


class closures(nn.Module):
    """Layers held by closures and partials as well as by the module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 5)
        self.steps: list[Callable[[Tensor], Tensor]] = [
            lambda x: self.a(x).relu(),
            functools.partial(self.second, activation=F.gelu),
        ]

    def second(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        return activation(self.b(x))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.c(x)


class training_head(nn.Module):
    """An auxiliary head in training mode only: it reads what is pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.auxiliary = nn.Linear(8, 4)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        out = self.c(self.b(x).relu())
        return (out, self.auxiliary(x)) if self.training else out


class experts(nn.Module):
    """Two experts of which the example reaches one: the widths that the other has or reads must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.stem = nn.Linear(9, 8)
        self.experts = nn.ModuleList(
            nn.Sequential(OrderedDict(up=nn.Linear(8, 12), act=nn.ReLU(), down=nn.Linear(12, 8))) for _ in range(2)
        )
        self.head = nn.Linear(8, 5)
        self.chosen = "0"

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.first(x).relu())
        return self.head(x + self.experts[int(self.chosen)](x))


class batch_of_one(nn.Module):
    """Batch norm after pooling refuses a batch of one in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm1d(8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x).mean((2, 3)))
        return self.c(self.b(x.relu()).relu())


class decides_on_its_output(two_layers):
    """A trace on fake tensors ends after the last layer; one on real ones sees all."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if out.abs().max().item() > 1e9:
            out = out / 2
        return out


class decides_in_an_argument(two_layers):
    """The last layer's result lies on the stack only while the next argument looks at data."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x).relu()).relu()
        return torch.add(self.c(h), bool((x.abs().max() > 1e9).item()))


@dataclass
class Result:
    logits: Tensor
    hidden: dict[str, list[Tensor]]
    loss: Tensor | None = None


class Pair(NamedTuple):
    first: Tensor
    second: tuple[Tensor, None]


class returns_dataclass(two_layers):
    """Hidden activations are outputs, so they stay."""

    def forward(self, x: Tensor) -> Result:
        x = self.a(x).relu()
        h = self.b(x)
        return Result(self.c(h.relu()), {"all": [x]})


class returns_nested(two_layers):
    def forward(self, x: Tensor) -> Pair:
        out = super().forward(x)
        return Pair(out, (out.sum(-1), None))


class returns_dict_and_loss(two_layers):
    """With labels given, a loss."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = super().forward(x)
        if labels is None:
            return {"logits": logits}
        return {"logits": logits, "loss": F.cross_entropy(logits, labels)}


class keyword_inputs(two_layers):
    """Keyword arguments, some of them None, a flag, a list of tensors."""

    def forward(self, *, x: Tensor, more: list[Tensor], mask: Tensor | None = None, flag: bool = True) -> Tensor:
        x = x if mask is None else x * mask
        for each in more:
            x = x + each
        return super().forward(x) if flag else x


class called_otherwise(two_layers):
    """A method that is not forward, through the user's own call."""

    def encode(self, x: Tensor, times: int) -> Tensor:
        for _ in range(times):
            x = super().forward(x)
            x = F.pad(x, (0, 1))
        return x


_rows = images(16, 6)
_both = (Units("a:0 b:1", 8), Units("b:0 c:1", 7))

CASES = (
    Case(custom_function, _rows, (Units("a:0 b:1", 8), Units("b:0 c:1", 7))),
    Case(checkpointed, _rows, _both),
    Case(checkpointed_in_parts, _rows, (Units("net.0:0 net.2:1", 8), Units("net.2:0 net.4:1", 7))),
    Case(calls_autograd, _rows, _both),
    Case(
        script_inside,
        _rows,
        (Units("first:0 a:1", 9),),
        (Frozen("a:0", "never pruned", "self.b(self.a("), Frozen("c:1", "never pruned", "self.b(self.a(")),
    ),
    Case(scripted_function, _rows, _both),
    Case(scripted_literals, _rows, (Units("b:0 c:1", 7),), (Frozen("a:0", "size", "scripted_view(self.a(x))"),)),
    Case(hooked, _rows, (Units("a:0 scale:0 b:1", 8), _both[1])),
    Case(closures, _rows, _both),
    Case(training_head, _rows, (Units("a:0 auxiliary:1 b:1", 8), _both[1])),
    Case(
        experts,
        _rows,
        (Units("first:0 stem:1", 9), Units("experts.0.up:0 experts.0.down:1", 12)),
        (Frozen("stem:0", "never ran", ""), Frozen("experts.1.up:0", "never ran", "")),
    ),
    Case(
        batch_of_one,
        images(1, 3, 4, 4),
        (Units("a:0 norm:0 b:1", 8), _both[1]),
        training_inputs=images(2, 3, 4, 4),
    ),
    Case(decides_on_its_output, _rows, _both, (Frozen("c:0", "model output", ""),)),
    Case(decides_in_an_argument, _rows, _both, (Frozen("c:0", "model output", ""),)),
    Case(
        returns_dataclass,
        _rows,
        (_both[1],),
        (Frozen("a:0", "output", ""),),
    ),
    Case(returns_nested, _rows, _both),
    Case(returns_dict_and_loss, lambda: {"x": torch.randn(16, 6), "labels": torch.randint(5, (16,))}, _both),
    Case(
        keyword_inputs,
        lambda: {"x": torch.randn(16, 6), "more": [torch.randn(16, 6), torch.randn(6)], "mask": None, "flag": True},
        _both,
    ),
    Case(called_otherwise, lambda: torch.randn(16, 6), _both, forward_fn=lambda model, x: model.encode(x, 2)),
)
