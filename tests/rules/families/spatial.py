"""Pooling, resampling, sliding windows, regions."""

import torch
import torchvision
from torch.nn import functional as F

from rules.case import Case, case, known, positive, unit

# Why rules forbid more than they must.
ACCIDENT = "true of these values only"
PIXELS = "rows of pixels could go here; that images keep theirs is simpler"
ADDED_BIAS = "torchvision adds a bias of zeros, which is not known to be zero along the batch"
BOXES = "boxes could go, but they are data"
SAMPLES = "torch takes more samples than it needs"

aten = torch.ops.aten
vision = torchvision.ops
IMAGE = {"x": (2, 3, 5, 4)}
BOXES = torch.tensor([[0, 0.0, 0.0, 3.0, 3.0], [1, 1.0, 0.5, 4.0, 4.0], [1, 0.0, 1.0, 2.5, 3.0]]).double()


def _upsample(mode: str, *shape: int) -> Case:
    """Twice as large."""
    rank = len(shape)
    repeats = known(PIXELS, *(f"frozen x.{dim}" for dim in range(2, rank))) if mode.startswith("nearest") else {}
    name = f"interpolate, {mode}, {rank - 2}d"
    return case(name, lambda m: F.interpolate(m.x, scale_factor=2, mode=mode), x=shape, conservative=repeats)


CASES = [
    case("max_pool1d", lambda m: F.max_pool1d(m.x, 2), x=(2, 3, 5)),
    case("max_pool2d", lambda m: F.max_pool2d(m.x, 2, 1), **IMAGE),
    case("max_pool2d, unbatched", lambda m: F.max_pool2d(m.x, 2), x=(3, 5, 4)),
    case("max_pool2d, padded", lambda m: F.max_pool2d(m.x, 3, 2, 1), **IMAGE),
    case("max_pool3d", lambda m: F.max_pool3d(m.x, 2), x=(2, 3, 3, 3, 3)),
    case("max_pool1d_with_indices", lambda m: F.max_pool1d(m.x, 2, return_indices=True), x=(2, 3, 5)),
    case("max_pool2d_with_indices", lambda m: F.max_pool2d(m.x, 2, return_indices=True), **IMAGE),
    case(
        "max_pool3d_with_indices",
        lambda m: F.max_pool3d(m.x, 2, return_indices=True),
        x=(2, 3, 3, 3, 3),
        conservative=known(ACCIDENT, "nonzero x.0 of output 1", "nonzero x.1 of output 1"),
    ),
    case("avg_pool1d", lambda m: F.avg_pool1d(m.x, 2), x=(2, 3, 5)),
    case("avg_pool2d", lambda m: F.avg_pool2d(m.x, 2, 1, 1), **IMAGE),
    case("avg_pool3d", lambda m: F.avg_pool3d(m.x, 2), x=(2, 3, 3, 3, 3)),
    case("adaptive_avg_pool1d", lambda m: F.adaptive_avg_pool1d(m.x, 2), x=(2, 3, 5)),
    case("adaptive_avg_pool2d", lambda m: F.adaptive_avg_pool2d(m.x, (2, 1)), **IMAGE),
    case("adaptive_avg_pool2d, unbatched", lambda m: F.adaptive_avg_pool2d(m.x, 1), x=(3, 5, 4)),
    case("adaptive_avg_pool3d", lambda m: F.adaptive_avg_pool3d(m.x, 2), x=(2, 3, 3, 3, 3)),
    case("_adaptive_avg_pool2d", lambda m: aten._adaptive_avg_pool2d(m.x, [2, 2]), **IMAGE),
    case("_adaptive_avg_pool3d", lambda m: aten._adaptive_avg_pool3d(m.x, [2, 2, 2]), x=(2, 3, 3, 3, 3)),
    case("adaptive_max_pool1d", lambda m: F.adaptive_max_pool1d(m.x, 2), x=(2, 3, 5)),
    case("adaptive_max_pool2d", lambda m: F.adaptive_max_pool2d(m.x, 2), **IMAGE),
    case("adaptive_max_pool2d, indices", lambda m: F.adaptive_max_pool2d(m.x, 2, return_indices=True), **IMAGE),
    case("adaptive_max_pool3d", lambda m: F.adaptive_max_pool3d(m.x, 2), x=(2, 3, 3, 3, 3)),
    case(
        "fractional_max_pool2d",
        lambda m: aten.fractional_max_pool2d(m.x, [2, 2], [2, 2], m.s),
        s=unit(2, 3, 2),
        **IMAGE,
        conservative=known(SAMPLES, "coupled x.0"),
    ),
    case(
        "fractional_max_pool3d",
        lambda m: aten.fractional_max_pool3d(m.x, [2, 2, 2], [2, 2, 2], m.s),
        x=(2, 3, 4, 4, 4),
        s=unit(2, 3, 3),
        conservative=known(SAMPLES, "coupled x.0"),
    ),
    case("lp_pool2d", lambda m: F.lp_pool2d(m.x, 2, 2), x=positive(2, 3, 5, 4)),
    _upsample("nearest", 2, 3, 4),
    _upsample("nearest", 2, 3, 4, 4),
    _upsample("nearest", 2, 3, 3, 3, 3),
    _upsample("linear", 2, 3, 4),
    _upsample("bilinear", 2, 3, 4, 4),
    _upsample("bicubic", 2, 3, 4, 4),
    _upsample("trilinear", 2, 3, 3, 3, 3),
    _upsample("nearest-exact", 2, 3, 4),
    _upsample("nearest-exact", 2, 3, 4, 4),
    _upsample("nearest-exact", 2, 3, 3, 3, 3),
    case(
        "interpolate, antialiased bilinear",
        lambda m: F.interpolate(m.x, (3, 3), mode="bilinear", antialias=True),
        **IMAGE,
    ),
    case(
        "interpolate, antialiased bicubic",
        lambda m: F.interpolate(m.x, (3, 3), mode="bicubic", antialias=True),
        **IMAGE,
    ),
    case("interpolate, to a size", lambda m: F.interpolate(m.x, (7, 6)), **IMAGE),
    case("upsample_nearest2d", lambda m: aten.upsample_nearest2d(m.x, [7, 6]), **IMAGE),
    case("grid_sample", lambda m: F.grid_sample(m.x, m.grid, align_corners=False), grid=(2, 3, 6, 2), **IMAGE),
    case(
        "grid_sample, of the same size",
        lambda m: F.grid_sample(m.x, m.grid, align_corners=False) + m.x,
        x=(2, 3, 4, 5),
        grid=(2, 4, 5, 2),
    ),
    case(
        "grid_sample, 3d",
        lambda m: F.grid_sample(m.x, m.grid, align_corners=True),
        x=(2, 3, 3, 3, 3),
        grid=(2, 3, 2, 3, 3),
    ),
    case("grid_sampler_2d", lambda m: aten.grid_sampler_2d(m.x, m.grid, 0, 0, False), grid=(2, 3, 6, 2), **IMAGE),
    case(
        "grid_sampler_3d",
        lambda m: aten.grid_sampler_3d(m.x, m.grid, 0, 0, False),
        x=(2, 3, 3, 3, 3),
        grid=(2, 3, 2, 3, 3),
    ),
    case("affine_grid", lambda m: F.affine_grid(m.t, [2, 3, 4, 5], align_corners=False), t=(2, 2, 3)),
    case("im2col", lambda m: F.unfold(m.x, (2, 3)), **IMAGE),
    case("im2col, unbatched", lambda m: F.unfold(m.x, 2, stride=2), x=(3, 4, 4)),
    case("col2im", lambda m: F.fold(m.x, (3, 4), (2, 2)), x=(2, 12, 6)),
    case("col2im, unbatched", lambda m: F.fold(m.x, (4, 4), 2, stride=2), x=(12, 4)),
    case("unfold", lambda m: m.x.unfold(1, 2, 1), x=(3, 5)),
    case("unfold, negative dim", lambda m: m.x.unfold(-2, 3, 2), x=(3, 5, 4)),
    case("nms", lambda m: vision.nms(m.boxes, m.scores, 0.5), boxes=BOXES[:, 1:], scores=positive(3)),
    case(
        "roi_align",
        lambda m: vision.roi_align(m.x, m.boxes, 2),
        boxes=BOXES,
        **IMAGE,
        conservative=known(BOXES, "frozen boxes.0"),
    ),
    case(
        "roi_pool",
        lambda m: vision.roi_pool(m.x, m.boxes, 2),
        boxes=BOXES,
        **IMAGE,
        conservative=known(BOXES, "frozen boxes.0"),
    ),
    case(
        "ps_roi_align",
        lambda m: vision.ps_roi_align(m.x, m.boxes, 2),
        x=(2, 12, 5, 4),
        boxes=BOXES,
        conservative=known(BOXES, "frozen boxes.0"),
    ),
    case(
        "deform_conv2d",
        lambda m: vision.deform_conv2d(m.x, m.offset, m.w, m.b),
        x=(2, 3, 4, 3),
        offset=(2, 8, 3, 2),
        w=(4, 3, 2, 2),
        b=(4,),
        unchecked=True,
    ),
    case(
        "deform_conv2d, two offsets",
        lambda m: vision.deform_conv2d(m.x, m.offset, m.w, m.b),
        x=(2, 4, 4, 3),
        offset=(2, 16, 3, 2),
        w=(4, 4, 2, 2),
        b=(4,),
        unchecked=True,
    ),
    case(
        "deform_conv2d, mask",
        lambda m: vision.deform_conv2d(m.x, m.offset, m.w, mask=m.mask),
        x=(2, 3, 4, 3),
        offset=(2, 8, 3, 2),
        w=(4, 3, 2, 2),
        mask=positive(2, 4, 3, 2),
        unchecked=True,
        conservative=known(ADDED_BIAS, "nonzero x.0"),
    ),
    case(
        "deform_conv2d, groups",
        lambda m: vision.deform_conv2d(m.x, m.offset, m.w),
        x=(2, 6, 4, 3),
        offset=(2, 8, 3, 2),
        w=(6, 2, 2, 2),
        unchecked=True,
        conservative=known(ADDED_BIAS, "nonzero x.0"),
    ),
]
