"""Sums, means, extrema, norms, softmax, scans, sorting, losses."""

import torch
from torch.nn import functional as F

from rules.case import case, index, integers, known, mask, negative, positive, unit

# Why rules forbid more than they must.
ACCIDENT = "true of these values only"
LONGER_SIDE = "the smallest singular value is not made smaller by the longer side"
LOSS = "what a loss compares is an output of the model, and stays"
SCAN = "zeros add nothing to a running sum, but the sums at removed positions are no zeros"

aten = torch.ops.aten


def _mean(m: object, full: object) -> torch.Tensor:
    return m.x.sum(1) / full.x.shape[1]


CASES = [
    case("sum", lambda m: m.x.sum(1), x=(3, 4)),
    case("sum, kept", lambda m: m.x.sum(-1, keepdim=True), x=(3, 4)),
    case("sum, several", lambda m: m.x.sum((0, -1)), x=(3, 4, 5)),
    case("sum, all", lambda m: m.x.sum(), x=(3, 4)),
    case("sum, empty list", lambda m: m.x.sum([]), x=(3, 4)),
    case("sum, all kept", lambda m: m.x.sum((0, 1), keepdim=True), x=(3, 4)),
    case("sum, of heads, multiplied back", lambda m: m.x.sum(1, keepdim=True) * m.x, x=(3, 4, 5)),
    case("nansum", lambda m: m.x.nansum(1), x=(3, 4)),
    case("count_nonzero", lambda m: m.x.count_nonzero(1), x=(3, 4)),
    case("mean", lambda m: m.x.mean(1), x=(3, 4), counted=_mean),
    case("mean, all", lambda m: m.x.mean(), x=(3, 4), counted=lambda m, full: m.x.sum() / full.x.numel()),
    case(
        "mean, kept",
        lambda m: m.x.mean((0, 1), keepdim=True),
        x=(3, 4, 5),
        counted=lambda m, full: m.x.sum((0, 1), keepdim=True) / 12,
    ),
    case("nanmean", lambda m: m.x.nanmean(1), x=(3, 4), counted=_mean),
    case("vector_norm", lambda m: torch.linalg.vector_norm(m.x, dim=1), x=(3, 4)),
    case("vector_norm, of order 1", lambda m: torch.linalg.vector_norm(m.x, 1, dim=(0, -1), keepdim=True), x=(3, 4, 5)),
    case("vector_norm, largest", lambda m: torch.linalg.vector_norm(m.x, float("inf"), dim=1), x=(3, 4)),
    case("vector_norm, smallest", lambda m: torch.linalg.vector_norm(m.x, float("-inf"), dim=1), x=(3, 4)),
    case("vector_norm, of order 0", lambda m: torch.linalg.vector_norm(m.x, 0, dim=1), x=(3, 4)),
    case("norm", lambda m: m.x.norm(dim=1), x=(3, 4)),
    case("norm, all", lambda m: aten.norm(m.x), x=(3, 4)),
    case("norm, of order 3", lambda m: aten.norm(m.x, 3, [1], True), x=(3, 4)),
    case("frobenius_norm", lambda m: aten.frobenius_norm(m.x, [0, 1]), x=(3, 4)),
    case("linalg_norm", lambda m: torch.linalg.norm(m.x), x=(3, 4)),
    case(
        "linalg_norm, of a matrix",
        lambda m: torch.linalg.norm(m.x, 1),
        x=(3, 4),
        conservative=known(ACCIDENT, "marked x.1"),
    ),
    case("linalg_norm, spectral", lambda m: torch.linalg.norm(m.x, 2, dim=(0, 1)), x=(3, 4)),
    case(
        "linalg_norm, smallest singular value",
        lambda m: torch.linalg.norm(m.x, -2),
        x=(3, 4),
        conservative=known(LONGER_SIDE, "marked x.1"),
    ),
    case("linalg_norm, nuclear", lambda m: torch.linalg.norm(m.x, "nuc"), x=(3, 4)),
    case("var", lambda m: m.x.var(1, correction=0), x=(3, 4)),
    case("std", lambda m: m.x.std(1, correction=0, keepdim=True), x=(3, 4)),
    case("var_mean", lambda m: torch.var_mean(m.x, 1, correction=0), x=(3, 4)),
    case("std_mean", lambda m: torch.std_mean(m.x, 1, correction=0), x=(3, 4)),
    case("amax", lambda m: m.x.amax(1), x=negative(3, 4)),
    case("amax, all", lambda m: m.x.amax(), x=negative(3, 4)),
    case("amin", lambda m: m.x.amin((0, 1), keepdim=True), x=positive(3, 4)),
    case("aminmax", lambda m: m.x.aminmax(dim=1), x=positive(3, 4)),
    case("prod", lambda m: m.x.prod(1), x=(3, 4)),
    case("prod, all", lambda m: m.x.prod(), x=(3, 4)),
    case("logsumexp", lambda m: m.x.logsumexp(1), x=(3, 4)),
    case("all", lambda m: (m.x > 0.3).all(1), x=positive(3, 4)),
    case("all, all", lambda m: (m.x > 0.3).all(), x=positive(3, 4)),
    case("any", lambda m: (m.x < 0.3).any(1), x=positive(3, 4)),
    case("any, all", lambda m: m.x.any(), x=mask(3, 4)),
    case("median", lambda m: m.x.median(), x=(3, 5)),
    case("median, dim", lambda m: m.x.median(1).values, x=(3, 5)),
    case("nanmedian", lambda m: m.x.nanmedian(), x=(3, 5)),
    case("mode", lambda m: m.x.mode(1), x=integers(3, 5)),
    case("quantile", lambda m: m.x.quantile(0.3, 1), x=(3, 5)),
    case("quantile, several", lambda m: m.x.quantile(m.q, 1), x=(3, 5), q=unit(4)),
    case("quantile, of everything", lambda m: m.x.quantile(0.3), x=(3, 5)),
    case("nanquantile", lambda m: m.x.nanquantile(0.3, 1), x=(3, 5)),
    case("max", lambda m: m.x.max(), x=negative(3, 4)),
    case("max, dim", lambda m: m.x.max(1), x=negative(3, 4)),
    case("max, values only", lambda m: m.x.max(1, keepdim=True).values, x=negative(3, 4)),
    case("max, of two", lambda m: torch.max(m.x, m.y), x=(3, 4), y=(4,)),
    case("min", lambda m: m.x.min(), x=positive(3, 4)),
    case("min, dim", lambda m: m.x.min(-1).values, x=positive(3, 4)),
    case("min, of two", lambda m: torch.min(m.x, m.y), x=(3, 1), y=(3, 4)),
    case("argmax", lambda m: m.x.argmax(1), x=(3, 4)),
    case("argmax, all", lambda m: m.x.argmax(), x=(3, 4)),
    case("argmin", lambda m: m.x.argmin(1, keepdim=True), x=(3, 4)),
    case("kthvalue", lambda m: m.x.kthvalue(2, 1), x=(3, 4)),
    case("softmax", lambda m: m.x.softmax(1), x=(3, 4)),
    case("softmax, negative dim", lambda m: F.softmax(m.x, -2), x=(3, 4, 5)),
    case("_softmax", lambda m: aten._softmax(m.x, 1, False), x=(3, 4)),
    case("log_softmax", lambda m: m.x.log_softmax(1), x=(3, 4)),
    case("_log_softmax", lambda m: aten._log_softmax(m.x, 1, False), x=(3, 4)),
    case("_safe_softmax", lambda m: aten._safe_softmax(m.x, 1), x=(3, 4)),
    case("softmin", lambda m: F.softmin(m.x, 1), x=(3, 4)),
    case("cumsum", lambda m: m.x.cumsum(1), x=(3, 4), conservative=known(SCAN, "frozen x.1")),
    case("cumsum_", lambda m: m.x.clone().cumsum_(-1), x=(3, 4), conservative=known(SCAN, "frozen x.1")),
    case("cumprod", lambda m: m.x.cumprod(1), x=(3, 4)),
    case("cummax", lambda m: m.x.cummax(1), x=(3, 4)),
    case("cummin", lambda m: m.x.cummin(1), x=(3, 4)),
    case("logcumsumexp", lambda m: m.x.logcumsumexp(1), x=(3, 4)),
    case("diff", lambda m: m.x.diff(), x=(3, 4)),
    case("diff, along the first", lambda m: m.x.diff(dim=0), x=(3, 4)),
    case("diff, with something in front", lambda m: m.x.diff(dim=1, prepend=m.y), x=(3, 4), y=(3, 1)),
    case("sort", lambda m: m.x.sort(1), x=(3, 4)),
    case("sort, stable", lambda m: m.x.sort(dim=0, stable=True), x=(3, 4)),
    case("argsort", lambda m: m.x.argsort(1), x=(3, 4)),
    case("topk", lambda m: m.x.topk(3, 1), x=(3, 4)),
    case("topk, of everything", lambda m: m.x.topk(4), x=(3, 4)),
    case("msort", lambda m: m.x.msort(), x=(3, 4)),
    case("renorm", lambda m: m.x.renorm(2, 0, 0.5), x=(3, 4)),
    case("fft, real to complex", lambda m: aten._fft_r2c(m.x, [1], 0, True), x=(3, 4)),
    case("fft, complex to complex", lambda m: aten._fft_c2c(m.x.to(torch.complex128), [1], 0, True), x=(3, 4)),
    case("fft, complex to real", lambda m: aten._fft_c2r(m.x.to(torch.complex128), [1], 0, 6), x=(3, 4)),
]

LOSSES = [
    case("mse_loss", lambda m: F.mse_loss(m.x, m.y), x=(3, 4), y=(3, 4)),
    case("l1_loss", lambda m: F.l1_loss(m.x, m.y), x=(3, 4), y=(3, 4)),
    case("smooth_l1_loss", lambda m: F.smooth_l1_loss(m.x, m.y), x=(3, 4), y=(3, 4)),
    case("huber_loss", lambda m: F.huber_loss(m.x, m.y), x=(3, 4), y=(3, 4)),
    case("cross_entropy", lambda m: F.cross_entropy(m.x, m.y), x=(5, 4), y=index(4, 5)),
    case("nll_loss", lambda m: aten.nll_loss(m.x, m.y), x=(5, 4), y=index(4, 5)),
    case("nll_loss_nd", lambda m: aten.nll_loss_nd(m.x, m.y), x=(5, 4), y=index(4, 5)),
    case("nll_loss2d", lambda m: aten.nll_loss2d(m.x, m.y), x=(3, 4, 2, 2), y=index(4, 3, 2, 2)),
    case("binary_cross_entropy", lambda m: F.binary_cross_entropy(m.x, m.y), x=unit(3, 4), y=unit(3, 4)),
    case(
        "binary_cross_entropy_with_logits",
        lambda m: F.binary_cross_entropy_with_logits(m.x, m.y),
        x=(3, 4),
        y=unit(3, 4),
    ),
    case(
        "kl_div",
        lambda m: F.kl_div(m.x, m.y, reduction="batchmean"),
        x=(3, 4),
        y=unit(3, 4),
        conservative=known(LOSS, "frozen x.1", "frozen y.1"),
    ),
    case(
        "cosine_embedding_loss",
        lambda m: F.cosine_embedding_loss(m.x, m.y, m.t),
        x=(3, 4),
        y=(3, 4),
        t=torch.tensor([1.0, -1, 1]),
        conservative=known(LOSS, "frozen x.1", "frozen y.1"),
    ),
    case("poisson_nll_loss", lambda m: F.poisson_nll_loss(m.x, m.y), x=(3, 4), y=positive(3, 4)),
    case("soft_margin_loss", lambda m: F.soft_margin_loss(m.x, m.y), x=(3, 4), y=(3, 4)),
]
CASES += LOSSES
