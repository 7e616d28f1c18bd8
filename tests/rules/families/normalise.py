"""Normalisations."""

import torch
from torch.nn import functional as F

from rules.case import case, known, positive

# Why rules forbid more than they must.
STATISTICS = "the zeros of returned statistics are not followed"

aten = torch.ops.aten


def _counted_rms(m: object, full: object) -> torch.Tensor:
    mean = m.x.square().sum(-1, keepdim=True) / full.x.shape[-1]
    return m.x * (mean + 1e-3).rsqrt() * m.w


def _batch_norm(m: object, training: bool = False) -> torch.Tensor:
    return F.batch_norm(m.x, m.mean.clone(), m.var.clone(), m.w, m.b, training, 0.1, 1e-3)


def _batch_norm_in_training(m: object) -> torch.Tensor:
    return _batch_norm(m, True)


BATCH = {"x": (3, 4, 5), "w": (4,), "b": (4,), "mean": (4,), "var": positive(4)}

CASES = [
    case("batch_norm", lambda m: F.batch_norm(m.x, m.mean, m.var, m.w, m.b), **BATCH),
    case("batch_norm, no weights", lambda m: F.batch_norm(m.x, m.mean, m.var), x=(3, 4), mean=(4,), var=positive(4)),
    case("batch_norm, training", lambda m: F.batch_norm(m.x, m.mean, m.var, m.w, m.b, True), train=True, **BATCH),
    case(
        "batch_norm, no statistics",
        lambda m: F.batch_norm(m.x, None, None, m.w, m.b, True),
        x=(3, 4, 5),
        w=(4,),
        b=(4,),
    ),
    case("batch_norm, bare", lambda m: F.batch_norm(m.x, None, None, training=True), x=(3, 4, 5)),
    case(
        "native_batch_norm",
        lambda m: torch.native_batch_norm(m.x, m.w, m.b, m.mean, m.var, False, 0.1, 1e-3),
        twin=_batch_norm,
        **BATCH,
    ),
    case(
        "_native_batch_norm_legit",
        lambda m: aten._native_batch_norm_legit(m.x, m.w, m.b, m.mean, m.var, True, 0.1, 1e-3),
        twin=_batch_norm_in_training,
        **BATCH,
        conservative=known(STATISTICS, "nonzero x.1 of output 1"),
    ),
    case(
        "_native_batch_norm_legit_no_training",
        lambda m: aten._native_batch_norm_legit_no_training(m.x, m.w, m.b, m.mean, m.var, 0.1, 1e-3),
        twin=_batch_norm,
        **BATCH,
    ),
    case(
        "_batch_norm_impl_index",
        lambda m: torch._batch_norm_impl_index(m.x, m.w, m.b, m.mean, m.var, False, 0.1, 1e-3, False)[:3],
        twin=_batch_norm,
        **BATCH,
    ),
    case(
        "cudnn_batch_norm",
        lambda m: torch.cudnn_batch_norm(m.x, m.w, m.b, m.mean, m.var, True, 0.1, 1e-3)[:1],
        real=lambda m: F.batch_norm(m.x, m.mean, m.var, m.w, m.b, True, 0.1, 1e-3),
        **BATCH,
    ),
    case(
        "_batch_norm_with_update",
        lambda m: aten._batch_norm_with_update(m.x, m.w, m.b, m.mean, m.var, 0.1, 1e-3),
        twin=_batch_norm_in_training,
        **BATCH,
        conservative=known(STATISTICS, "nonzero x.1 of output 1"),
    ),
    case("layer_norm", lambda m: F.layer_norm(m.x, (m.n,), m.w, m.b), x=(3, 4), w=(4,), b=(4,), n=4),
    case(
        "layer_norm, two dims",
        lambda m: F.layer_norm(m.x, (m.a, m.n), m.w, m.b),
        x=(3, 4, 5),
        w=(4, 5),
        b=(4, 5),
        a=4,
        n=5,
    ),
    case("layer_norm, bare", lambda m: F.layer_norm(m.x, (m.n,)), x=(3, 4), n=4),
    case("layer_norm, shape as a literal", lambda m: F.layer_norm(m.x, (4,), m.w), x=(3, 4), w=(4,)),
    case(
        "native_layer_norm",
        lambda m: torch.native_layer_norm(m.x, (m.n,), m.w, m.b, 1e-3),
        x=(3, 4),
        w=(4,),
        b=(4,),
        n=4,
        conservative=known(STATISTICS, "nonzero x.0 of output 1"),
    ),
    case("rms_norm", lambda m: F.rms_norm(m.x, (m.n,), m.w, 1e-3), x=(3, 4), w=(4,), n=4, counted=_counted_rms),
    case(
        "rms_norm, bare",
        lambda m: F.rms_norm(m.x, (m.n,), eps=1e-3),
        x=(3, 4),
        n=4,
        counted=lambda m, full: m.x * (m.x.square().sum(-1, keepdim=True) / full.x.shape[-1] + 1e-3).rsqrt(),
    ),
    case(
        "_fused_rms_norm",
        lambda m: aten._fused_rms_norm(m.x, [m.n], m.w, 1e-3)[0],
        x=(3, 4),
        w=(4,),
        n=4,
        counted=_counted_rms,
    ),
    case("group_norm", lambda m: F.group_norm(m.x, m.g, m.w, m.b), x=(2, 9, 4), w=(9,), b=(9,), g=3),
    case("group_norm, one group", lambda m: F.group_norm(m.x, 1, m.w, m.b), x=(2, 4, 3), w=(4,), b=(4,)),
    case("group_norm, a group for each", lambda m: F.group_norm(m.x, m.g, m.w, m.b), x=(2, 4, 3), w=(4,), b=(4,), g=4),
    case("group_norm, bare", lambda m: F.group_norm(m.x, m.g), x=(2, 9, 4), g=3),
    case(
        "native_group_norm",
        lambda m: aten.native_group_norm(m.x, m.w, m.b, 2, 9, 4, 3, 1e-3),
        x=(2, 9, 4),
        w=(9,),
        b=(9,),
        twin=lambda m: F.group_norm(m.x, 3, m.w, m.b, 1e-3),
    ),
    case("instance_norm", lambda m: F.instance_norm(m.x, None, None, m.w, m.b), x=(3, 4, 5), w=(4,), b=(4,)),
    case("instance_norm, bare", lambda m: F.instance_norm(m.x), x=(3, 4, 5)),
    case(
        "instance_norm, running statistics",
        lambda m: F.instance_norm(m.x, m.mean, m.var, m.w, m.b, use_input_stats=False),
        **BATCH,
    ),
    case("_weight_norm", lambda m: torch._weight_norm(m.v, m.g, 0), v=(3, 4, 5), g=(3, 1, 1)),
    case("_weight_norm, another dim", lambda m: torch._weight_norm(m.v, m.g, 1), v=(3, 4, 5), g=(1, 4, 1)),
    case("_weight_norm, of everything", lambda m: torch._weight_norm(m.v, m.g, -1), v=(3, 4), g=()),
    case("_weight_norm_interface", lambda m: torch._weight_norm_interface(m.v, m.g, 0), v=(3, 4, 5), g=(3, 1, 1)),
    case("normalize", lambda m: F.normalize(m.x, dim=1), x=(3, 4)),
]
