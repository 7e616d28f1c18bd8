"""Tensors wherever people keep them, shared, frozen, unused; values that leave torch; memory addressed directly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn


class weight_of_another(nn.Module):
    """F.linear(x, self.other.weight): forwards, and transposed on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x).relu()).relu()
        return self.c(F.linear(F.linear(h, self.b.weight.t()), self.a.weight.t()))


class einsum_with_parameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.mix = nn.Parameter(torch.randn(8, 4, 3) / 4)
        self.out = nn.Parameter(torch.randn(4, 3, 5) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("btgd,gdo->bto", torch.einsum("bti,igd->btgd", self.a(x), self.mix).tanh(), self.out)


class bare_parameters(nn.Module):
    """No layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(6, 8) / 2)
        self.b1 = nn.Parameter(torch.randn(8))
        self.w2 = nn.Parameter(torch.randn(8, 5) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.w1 + self.b1) @ self.w2


class lists_of_parameters(nn.Module):
    """nn.ParameterList, nn.ParameterDict, and a plain list that torch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.known = nn.ParameterList([nn.Parameter(torch.randn(6, 8) / 2), nn.Parameter(torch.randn(8, 7) / 2)])
        self.named = nn.ParameterDict({"out": nn.Parameter(torch.randn(7, 5) / 2)})
        self.plain = [torch.randn(8), {"scale": torch.rand(7) + 0.5}]

    def forward(self, x: Tensor) -> Tensor:
        x = (x @ self.known[0] * self.plain[0]).relu()
        return (x @ self.known[1] * self.plain[1]["scale"]).relu() @ self.named["out"]


class buffers_and_attributes(nn.Module):
    """Mean and deviation per channel, in a buffer and in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.register_buffer("shift", torch.randn(1, 8, 1, 1))
        self.scale = torch.rand(8, 1, 1) + 0.5
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x) - self.shift) * self.scale)


class moving_average(nn.Module):
    """A buffer that forward assigns anew in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.register_buffer("average", torch.zeros(8))
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        if self.training:
            self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return self.b(x - self.average)


class remembers_activations(nn.Module):
    """An attribute that holds the last activations, for pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)
        self.seen = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        self.seen = x.detach()
        return self.b(x)


class FrozenBatchNorm(nn.Module):
    """As the detectors have it: four buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        w, b, mean, variance = (t.reshape(1, -1, 1, 1) for t in self.buffers())
        scale = w * (variance + 1e-5).rsqrt()
        return x * scale + (b - mean * scale)


class frozen_batch_norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.norm = FrozenBatchNorm(8)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)).relu())


class frozen_parameters(nn.Module):
    """requires_grad=False stays so."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)
        self.a.requires_grad_(False)
        self.b.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class parts_without_grad(frozen_parameters):
    """Ops under no_grad are seen in pieces."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = F.gelu(self.a(x))
        with torch.inference_mode(False):
            x = self.b(x)
        return self.c(x.relu())


class never_used(nn.Module):
    """A layer that is never called: nothing that it could be meant for may shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Module()
        self.block.a = nn.Linear(6, 8)
        self.block.unused = nn.Linear(8, 9)
        self.block.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.block.b(self.block.a(x).relu()).relu())


class used_twice(nn.Module):
    """One layer at two places of one width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(self.stem(x)).relu()).relu())


class shared_by_two(nn.Module):
    """One module under two names, and one Parameter in two modules, one of them transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7, bias=False)
        self.again = self.b
        self.back = nn.Linear(7, 8)
        self.last = nn.Linear(8, 7)
        self.last.weight = self.b.weight
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.a(x).relu()) + self.b(self.a(-x).relu())
        return self.head(self.last(self.back(x.relu()).relu()))


class one_storage(nn.Module):
    """Two Parameters that view one storage, as flattened weights do: they freeze."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = torch.randn(96) / 3
        self.w1 = nn.Parameter(self.flat[:48].view(8, 6))
        self.w2 = nn.Parameter(self.flat[40:80].view(5, 8))
        self.a = nn.Linear(5, 7)
        self.b = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(F.linear(F.linear(x, self.w1).relu(), self.w2)).relu())


class through_numpy(nn.Module):
    """The weight as an array: what is done with it cannot be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        factor = float(abs(self.a.weight.detach().numpy()).max())
        return self.c(self.b(self.a(x).relu() / factor).relu())


class through_item(through_numpy):
    """A branch on a value: a real run is needed."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x).relu())
        if h.abs().max().item() > 1e6:
            h = h / 2
        return self.c(h.relu())


class strided_by_hand(through_numpy):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        h = torch.as_strided(h, h.shape, h.stride())
        return self.c(self.b(h).relu())


class divided_by_parameter(nn.Module):
    """x / p: a zero p would be 0 / 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.p = nn.Parameter(torch.rand(8) + 0.5)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) / self.p)


class one_over_parameter(divided_by_parameter):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.p.reciprocal())


class written_in_place(nn.Module):
    """A buffer of zeros filled part by part, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        out = x.new_zeros(x.shape[0], a.shape[1] + b.shape[1])
        out[:, : a.shape[1]] = a
        out[:, a.shape[1] :] += b
        return self.c(out.relu_())


class discarded_argsort(nn.Module):
    """Computed and thrown away: it neither marks nor freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        _ = x.argsort(dim=1), x.softmax(1).flip(1), x[:, -1] + 1
        return self.b(x)


class no_rows(nn.Module):
    """A parameter without entries, as of no register tokens at all, joined to others."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.extra = nn.Parameter(torch.zeros(0, 8))
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([self.extra, self.a(x)]).relu())


class discarded_branch(nn.Module):
    """Layers that run for nothing still have to fit: of all branches only the last is used. Nothing scores or marks."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.branches = nn.ModuleList([nn.Sequential(nn.Linear(8, 7), nn.LayerNorm(7)), nn.Linear(8, 7)])
        self.rows = nn.Parameter(torch.randn(8, 3))
        self.b = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        _ = (x.unsqueeze(2) * self.rows).view(x.shape[0], 8, 3)
        for branch in self.branches:
            out = branch(x)
        return self.b(out.relu())


_pixels = images(2, 3, 4, 4)
_tokens = images(2, 3, 6)
_rows = images(16, 6)
_last = Units("b:0 c:1", 7)

CASES = (
    Case(weight_of_another, _rows, (Units("a:0 b:1", 8), Units("b:0", 7))),
    Case(
        einsum_with_parameter,
        _tokens,
        (Units("a:0 mix:0", 8), Units("mix:1 out:0", 4), Units("mix:2 out:1", 3)),
    ),
    Case(bare_parameters, _rows, (Units("w1:1 b1:0 w2:0", 8),)),
    Case(
        lists_of_parameters,
        _rows,
        (Units("known.0:1 known.1:0 plain[0]:0", 8), Units("known.1:1 plain[1]['scale']:0 named.out:0", 7)),
    ),
    Case(buffers_and_attributes, _pixels, (Units("a:0 shift:1 scale:0 b:1", 8),)),
    Case(moving_average, _rows, (Units("a:0 average:0 b:1", 8),)),
    Case(remembers_activations, _rows, (Units("a:0 b:1", 8),)),
    Case(frozen_batch_norm, _pixels, (Units("a:0 norm.running_var:0 norm:0 b:1", 8),)),
    Case(frozen_parameters, _rows, (Units("a:0 b:1", 8), _last)),
    Case(parts_without_grad, _rows, (Units("a:0 b:1", 8), _last)),
    Case(
        never_used,
        _rows,
        (Units("block.b:0 c:1", 7),),
        (Frozen("block.a:0", "never ran", ""), Frozen("block.unused:0", "never ran", "")),
    ),
    Case(used_twice, _rows, (Units("stem:0 shared:0 shared:1 head:1", 8),)),
    Case(shared_by_two, _rows, (Units("a:0 b:1 back:0", 8), Units("b:0 back:1 last.bias:0 head:1", 7))),
    Case(one_storage, _rows, (Units("a:0 b:1", 7),), (Frozen("w1:0", "share memory", ""),)),
    Case(through_numpy, _rows, (_last,), (Frozen("a:0", "its data leave torch", ".numpy()"),)),
    Case(
        through_item,
        _rows,
        (Units("a:0 b:1", 8), Units("b:0 c:1", 7, reason="max", line="h.abs().max()", cautious=True)),
    ),
    Case(strided_by_hand, _rows, (_last,), (Frozen("a:0", "addresses memory", "as_strided"),)),
    Case(divided_by_parameter, _rows, (Units("a:0 p:0 b:1", 8),)),
    Case(one_over_parameter, _rows, (Units("a:0 p:0 b:1", 8),)),
    Case(written_in_place, _rows, (Units("a:0 c:1", 8), Units("b:0 c:1", 4))),
    Case(discarded_argsort, _rows, (Units("a:0 b:1", 8),)),
    Case(no_rows, _rows, (Units("a:0 extra:1 b:1", 8),)),
    Case(
        discarded_branch,
        _rows,
        (Units("branches.0.0:0 branches.0.1:0", 7), Units("branches.1:0 b:1", 7)),
        frozen=(Frozen("a:0", "its size is the literal 8", "view"),),
    ),
)
