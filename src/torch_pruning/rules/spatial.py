"""Pooling, resampling, unfolding: pixels mix, channels pass."""

from __future__ import annotations

from torch_pruning.axes.expression import Axis, Fixed, product
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import NOWHERE, Along, Law
from torch_pruning.rules.operand import Operand
from torch_pruning.rules.registry import rule


def _spatial(op: OpCall, x: Operand, first: int, text: str) -> tuple[Axis, ...]:
    """The axes of the output: those before dimension `first` pass, the others are frozen and new."""
    for axis in x.axes[first:]:
        op.freeze(axis, text)
    op.mixes(x, *range(first, x.rank))
    return (*x.axes[:first], *op.fixed(op.output_shapes[0][first:]))


def _trailing(base: str) -> int:
    return int(next(c for c in base.replace("_with_indices", "") if c in "123"))


@rule(
    *(
        f"aten.{kind}_pool{d}d"
        for kind in ("max", "avg", "adaptive_avg", "_adaptive_avg", "adaptive_max", "fractional_max")
        for d in (1, 2, 3)
        if (kind, d) not in (("fractional_max", 1), ("_adaptive_avg", 1))
    ),
    "aten.max_pool1d_with_indices",
    "aten.max_pool2d_with_indices",
    "aten.max_pool3d_with_indices",
)
def pool(op: OpCall) -> Outcome:
    """[..., C, H, W] -> [..., C, H', W']. The window of zeros is zero, for maxima too."""
    x = op.tensors()[0]
    first = x.rank - _trailing(op.op.split(".")[1])
    axes = _spatial(op, x, first, "pooling window")
    samples = op.arguments.get("random_samples")
    if samples is not None:  # [B, C, dims]
        for axis, other in zip(x.axes[:first], samples.axes[-1 - first : -1], strict=True):
            op.unify(axis, other)
        op.freeze(samples.axes[-1], "pooling window")
    # A second output says where the maxima were.
    return op.outcome(*(axes for _ in op.output_shapes), zero=[x, *(NOWHERE for _ in op.output_shapes[1:])])


@rule(
    *(
        f"aten.upsample_{kind}"
        for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
    ),
    *(
        f"aten._upsample_{kind}"
        for kind in ("nearest_exact1d", "nearest_exact2d", "nearest_exact3d", "bilinear2d_aa", "bicubic2d_aa")
    ),
)
def upsample(op: OpCall) -> Outcome:
    """[B, C, H, W] -> [B, C, H', W']."""
    x = op.tensors()[0]
    return op.outcome(_spatial(op, x, 2, "resampled"), zero=x)


@rule("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def grid_sampler(op: OpCall) -> Outcome:
    """[B, C, H, W] at [B, H', W', 2] -> [B, C, H', W']."""
    x, grid = op.operands("input", "grid")
    op.unify(x.axes[0], grid.axes[0])
    op.freeze(grid.axes[-1], "coordinates")
    for axis in x.axes[2:]:
        op.freeze(axis, "sampled positions")
    op.mixes(x, *range(2, x.rank))
    return op.outcome((*x.axes[:2], *grid.axes[1:-1]), zero=Along(x, x.axes[:2]))


@rule("aten.affine_grid_generator")
def affine_grid(op: OpCall) -> Outcome:
    (theta,) = op.operands("theta")
    op.freeze_all(theta, "affine transform")
    return op.outcome(op.fixed(op.output_shapes[0]))


@rule("aten.im2col")
def im2col(op: OpCall) -> Outcome:
    """[B, C, H, W] -> [B, C * kh*kw, L]."""
    x = op.tensors()[0]
    kernel = op.get("kernel_size")
    channel = x.rank - 3
    for axis in x.axes[-2:]:
        op.freeze(axis, "sliding window")
    op.mixes(x, -2, -1)
    taps = Fixed(kernel[0] * kernel[1])
    return op.outcome((*x.axes[:channel], product((x.axes[channel], taps)), Fixed(op.output_shapes[0][-1])), zero=x)


@rule("aten.col2im")
def col2im(op: OpCall) -> Outcome:
    """[B, C * kh*kw, L] -> [B, C, H, W]."""
    x = op.tensors()[0]
    kernel = op.get("kernel_size")
    channel = x.rank - 2
    channels, taps = op.split(
        x.axes[channel], x.axes[channel].size // (kernel[0] * kernel[1]), "taps of a sliding window"
    )
    op.freeze(taps, "taps of a sliding window")
    op.freeze(x.axes[-1], "sliding window")
    op.mixes(Operand(-1, (channels, taps, x.axes[-1])), 1, 2)
    return op.outcome((*x.axes[:channel], channels, *op.fixed(op.output_shapes[0][-2:])), zero=x)


@rule("aten.unfold", "aten.unfold_copy")
def unfold(op: OpCall) -> Outcome:
    """[A, B], 1, size, step -> [A, windows, size]."""
    (x,) = op.operands("self")
    dim = op.get("dimension") % x.rank
    op.freeze(x.axes[dim], "sliding window")
    op.mixes(x, dim)
    shape = op.output_shapes[0]
    return op.outcome((*x.axes[:dim], Fixed(shape[dim]), *x.axes[dim + 1 :], Fixed(shape[-1])), zero=x)


@rule(
    "torchvision.nms",
    "torchvision.roi_align",
    "torchvision.roi_pool",
    "torchvision.ps_roi_align",
)
def region_ops(op: OpCall) -> Outcome:
    """roi_align pools regions: channels of the features pass; everything else is coordinates."""
    first, *others = op.tensors()
    for operand in others:
        op.freeze_all(operand, "coordinates of regions")
    if op.op.split(".")[1] in ("roi_align", "roi_pool"):
        for dim in (0, 2, 3):
            op.freeze(first.axes[dim], "positions of regions")
        op.mixes(first, 0, 2, 3)
        shapes = op.output_shapes
        law: list[Law] = [Along(first, (first.axes[1],)), *(NOWHERE for _ in shapes[1:])]
        return op.outcome(*((Fixed(s[0]), first.axes[1], Fixed(s[2]), Fixed(s[3])) for s in shapes), zero=law)
    op.freeze_all(first, "regions")
    return op.outcome(*(op.fixed(shape) for shape in op.output_shapes), zero=NOWHERE)
