"""Queries and keys with fewer head dims: the directions that the scores need most, in the place of the dims that stay.

With q and k the outputs of two products for one head, [D] each, and new ones q' = A q, k' = B k of r dims, the scores
q^T k become q^T A^T B k. For queries and keys that are independent of each other, the mean square of what they lack is

    tr(Cq (I - P) Ck (I - P)^T),    P = A^T B,   Cq = mean q q^T,   Ck = mean k k^T

which is least for P = R V V^T R^+, with R = Ck^(1/2) and V the r leading eigenvectors of R Cq R (Eckart & Young, "The
approximation of one matrix by another of lower rank", 1936, for Cq^(1/2) Ck^(1/2)). Of several queries that share a key
Cq is the sum. Before a softmax over the keys, k counts about its mean: what all keys share cancels. A and B are linear
in the outputs of the products, so they go into the weights and biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_pruning.graph.graph import Graph
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.surgery import scale_positions
from torch_pruning.progress import progress
from torch_pruning.recovery.observe import Product, at_rest
from torch_pruning.recovery.options import Options
from torch_pruning.recovery.outputs import Turn
from torch_pruning.recovery.precision import widest
from torch_pruning.recovery.scores import Heads, Source
from torch_pruning.recovery.targets import sample

_DAMPINGS = (0.0, 1e-4, 1e-2)  # of the mean of the diagonals


@dataclass(frozen=True, slots=True)
class MatchedHeads:
    """Scores of one place: the mean square of what they lack, relative to their own, before and after."""

    query: str
    key: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class _Site:
    """Heads that lose dims: which of them stay, [keys, r], and where the pruned weights have them."""

    heads: Heads
    kept: Tensor
    queries: Tensor  # [keys, queries, r]
    keys: Tensor  # [keys, r]


def match_heads(
    graph: Graph, plan: Plan, found: Sequence[Heads], batches: Sequence[Any], options: Options
) -> tuple[dict[Source, list[Turn]], list[MatchedHeads]]:
    """How outputs of products are combined for the scores found, and what comes of it; the model is only run."""
    sites = [site for heads in found if (site := _site(heads, plan)) is not None]
    turns: dict[Source, list[Turn]] = {}
    report = []
    for site, (fit, held_out) in zip(sites, _observed(graph, sites, batches, options), strict=True):
        if not fit.complete:
            continue
        query, key, before, after = _best(site, fit, held_out)
        heads = site.heads
        report.append(MatchedHeads(heads.query.weight, heads.key.weight, before, after))
        of_queries = query.repeat_interleave(heads.queries.shape[1], 0)
        turns.setdefault(heads.query, []).append(
            Turn(site.queries.flatten(0, 1), heads.queries.flatten(0, 1), of_queries)
        )
        turns.setdefault(heads.key, []).append(Turn(site.keys, heads.keys, key))
    return turns, report


def _site(heads: Heads, plan: Plan) -> _Site | None:
    """What of the heads stays; None where no dim goes, or where heads go unevenly."""
    queries, keys = _places(heads.query, heads.queries, plan), _places(heads.key, heads.keys, plan)
    if queries is None or keys is None:
        return None
    stay = (keys >= 0).any(-1)
    queries, keys, of_queries = queries[stay], keys[stay], heads.queries[stay]
    alive = (queries >= 0).any(-1)
    if not len(keys) or len(set(alive.sum(1).tolist())) != 1 or not alive.any():
        return None
    queries = queries[alive].view(len(keys), -1, keys.shape[-1])
    of_queries = of_queries[alive].view(queries.shape)
    counts = set((keys >= 0).sum(-1).tolist())
    if not bool(((queries >= 0) == (keys >= 0)[:, None]).all()) or len(counts) != 1 or counts == {keys.shape[-1]}:
        return None
    kept = (keys >= 0).nonzero()[:, 1].view(len(keys), -1)
    at = kept[:, None].expand(*queries.shape[:2], -1)
    left = Heads(heads.query, heads.key, of_queries, heads.keys[stay], heads.softmax, heads.where)
    return _Site(left, kept, queries.gather(2, at), keys.gather(1, kept))


def _places(source: Source, rows: Tensor, plan: Plan) -> Tensor | None:
    """Where the pruned weight has these of its outputs, -1 for those that are gone."""
    kept = plan.kept.get(source.weight, {}).get(source.dim)
    if kept is None or source.weight in plan.blocks:
        return None
    place = torch.full((plan.shapes[source.weight][source.dim],), -1)
    place[list(kept)] = torch.arange(len(kept))
    return place[rows]


# ---------------------------------------------------------------- what is observed


class _Seconds:
    """Sums of q q^T [keys, D, D] over the queries of each key, of k k^T [keys, D, D] and of k [keys, D]."""

    def __init__(self) -> None:
        self.counts = [0, 0]
        self.query = self.key = self.mean = torch.zeros(())

    @property
    def complete(self) -> bool:
        """Whether both sides have been seen."""
        return all(self.counts)

    def add_queries(self, rows: Tensor) -> None:
        """[N, keys, queries, D]"""
        self.counts[0] += len(rows)
        flat = rows.transpose(0, 1).flatten(1, 2)  # (keys, N * queries, D)
        self.query = self.query.to(flat.device) + (flat.mT @ flat).to(widest(flat.device))

    def add_keys(self, rows: Tensor) -> None:
        """[N, keys, D]"""
        self.counts[1] += len(rows)
        flat, wide = rows.transpose(0, 1), widest(rows.device)
        self.key = self.key.to(flat.device) + (flat.mT @ flat).to(wide)
        self.mean = self.mean.to(flat.device) + flat.to(wide).sum(1)

    def means(self, softmax: bool) -> tuple[Tensor, Tensor]:
        """(mean q q^T, mean k k^T), the latter about the mean of k under a softmax."""
        mean = self.mean / self.counts[1]
        key = self.key / self.counts[1]
        return self.query / self.counts[0], key - mean[:, :, None] * mean[:, None] if softmax else key

    def with_(self, other: _Seconds) -> _Seconds:
        """The sums of both."""
        total = _Seconds()
        total.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        for name in ("query", "key", "mean"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total


def _observed(
    graph: Graph, sites: Sequence[_Site], batches: Sequence[Any], options: Options
) -> list[tuple[_Seconds, _Seconds]]:
    """Second moments of the dense model's queries and keys for each site: of rows to fit to, and of rows held out."""
    found = [(_Seconds(), _Seconds()) for _ in sites]
    if not sites:
        return found
    most = max(64, options.rows // len(batches))
    names = {source.weight for site in sites for source in (site.heads.query, site.heads.key)}

    def visit(product: Product) -> Tensor | None:
        if product.name not in names:
            return None
        out = product.call.run()
        index = sample(product.call.positions(out), most, (product.name, product.use), 0).to(out.device)
        rows = product.call.outputs(out, index)
        border = len(rows) - int(len(rows) * options.held_out)
        for site, parts in zip(sites, found, strict=True):
            for part, some in zip(parts, (rows[:border], rows[border:]), strict=True):
                if len(some) and product.name == site.heads.query.weight:
                    part.add_queries(some[:, site.heads.queries.to(some.device)])
                if len(some) and product.name == site.heads.key.weight:
                    part.add_keys(some[:, site.heads.keys.to(some.device)])
        return out

    with at_rest(graph.model, graph.example) as runner, progress("Queries and keys", total=len(batches)) as bar:
        for batch in batches:
            runner.run(batch, visit)
            bar.advance()
    return found


# ---------------------------------------------------------------- what is solved


def _best(site: _Site, fit: _Seconds, held_out: _Seconds) -> tuple[Tensor, Tensor, float, float]:
    """(A, B) [keys, r, D] and the relative losses before and after. Of each head the damping that does best on what was
    held out; the dims that stay as they are where that does better still."""
    softmax = site.heads.softmax
    whole = fit.with_(held_out)
    kept = torch.nn.functional.one_hot(site.kept, site.heads.keys.shape[-1]).to(whole.query)
    query, key = whole.means(softmax)
    candidates = [(kept, kept), *(directions(query, key, kept, damping) for damping in _DAMPINGS)]
    if held_out.complete:
        of_fit = [(kept, kept), *(directions(*fit.means(softmax), kept, damping) for damping in _DAMPINGS)]
        judged = torch.stack([loss(*held_out.means(softmax), *pair) for pair in of_fit])
    else:
        judged = torch.stack([loss(query, key, *pair) for pair in candidates[:2]])
    losses = torch.stack([loss(query, key, *pair) for pair in candidates])
    judged = judged.masked_fill(losses[: len(judged)] > losses[0], torch.inf)
    chosen = judged.argmin(0)
    heads = torch.arange(len(chosen), device=chosen.device)
    left, right = (torch.stack([pair[side] for pair in candidates])[chosen, heads] for side in (0, 1))
    total = float((query * key.mT).sum()) or 1.0
    return left, right, float(losses[0].sum()) / total, float(losses[chosen, heads].sum()) / total


def loss(query: Tensor, key: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """tr(Cq (I - P) Ck (I - P)^T), P = left^T right, for each head: [keys]."""
    rest = torch.eye(query.shape[-1], dtype=query.dtype, device=query.device) - left.mT @ right
    return ((query @ rest) * (rest @ key.mT)).sum((-2, -1))


def directions(query: Tensor, key: Tensor, kept: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """(A, B) of least loss for Cq, Ck [keys, D, D], turned so that q' and k' resemble the dims that stay, `kept` [keys,
    r, D], as far as they can."""
    eye = torch.eye(query.shape[-1], dtype=query.dtype, device=query.device)
    query, key = (c + damping * c.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * eye for c in (query, key))
    values, vectors = torch.linalg.eigh(key)
    values = values.clamp_min(0)
    there = values > torch.finfo(torch.float32).eps * values.amax(-1, keepdim=True)
    inverse = torch.where(there, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), torch.zeros_like(values))
    root = (vectors * values.sqrt()[:, None]) @ vectors.mT
    strengths, leading = torch.linalg.eigh(root @ query @ root)
    leading, strengths = leading[..., -kept.shape[1] :], strengths[:, -kept.shape[1] :]
    left, right = leading.mT @ root, leading.mT @ ((vectors * inverse[:, None]) @ vectors.mT)
    # Queries and keys keep the ratio of their sizes: q' has the variances `strengths`, k' has ones.
    ratio = _trace(kept @ query @ kept.mT) / _trace(kept @ key @ kept.mT).clamp_min(torch.finfo(key.dtype).tiny)
    floor = 1e-8 * strengths[:, -1:].clamp_min(torch.finfo(key.dtype).tiny)
    growth = (ratio[:, None].clamp_min(torch.finfo(key.dtype).tiny) / strengths.clamp_min(floor)) ** 0.25
    left, right = left * growth[..., None], right / growth[..., None]
    alike = kept @ query @ left.mT + ratio[:, None, None] * kept @ key @ right.mT
    before, _, after = torch.linalg.svd(alike)
    turn = before @ after
    return turn @ left, turn @ right


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


# ---------------------------------------------------------------- what is written


def turned_tensors(model: nn.Module, plan: Plan, turns: Mapping[Source, Sequence[Turn]]) -> dict[str, Tensor]:
    """{name: what the pruned model's weights and biases become}, from those of the dense model."""
    made = {}
    for source, some in turns.items():
        made[source.weight] = _turned(model.get_parameter(source.weight), source.weight, source.dim, plan, some)
        if source.bias is not None:
            made[source.bias] = _turned(model.get_parameter(source.bias), source.bias, 0, plan, some)
    return made


def _turned(tensor: Tensor, name: str, dim: int, plan: Plan, turns: Sequence[Turn]) -> Tensor:
    dense = tensor.detach().clone()
    for (scaled, along, places), factor in plan.scales.items():
        if scaled == name:
            scale_positions(dense, along, places, factor)
    kept = {along: torch.tensor(stays, device=dense.device) for along, stays in plan.kept[name].items()}
    for along, stays in kept.items():
        if along != dim:
            dense = dense.index_select(along, stays)
    pruned = dense.index_select(dim, kept[dim])
    for turn in turns:
        pruned = turn.put(pruned, dense, dim)
    return pruned
