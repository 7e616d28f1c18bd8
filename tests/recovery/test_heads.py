"""Queries and keys that lose head dims: the scores of what stays against closed forms, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.recovery.models import Decoder, GatedBlock, StockEncoder
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pruning as tp
from torch_pruning import recovery

EXACT = {"strengths": (0.0,), "held_out": 0.0}


class Scores(nn.Module):
    """Nothing but scores: [1, T, 6] and [1, S, 5] -> [1, heads, T, S], queries of several heads sharing a key."""

    def __init__(self, heads: int = 2, keys: int = 2) -> None:
        super().__init__()
        self.heads, self.keys = heads, keys
        self.q, self.k = nn.Linear(6, heads * 8), nn.Linear(5, keys * 8)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.k(z).unflatten(-1, (self.keys, -1)).transpose(1, 2)
        shared = k[:, :, None].expand(-1, -1, self.heads // self.keys, -1, -1).flatten(1, 2)
        return q @ shared.mT * 0.5


@pytest.mark.parametrize(("heads", "keys"), [(1, 1), (2, 2), (4, 2), (3, 1)])
def test_scores_are_the_best_of_their_rank(heads: int, keys: int) -> None:
    """Over all pairs of positions the scores of a key have rank 8: of rank 4, the leading part is the best."""
    net = Scores(heads, keys).double()
    x, z = torch.randn(1, 40, 6).double(), torch.randn(1, 30, 5).double()
    dense = net(x, z).detach()
    plan = tp.plan(net, (x, z), pruning_ratio=0.5)
    report = recovery.reconstruct(plan, [(x, z)], **EXACT)
    assert net.q.out_features == heads * 4
    stacked = dense[0].reshape(keys, -1, 30)
    u, s, v = torch.linalg.svd(stacked, full_matrices=False)
    best = (u[..., :4] * s[:, None, :4]) @ v[:, :4]
    torch.testing.assert_close(net(x, z).reshape(best.shape), best, rtol=0, atol=1e-8)
    (row,) = report.heads
    assert row.after == pytest.approx(float(s[:, 4:].square().sum() / s.square().sum()), abs=1e-10)
    assert row.after < row.before


class Attention(nn.Module):
    """Attention as it is written in different places, on top of one weight for q, k and v or one each."""

    def __init__(self, fused: bool = False, written: str = "fused op") -> None:
        super().__init__()
        self.fused, self.written = fused, written
        self.qkv = nn.Linear(12, 48) if fused else nn.ModuleList(nn.Linear(12, 16) for _ in range(3))
        self.out = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv)
        if self.written == "fused op":
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * 0.4) @ k.mT).softmax(-1) @ v
        return x + self.out(mixed.transpose(1, 2).flatten(2))


def of_low_rank(net: Attention, offset: float = 0.0) -> None:
    """Keys of rank 4 in each head of 8 dims, and one offset for all of them."""
    weight, bias = (net.qkv.weight, net.qkv.bias) if net.fused else (net.qkv[1].weight, net.qkv[1].bias)
    rows = weight.data[16:32] if net.fused else weight.data
    of_bias = bias.data[16:32] if net.fused else bias.data
    for head in range(2):
        at = slice(8 * head, 8 * head + 8)
        rows[at] = torch.randn(8, 4).double() @ torch.randn(4, 12).double() / 4
    of_bias[:] = offset * torch.randn(16)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("written", ["fused op", "by hand"])
@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_nothing_is_lost_where_the_rank_suffices(fused: bool, written: str, offset: float) -> None:
    """Before a softmax, what all keys share (an offset) takes no rank."""
    net = Attention(fused, written).double()
    of_low_rank(net, offset)
    x = torch.randn(24, 9, 12).double()
    names = ["qkv"] if fused else ["qkv.0", "qkv.1"]
    options: dict[str, Any] = {"ratios": dict.fromkeys(names, 0.5), "pruning_ratio": 0.5, "ignore": ["out.*"]}
    if not fused:
        options["ignore"] = ["out.*", "qkv.2.*"]
    else:  # values have the same head dims as queries and keys: those that go are not missed
        values = net.qkv.weight.data[32:]
        values[:], net.qkv.bias.data[32:] = 0, 0
    dense, unmatched = net(x).detach(), copy.deepcopy(net)
    recovery.reconstruct(tp.plan(unmatched, x[:2], **options), [x], scores=False)
    report = recovery.reconstruct(tp.plan(net, x[:2], **options), [x], **EXACT)
    (row,) = report.heads
    assert row.before > 0.01
    assert row.after < 1e-12
    torch.testing.assert_close(net(x), dense, rtol=0, atol=1e-8)
    if not fused:
        assert (unmatched(x) - dense).norm() > 1e-3 * dense.norm(), "nothing is lost without: nothing to show"


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "grouped queries": (GatedBlock, lambda: torch.randn(24, 9, 16)),
    "decoder": (Decoder, lambda: torch.randint(31, (24, 12))),
    "stock": (StockEncoder, lambda: torch.randn(24, 9, 6)),
    "fused": (lambda: Attention(True), lambda: torch.randn(24, 9, 12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_never_further_off_and_two_steps_are_as_good_as_one(name: str) -> None:
    make, inputs = MODELS[name]
    model, x = make().eval(), inputs()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(2)
    pruner = tp.Pruner(model, x[:2], pruning_ratio=0.5, calibration=x.split(8))
    for step in pruner.steps(2):
        rows = step.report.recovery.heads
        assert len(rows) == (2 if name == "decoder" else 1)
        assert all(row.after < row.before for row in rows)
        assert "of the scores" in str(step.report.recovery)


class Rotary(Attention):
    """Positions turn queries and keys before they meet."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv)
        angles = torch.arange(x.shape[1], device=x.device)[:, None].to(x).expand(-1, q.shape[-1] // 2)
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        q, k = (t * cos + torch.cat((-t.chunk(2, -1)[1], t.chunk(2, -1)[0]), -1) * sin for t in (q, k))
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Normed(Attention):
    """A norm between keys and scores."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv)
        k = F.normalize(k, dim=-1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Elsewhere(Attention):
    """Queries that are also used for something else."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.qkv[0](x)
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (flat, self.qkv[1](x), self.qkv[2](x)))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed) * flat.sum(-1, keepdim=True)


@pytest.mark.parametrize(("make", "reason"), [(Rotary, "rotary"), (Normed, "norm"), (Elsewhere, "elsewhere")])
def test_other_scores_are_left_alone_and_named(make: Callable[[], nn.Module], reason: str) -> None:
    net = make().double()
    x = torch.randn(24, 9, 12).double()
    plan, alone = tp.plan(net, x[:2], pruning_ratio=0.5), copy.deepcopy(net)
    plan.exec(model=alone)
    report = recovery.reconstruct(plan, [x])
    assert not report.heads
    assert reason in report.refused[-1].reason
    assert net.qkv[0].weight.equal(alone.qkv[0].weight)


def test_queries_and_keys_are_put_back_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Attention()
    x = torch.randn(8, 9, 12)
    plan = tp.plan(net, x[:2], pruning_ratio=0.5)
    before = copy.deepcopy(net.state_dict())

    def fails(*args: Any) -> None:
        assert net.qkv[0].weight.shape == (8, 12)
        raise RuntimeError("cracked")

    monkeypatch.setattr(recovery.execute.__globals__["Reconstruction"], "solve", fails)
    with pytest.raises(RuntimeError, match="cracked"):
        recovery.reconstruct(plan, [x])
    assert all(before[name].equal(tensor) for name, tensor in net.state_dict().items())
