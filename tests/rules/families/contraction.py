"""Linear layers, matrix products, einsum, convolution, attention."""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from rules.case import case, index, known, mask, normal

# Why rules forbid more than they must.
DIAGONAL = "rows and columns could go in pairs"
MASK_PARAMETER = "a mask that lives on the model loses its True where it is masked, as no real one does"
PIXELS = "rows of pixels could go here; that convolution kernels and images keep theirs is simpler"

aten = torch.ops.aten
SDPA = F.scaled_dot_product_attention


def _counted_attention(m: object, full: object, **options: object) -> torch.Tensor:
    return SDPA(m.q, m.k, m.v, scale=full.q.shape[-1] ** -0.5, **options)


def _symmetric(x: torch.Tensor) -> torch.Tensor:
    return x + x.t()


LINEAR = [
    case("linear", lambda m: F.linear(m.x, m.w, m.b), x=(2, 3, 4), w=(5, 4), b=(5,)),
    case("linear, no bias", lambda m: F.linear(m.x, m.w), x=(3, 4), w=(5, 4)),
    case("linear, vector", lambda m: F.linear(m.x, m.w, m.b), x=(4,), w=(5, 4), b=(5,)),
    case("linear, vector as weight", lambda m: F.linear(m.x, m.w), x=(3, 4), w=(4,)),
    case("linear, by itself", lambda m: F.linear(m.x, m.x), x=(3, 4)),
    case("linear, on its own axis", lambda m: F.linear(m.x, m.w) + m.x, x=(3, 4), w=(4, 4)),
    case("mm", lambda m: m.x.mm(m.y), x=(3, 4), y=(4, 5)),
    case("mm, by itself", lambda m: m.x.mm(m.x.t()), x=(3, 4)),
    case("mm, square by computed", lambda m: m.x.mm(m.s) * m.x, x=(3, 4), s=(4, 4)),
    case("bmm", lambda m: m.x.bmm(m.y), x=(3, 4, 5), y=(3, 5, 6)),
    case("matmul", lambda m: m.x @ m.y, x=(3, 4, 5), y=(5, 6)),
    case("matmul, broadcast", lambda m: m.x @ m.y, x=(3, 1, 4, 5), y=(6, 5, 4)),
    case("matmul, matrix by vector", lambda m: m.x @ m.y, x=(3, 4, 5), y=(5,)),
    case("matmul, vector by matrix", lambda m: m.x @ m.y, x=(4,), y=(3, 4, 5)),
    case("matmul, vector by vector", lambda m: m.x @ m.y, x=(4,), y=(4,)),
    case("linalg_matmul", lambda m: torch.linalg.matmul(m.x, m.y), x=(3, 4), y=(4, 5)),
    case("mv", lambda m: m.x.mv(m.y), x=(3, 4), y=(4,)),
    case("dot", lambda m: m.x.dot(m.y), x=(4,), y=(4,)),
    case("vdot", lambda m: torch.vdot(m.x, m.y), x=(4,), y=(4,)),
    case("addmm", lambda m: torch.addmm(m.b, m.x, m.y), b=(5,), x=(3, 4), y=(4, 5)),
    case("addmm, by itself", lambda m: torch.addmm(m.b, m.x, m.x.t()), b=(3, 3), x=(3, 4)),
    case("addmm, of a square", lambda m: torch.addmm(m.b, m.x.t() @ m.x, m.y), b=(4, 5), x=(3, 4), y=(4, 5)),
    case("addmm, factors", lambda m: torch.addmm(m.b, m.x, m.y, beta=2, alpha=3), b=(3, 1), x=(3, 4), y=(4, 5)),
    case("_addmm_activation", lambda m: aten._addmm_activation(m.b, m.x, m.y), b=(5,), x=(3, 4), y=(4, 5)),
    case("baddbmm", lambda m: torch.baddbmm(m.b, m.x, m.y, beta=0.5), b=(3, 4, 6), x=(3, 4, 5), y=(3, 5, 6)),
    case("baddbmm, broadcast", lambda m: torch.baddbmm(m.b, m.x, m.y), b=(1, 6), x=(3, 4, 5), y=(3, 5, 6)),
    case("addmv", lambda m: torch.addmv(m.b, m.x, m.y), b=(3,), x=(3, 4), y=(4,)),
    case("addbmm, by itself", lambda m: torch.addbmm(m.b, m.x, m.x.mT), b=(4, 4), x=(3, 4, 5)),
    case("addbmm", lambda m: torch.addbmm(m.b, m.x, m.y), b=(4, 6), x=(3, 4, 5), y=(3, 5, 6)),
    case("addr", lambda m: torch.addr(m.b, m.x, m.y), b=(3, 4), x=(3,), y=(4,)),
    case("outer", lambda m: torch.outer(m.x, m.y), x=(3,), y=(4,)),
    case("ger", lambda m: torch.ger(m.x, m.y), x=(3,), y=(4,)),
    case("kron", lambda m: torch.kron(m.x, m.y), x=(3, 4), y=(5, 3)),
    case("kron, ranks", lambda m: torch.kron(m.x, m.y), x=(3,), y=(4, 3)),
    case("inner", lambda m: torch.inner(m.x, m.y), x=(3, 4), y=(5, 4)),
    case("inner, by itself", lambda m: torch.inner(m.x, m.x), x=(3, 4)),
    case("inner, of a square", lambda m: torch.inner(m.x.t() @ m.x, m.y), x=(3, 4), y=(5, 4)),
    case("tensordot, of a square", lambda m: torch.tensordot(m.x.t() @ m.x, m.y, dims=1), x=(3, 4), y=(4, 5)),
    case("cdist, of a square", lambda m: torch.cdist(m.x.t() @ m.x, m.y), x=(3, 4), y=(5, 4)),
    case("einsum, of a square", lambda m: torch.einsum("ij,jk->ik", m.x.t() @ m.x, m.y), x=(3, 4), y=(4, 5)),
    case("inner, scalar", lambda m: torch.inner(m.x, m.y), x=(3, 4), y=()),
    case("tensordot", lambda m: torch.tensordot(m.x, m.y, dims=2), x=(3, 4, 5), y=(4, 5, 6)),
    case("tensordot, dims", lambda m: torch.tensordot(m.x, m.y, dims=([0, -1], [2, 0])), x=(3, 4, 5), y=(5, 6, 3)),
    case("tensordot, by itself", lambda m: torch.tensordot(m.x, m.x, dims=([1], [1])), x=(3, 4)),
    case("tensordot, one", lambda m: torch.tensordot(m.x, m.y, dims=([1], [0])), x=(3, 1), y=(4, 5)),
    case("chain_matmul", lambda m: aten.chain_matmul([m.x, m.y, m.z]), x=(3, 4), y=(4, 5), z=(5, 6)),
    case("multi_dot, two of them", lambda m: torch.linalg.multi_dot([m.x, m.x.t()]), x=(3, 4)),
    case("multi_dot, by itself", lambda m: torch.linalg.multi_dot([m.x, m.x.t(), m.y]), x=(3, 4), y=(3, 5)),
    case("multi_dot", lambda m: torch.linalg.multi_dot([m.x, m.y, m.z]), x=(4,), y=(4, 5), z=(5, 6)),
    case("multi_dot, vector at the end", lambda m: torch.linalg.multi_dot([m.x, m.y, m.z]), x=(3, 4), y=(4, 5), z=(5,)),
    case("bilinear, on its own axes", lambda m: _symmetric(F.bilinear(m.x, m.y, m.w)), x=(3, 4), y=(3, 5), w=(3, 4, 5)),
    case("bilinear", lambda m: F.bilinear(m.x, m.y, m.w, m.b), x=(3, 4), y=(3, 5), w=(6, 4, 5), b=(6,)),
    case(
        "_grouped_mm",
        lambda m: aten._grouped_mm(m.x.bfloat16(), m.w.bfloat16(), m.ends),
        x=(8, 16),
        w=(3, 16, 8),
        ends=torch.tensor([3, 5, 8], dtype=torch.int32),
        # In double precision, which the op does not know.
        real=lambda m: torch.cat([m.x[a:b] @ w for a, b, w in zip((0, 3, 5), (3, 5, 8), m.w, strict=True)]),
    ),
    case(
        "_grouped_mm, of groups of columns",
        lambda m: aten._grouped_mm(m.x.bfloat16(), m.w.bfloat16(), m.ends),
        x=(8, 16),
        w=(16, 8),
        ends=torch.tensor([8, 16], dtype=torch.int32),
        real=lambda m: torch.stack([m.x[:, a:b] @ m.w[a:b] for a, b in ((0, 8), (8, 16))]),
    ),
    case(
        "_scaled_mm",
        lambda m: aten._scaled_mm(
            m.x.to(torch.float8_e4m3fn),
            m.w.to(torch.float8_e4m3fn).t(),
            m.s.float(),
            m.s.float(),
            out_dtype=torch.bfloat16,
        ),
        x=(16, 16),
        w=(16, 16),
        s=normal(1),
        real=lambda m: (m.x @ m.w.t()).bfloat16(),
        random=True,
    ),
]

EINSUM = [
    case("einsum", lambda m: torch.einsum("bi,oi->bo", m.x, m.w), x=(3, 4), w=(5, 4)),
    case("einsum, implicit", lambda m: torch.einsum("bi,io", m.x, m.w), x=(3, 4), w=(4, 5)),
    case("einsum, dots", lambda m: torch.einsum("...i,oi->...o", m.x, m.w), x=(3, 6, 4), w=(5, 4)),
    case("einsum, dots on both", lambda m: torch.einsum("b...i,...ij->b...j", m.x, m.y), x=(3, 6, 4), y=(6, 4, 5)),
    case("einsum, implicit dots", lambda m: torch.einsum("...ij,jk", m.x, m.y), x=(3, 6, 4), y=(4, 5)),
    case("einsum, sum", lambda m: torch.einsum("bij->bj", m.x), x=(3, 4, 5)),
    case("einsum, permuted", lambda m: torch.einsum("bij->jbi", m.x), x=(3, 4, 5)),
    case(
        "einsum, diagonal",
        lambda m: torch.einsum("bii->bi", m.x),
        x=(3, 4, 4),
        conservative=known(DIAGONAL, "frozen x.1"),
    ),
    case("einsum, outer", lambda m: torch.einsum("i,j->ij", m.x, m.y), x=(3,), y=(4,)),
    case("einsum, three", lambda m: torch.einsum("bi,ij,bj->b", m.x, m.w, m.y), x=(3, 4), w=(4, 5), y=(3, 5)),
    case("einsum, heads", lambda m: torch.einsum("bqhd,bkhd->bhqk", m.q, m.k), q=(2, 3, 3, 4), k=(2, 5, 3, 4)),
    case("einsum, spaces and capitals", lambda m: torch.einsum("B I , O I -> B O", m.x, m.w), x=(3, 4), w=(5, 4)),
    case("einsum, broadcast one", lambda m: torch.einsum("bi,bi->bi", m.x, m.y), x=(3, 4), y=(1, 4)),
    case("einsum, by itself", lambda m: torch.einsum("id,jd->ij", m.x, m.x), x=(3, 4)),
    case("einsum, sublists", lambda m: torch.einsum(m.x, [0, 1], m.w, [2, 1], [0, 2]), x=(3, 4), w=(5, 4)),
]

CONVOLUTION = [
    case("conv1d", lambda m: F.conv1d(m.x, m.w, m.b, padding=1), x=(3, 4, 5), w=(6, 4, 3), b=(6,)),
    case("conv1d, one tap", lambda m: F.conv1d(m.x, m.w, m.b), x=(3, 4, 5), w=(6, 4, 1), b=(6,)),
    case("conv1d, one tap, groups", lambda m: F.conv1d(m.x, m.w, groups=m.g), x=(3, 4, 5), w=(6, 2, 1), g=2),
    case("conv1d, one tap, strided", lambda m: F.conv1d(m.x, m.w, stride=2), x=(3, 4, 5), w=(6, 4, 1)),
    case("conv1d, one tap, padded", lambda m: F.conv1d(m.x, m.w, stride=2, padding=1), x=(2, 4, 3), w=(6, 4, 1)),
    case("conv2d, one column", lambda m: F.conv2d(m.x, m.w, padding=(1, 0)), x=(2, 4, 3, 3), w=(5, 4, 3, 1)),
    case("conv2d", lambda m: F.conv2d(m.x, m.w, m.b, stride=2), x=(3, 4, 5, 4), w=(5, 4, 3, 2), b=(5,)),
    case("conv2d, unbatched", lambda m: F.conv2d(m.x, m.w, m.b), x=(4, 5, 4), w=(5, 4, 3, 2), b=(5,)),
    case("conv2d, padding by name", lambda m: F.conv2d(m.x, m.w, padding="same"), x=(3, 4, 3, 3), w=(5, 4, 3, 3)),
    case("conv2d, 1 x 1", lambda m: F.conv2d(m.x, m.w, m.b), x=(3, 4, 2, 3), w=(5, 4, 1, 1), b=(5,)),
    case("conv2d, groups", lambda m: F.conv2d(m.x, m.w, m.b, groups=m.g), x=(2, 6, 3, 3), w=(9, 2, 2, 2), b=(9,), g=3),
    case(
        "conv2d, depthwise", lambda m: F.conv2d(m.x, m.w, m.b, groups=m.g), x=(2, 4, 4, 4), w=(4, 1, 3, 3), b=(4,), g=4
    ),
    case("conv2d, multiplier", lambda m: F.conv2d(m.x, m.w, groups=m.g), x=(2, 3, 3, 3), w=(9, 1, 2, 2), g=3),
    case("conv2d, groups as a literal", lambda m: F.conv2d(m.x, m.w, groups=3), x=(2, 6, 3, 3), w=(9, 2, 2, 2)),
    case(
        "conv2d, one in each group out", lambda m: F.conv2d(m.x, m.w, groups=m.g), x=(2, 9, 3, 3), w=(3, 3, 2, 2), g=3
    ),
    case("conv3d", lambda m: F.conv3d(m.x, m.w), x=(2, 3, 3, 3, 3), w=(4, 3, 2, 2, 2)),
    case("conv_transpose1d", lambda m: F.conv_transpose1d(m.x, m.w, m.b), x=(3, 4, 5), w=(4, 6, 3), b=(6,)),
    case(
        "conv_transpose2d",
        lambda m: F.conv_transpose2d(m.x, m.w, m.b, 2),
        x=(3, 4, 3, 2),
        w=(4, 5, 2, 2),
        b=(5,),
        conservative=known(PIXELS, "frozen w.2", "frozen w.3", "frozen x.2", "frozen x.3"),
    ),
    case(
        "conv_transpose2d, unbatched",
        lambda m: F.conv_transpose2d(m.x, m.w),
        x=(4, 3, 2),
        w=(4, 5, 2, 2),
        conservative=known(PIXELS, "frozen w.2", "frozen w.3", "frozen x.2"),
    ),
    case(
        "conv_transpose2d, groups",
        lambda m: F.conv_transpose2d(m.x, m.w, m.b, groups=m.g),
        x=(2, 6, 3, 3),
        w=(6, 3, 2, 2),
        b=(9,),
        g=3,
        conservative=known(PIXELS, "frozen w.2", "frozen w.3"),
    ),
    case(
        "conv_transpose3d",
        lambda m: F.conv_transpose3d(m.x, m.w),
        x=(2, 3, 2, 2, 2),
        w=(3, 4, 2, 2, 2),
        conservative=known(PIXELS, "frozen w.2", "frozen w.3", "frozen w.4", "frozen x.2", "frozen x.3", "frozen x.4"),
    ),
    case(
        "convolution",
        lambda m: torch.convolution(m.x, m.w, m.b, [1, 1], [0, 0], [1, 1], False, [0, 0], m.g),
        x=(2, 6, 3, 3),
        w=(9, 2, 2, 2),
        b=(9,),
        g=3,
    ),
    case(
        "convolution, transposed",
        lambda m: torch.convolution(m.x, m.w, m.b, [1, 1], [0, 0], [1, 1], True, [0, 0], 1),
        x=(2, 4, 3, 3),
        w=(4, 5, 2, 2),
        b=(5,),
        conservative=known(PIXELS, "frozen w.2", "frozen w.3"),
    ),
    case(
        "_convolution",
        lambda m: torch._convolution(
            m.x, m.w, m.b, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, False, False
        ),
        x=(2, 4, 3, 3),
        w=(5, 4, 2, 2),
        b=(5,),
    ),
]

ATTENTION = [
    case(
        "attention",
        lambda m: SDPA(m.q, m.k, m.v),
        q=(2, 3, 4, 5),
        k=(2, 3, 6, 5),
        v=(2, 3, 6, 4),
        counted=_counted_attention,
    ),
    case(
        "attention, scale and mask",
        lambda m: SDPA(m.q, m.k, m.v, m.mask, scale=0.5),
        q=(2, 3, 4, 5),
        k=(2, 3, 6, 5),
        v=(2, 3, 6, 4),
        mask=(3, 4, 6),
    ),
    case(
        "attention, boolean mask over one head",
        lambda m: SDPA(m.q, m.k, m.v, m.mask, scale=0.5),
        q=(2, 3, 4, 5),
        k=(2, 3, 6, 5),
        v=(2, 3, 6, 4),
        mask=mask(2, 1, 4, 6),
        conservative=known(MASK_PARAMETER, "marked k.2", "nonzero q.2"),
    ),
    case(
        "attention, of latents to themselves",
        lambda m: SDPA(m.x, m.x, m.v, scale=0.5),
        x=(2, 3, 4),
        v=(2, 3, 5),
        conservative=known("softmax takes no notice of a number that is added to all scores", "marked x.2"),
    ),
    case(
        "attention, causal",
        lambda m: SDPA(m.q, m.k, m.v, is_causal=True, scale=1.0),
        q=(3, 4, 5),
        k=(3, 4, 5),
        v=(3, 4, 3),
    ),
    case(
        "attention, grouped queries",
        lambda m: SDPA(m.q, m.k, m.v, enable_gqa=True, scale=0.5),
        q=(2, 6, 4, 5),
        k=(2, 3, 4, 5),
        v=(2, 3, 4, 4),
    ),
    case(
        "attention, one head for all",
        lambda m: SDPA(m.q, m.k, m.v, scale=1.0),
        q=(2, 3, 4, 5),
        k=(2, 1, 4, 5),
        v=(2, 1, 4, 3),
    ),
    case(
        "attention, for the processor",
        lambda m: aten._scaled_dot_product_flash_attention_for_cpu(m.q, m.k, m.v, scale=0.5),
        q=(2, 3, 4, 5),
        k=(2, 3, 4, 5),
        v=(2, 3, 4, 5),
        unchecked=True,
    ),
    case(
        "attention, as mathematics",
        lambda m: aten._scaled_dot_product_attention_math(m.q, m.k, m.v, scale=0.5),
        q=(2, 3, 4, 5),
        k=(2, 3, 6, 5),
        v=(2, 3, 6, 4),
    ),
]


def _many_heads(m: SimpleNamespace) -> torch.Tensor:
    """What multi_head_attention_forward computes, without its demand that the width be heads times head dim."""
    q, k, v = (
        F.linear(m.x, w, b).unflatten(-1, (m.h, -1)).movedim(0, -2)
        for w, b in zip(m.w.chunk(3), m.b.chunk(3), strict=True)
    )
    return F.linear(SDPA(q, k, v, scale=0.5**0.5).movedim(-2, 0).flatten(-2), m.o, m.p)


ATTENTION.append(
    case(
        "multi_head_attention_forward",
        lambda m: F.multi_head_attention_forward(
            m.x, m.x, m.x, 6, m.h, m.w, m.b, None, None, False, 0.0, m.o, m.p, False, need_weights=False
        )[0],
        real=_many_heads,
        x=(4, 2, 6),
        w=(18, 6),
        b=(18,),
        o=(6, 6),
        p=(6,),
        h=3,
        unchecked=True,  # only nn.MultiheadAttention can be given other widths, so all is frozen: see test_attention
    )
)
EXPERTS = [case("linear, of a chosen expert", lambda m: F.linear(m.x, m.w[m.i]), x=(3, 4), w=(3, 5, 4), i=index(3))]

CASES = [*LINEAR, *EINSUM, *CONVOLUTION, *ATTENTION, *EXPERTS]
