"""Normalisations, gates, and statistics over channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from drive import Case, Frozen, Units, images
from torch import Tensor, nn

# ---------------------------------------------------------------- recurrent


# ---------------------------------------------------------------- embeddings


# ---------------------------------------------------------------- normalisation


class norms_of_channels(nn.Module):
    """Group norm takes statistics within a group: whole groups may go, channels of a group not exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.norm = nn.GroupNorm(3, 12)
        self.b = nn.Conv2d(12, 8, 1)
        self.instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.c = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.instance(self.b(self.norm(self.a(x)).relu())).relu())


class instance_norm_without_weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.norm = nn.InstanceNorm2d(8)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)).relu())


class batch_norm_without_weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)).relu())


class layer_norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.b = nn.Linear(8, 7)
        self.c = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.norm(self.a(x))).relu())


class rms_norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = nn.RMSNorm(8, eps=1e-5)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


class rms_norm_without_eps(nn.Module):
    """The smallest step of the dtype stands for it, and is not scaled: exact to rounding in each dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.RMSNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


class RootMeanSquare(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


class global_response_norm(nn.Module):
    """Channels are compared by their mean norm; the weight that takes its factor up is read in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
        self.weight, self.bias = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        relative = size / (size.mean(dim=1, keepdim=True) + self.eps)
        return self.b(x + torch.addcmul(self.bias.view(1, -1, 1, 1), self.weight.view(1, -1, 1, 1), x * relative))


class global_response_without_weight(global_response_norm):
    """What is added has no factor that could take anything up."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        relative = size / (size.mean(dim=1, keepdim=True) + self.eps)
        return self.b(torch.addcmul(self.bias.view(1, -1, 1, 1), x * self.weight.view(1, -1, 1, 1).sigmoid(), relative))


class rms_norm_in_turns(nn.Module):
    """One norm, called on two tensors, as in a prefill and a step after it: its weight takes the factor up once."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = RootMeanSquare(8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x))) * self.b(self.norm(self.a(x[:, :1])))


class rms_norm_by_hand(nn.Module):
    """As the large language models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = RootMeanSquare(8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


class local_response(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.norm = nn.LocalResponseNorm(3)
        self.b = nn.Conv2d(8, 6, 1)
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.norm(self.a(x))).relu())


class layer_scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.a = nn.Linear(8, 12)
        self.b = nn.Linear(12, 8)
        self.gamma = nn.Parameter(0.1 * torch.ones(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.gamma * self.b(F.gelu(self.a(x))))


class squeeze_excite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.reduce = nn.Conv2d(8, 4, 1)
        self.expand = nn.Conv2d(4, 8, 1)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.b(x * gate)


class gated_unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 8)
        self.up = nn.Linear(6, 8)
        self.down = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class prelu_per_channel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.act = nn.PReLU(8)
        self.b = nn.Conv2d(8, 6, 1)
        self.one = nn.PReLU()
        self.c = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.one(self.b(self.act(self.a(x)))))


# ---------------------------------------------------------------- parametrizations and masks


class l2_normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.normalize(self.a(x), dim=-1))


class mean_over_channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) + x.mean(1, keepdim=True)


class max_over_channels(mean_over_channels):
    """The spatial attention of CBAM: maximum and mean over channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = -self.a(x).abs()
        return self.b(x * x.amax(1, keepdim=True).sigmoid())


class sum_of_sigmoids(mean_over_channels):
    """sigmoid(0) is not 0: removed channels stay in the sum."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) + x.sigmoid().sum(1, keepdim=True)


class sum_of_products(mean_over_channels):
    """sigmoid(x) * x is 0 where x is."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) + (x.sigmoid() * x).sum(1, keepdim=True)


class softmax_over_channels(mean_over_channels):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).softmax(1))


_pixels = images(2, 3, 4, 4)
_tokens = images(2, 3, 6)
_rows = images(4, 6)

CASES = (
    Case(
        norms_of_channels,
        _pixels,
        (
            Units("a:0 norm:0 b:1", 3),
            Units("a:0 norm:0 b:1", 4, 3, "group norm", "self.norm(self.a(x))"),
            Units("b:0 instance:0 c:1", 8),
        ),
    ),
    Case(instance_norm_without_weights, _pixels, (Units("a:0 b:1", 8),)),
    Case(
        batch_norm_without_weights,
        _pixels,
        (Units("a:0 norm.running_mean:0 b:1", 8),),
    ),
    Case(
        layer_norm,
        _tokens,
        (Units("a:0 norm:0 b:1", 8, reason="layer norm", line="self.norm(self.a(x))"), Units("b:0 c:1", 7)),
    ),
    Case(rms_norm, _tokens, (Units("a:0 norm:0 b:1", 8, reason="rms norm", line="self.norm(self.a(x))"),)),
    Case(rms_norm_without_eps, _tokens, (Units("a:0 norm:0 b:1", 8, reason="rms norm", line="self.norm(self.a(x))"),)),
    Case(global_response_norm, _pixels, (Units("a:0 weight:0 bias:0 b:1", 8, reason="mean", line="size.mean("),)),
    Case(
        global_response_without_weight,
        _pixels,
        (Units("a:0 weight:0 bias:0 b:1", 8, reason="mean", line="size.mean("),),
    ),
    Case(rms_norm_in_turns, _tokens, (Units("a:0 norm:0 b:1", 8, reason="mean", line="x.pow(2).mean("),)),
    Case(rms_norm_by_hand, _tokens, (Units("a:0 norm:0 b:1", 8, reason="mean", line="x.pow(2).mean("),)),
    Case(
        local_response,
        _pixels,
        (Units("b:0 c:1", 6),),
        (Frozen("a:0", "", "self.norm(self.a(x))"),),
    ),
    Case(layer_scale, _tokens, (Units("stem:0 a:1 b:0 gamma:0 head:1", 8), Units("a:0 b:1", 12))),
    Case(squeeze_excite, _pixels, (Units("a:0 reduce:1 expand:0 b:1", 8), Units("reduce:0 expand:1", 4))),
    Case(gated_unit, _tokens, (Units("gate:0 up:0 down:1", 8),)),
    Case(prelu_per_channel, _pixels, (Units("a:0 act:0 b:1", 8), Units("b:0 c:1", 6))),
    Case(l2_normalised, _rows, (Units("a:0 b:1", 8),)),
    Case(mean_over_channels, _pixels, (Units("a:0 b:1", 8, reason="mean", line="x.mean(1"),)),
    Case(max_over_channels, _pixels, (Units("a:0 b:1", 8, reason="amax", line="x.amax(1"),)),
    Case(sum_of_sigmoids, _pixels, (Units("a:0 b:1", 8, reason="sum", line="x.sigmoid().sum(1"),)),
    Case(sum_of_products, _pixels, (Units("a:0 b:1", 8),)),
    Case(softmax_over_channels, _pixels, (Units("a:0 b:1", 8, reason="softmax", line=".softmax(1)"),)),
)
