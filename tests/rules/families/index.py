"""Look-ups and writes by position, data-dependent ops, and values that leave torch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rules.case import case, index, integers, known, mask, positive

# Why rules forbid more than they must.
ACCIDENT = "true of these values only"
BY_DATA = "what picks the positions would have to lose some as well, and it is data"
CANCEL = "equal constants on both sides cancel"
PYTHON = "Python could do anything with the value; here it does little"
SCALAR = "a scalar zero becomes a tensor that is not known to be zero"
SIGNALS = "rows of a batch pass; that signals stay whole is simpler"
SOLVE = "right-hand sides are independent of each other; they are no channels"
SOURCE = "rows of the source could go with those of the indices, which are data"

aten = torch.ops.aten


def _put(x: Tensor, key: object, values: object) -> Tensor:
    x[key] = values
    return x


def _bag(m: object, **options: object) -> Tensor:
    return F.embedding_bag(m.i, m.w, m.offsets, **options)


BAG = {"w": (5, 4), "i": index(5, 6), "offsets": torch.tensor([0, 2, 5])}

EMBEDDINGS = [
    case("embedding", lambda m: F.embedding(m.i, m.w), w=(4, 5), i=index(4, 2, 3)),
    case("embedding, of as many as there are", lambda m: F.embedding(m.i, m.w) + m.w, w=(4, 5), i=index(4, 4)),
    case("embedding, padding", lambda m: F.embedding(m.i, m.w, padding_idx=0), w=(4, 5), i=index(4, 6)),
    case("embedding_bag", lambda m: _bag(m, mode="sum"), **BAG),
    case("embedding_bag, mean", lambda m: _bag(m, mode="mean"), **BAG),
    case("embedding_bag, max", lambda m: _bag(m, mode="max"), **BAG),
    case("embedding_bag, weighted", lambda m: _bag(m, mode="sum", per_sample_weights=m.s), s=(6,), **BAG),
    case("embedding_bag, padding", lambda m: _bag(m, mode="sum", padding_idx=1), **BAG),
    case("embedding_bag, matrix", lambda m: F.embedding_bag(m.i, m.w, mode="mean"), w=(5, 4), i=index(5, 3, 2)),
    case("_embedding_bag", lambda m: aten._embedding_bag(m.w, m.i, m.offsets)[0], **BAG),
    case("_embedding_bag_forward_only", lambda m: aten._embedding_bag_forward_only(m.w, m.i, m.offsets)[0], **BAG),
]

READS = [
    case("index_select", lambda m: m.x.index_select(1, m.i), x=(3, 4), i=index(4, 5)),
    case(
        "repeat_interleave, by a tensor",
        lambda m: m.x.repeat_interleave(m.n, 1),
        x=(3, 4),
        n=torch.tensor([1, 2, 1, 3]),
        conservative=known(BY_DATA, "frozen x.1"),
    ),
    case(
        "repeat_interleave, flat by a tensor",
        lambda m: m.x.repeat_interleave(m.n),
        x=(4,),
        n=torch.tensor([1, 2, 1, 3]),
        conservative=known(BY_DATA, "frozen x.0"),
    ),
    case("index", lambda m: m.x[m.i], x=(4, 3), i=index(4, 5)),
    case("index, second", lambda m: m.x[:, m.i], x=(3, 4), i=index(4, 2, 3)),
    case("index, two", lambda m: m.x[m.i, m.j], x=(4, 4, 3), i=index(4, 5), j=index(4, 5)),
    case("index, two apart", lambda m: m.x[m.i, :, m.j], x=(4, 3, 4), i=index(4, 5), j=index(4, 5)),
    case("index, two apart and more", lambda m: m.x[:, m.i, :, m.j], x=(2, 4, 3, 4), i=index(4, 4), j=index(4, 4)),
    case("index, broadcast", lambda m: m.x[m.i[:, None], m.j], x=(4, 4, 3), i=index(4, 2), j=index(4, 5)),
    case("index, mask", lambda m: m.x[m.b], x=(4, 3), b=mask(4), conservative=known(BY_DATA, "frozen x.0")),
    case(
        "index, mask of two",
        lambda m: m.x[m.b],
        x=(3, 4, 5),
        b=mask(3, 4),
        conservative=known(BY_DATA, "frozen x.0", "frozen x.1"),
    ),
    case(
        "index, mask of two, then none and positions",
        lambda m: m.x[m.b, :, m.i],
        x=(3, 4, 3, 4),
        b=mask(3, 4),
        i=index(4, 6),
    ),
    case(
        "index, mask behind",
        lambda m: m.x[:, m.b],
        x=(3, 4, 5),
        b=mask(4, 5),
        conservative=known(BY_DATA, "frozen x.1", "frozen x.2"),
    ),
    case("index, by a list", lambda m: m.x[:, [2, 0]], x=(3, 4)),
    case("index, by a scalar tensor", lambda m: m.x[:, m.i], x=(3, 4), i=torch.tensor(2)),
    case("_unsafe_index", lambda m: aten._unsafe_index(m.x, [None, m.i]), x=(3, 4), i=index(4, 5)),
    case("gather", lambda m: m.x.gather(1, m.i), x=(3, 4), i=index(4, 3, 5)),
    case("scatter, by its own entries", lambda m: m.x.scatter(1, (m.x.abs() * 7).long() % 4, m.x), x=(3, 4)),
    case("gather, fewer rows", lambda m: m.x.gather(1, m.i), x=(3, 4), i=index(4, 2, 5)),
    case("gather, along the first", lambda m: m.x.gather(0, m.i), x=(4, 3), i=index(4, 5, 3)),
    case("take_along_dim", lambda m: torch.take_along_dim(m.x, m.i, 1), x=(3, 4), i=index(4, 3, 5)),
    case("take_along_dim, flat", lambda m: torch.take_along_dim(m.x, m.i), x=(3, 4), i=index(12, 13)),
    case("take", lambda m: m.x.take(m.i), x=(3, 4), i=index(12, 13)),
]

WRITES = [
    case("scatter", lambda m: m.x.scatter(1, m.i, m.s), x=(3, 4), i=index(4, 3, 4), s=(3, 4)),
    case("scatter, fewer", lambda m: m.x.scatter(1, m.i, m.s), x=(3, 4), i=index(4, 2, 3), s=(3, 4)),
    case("scatter, zero", lambda m: m.x.scatter(1, m.i, 0), x=(3, 4), i=index(4, 3, 2)),
    case("scatter, value", lambda m: m.x.scatter(1, m.i, 2.0), x=(3, 4), i=index(4, 3, 2)),
    case("scatter_", lambda m: m.x.clone().scatter_(1, m.i, 1.0), x=(3, 4), i=index(4, 3, 1)),
    case(
        "scatter, multiplied",
        lambda m: m.x.scatter(1, m.i, m.s, reduce="multiply"),
        x=(3, 4),
        i=index(4, 3, 4),
        s=(3, 4),
    ),
    case(
        "scatter_add",
        lambda m: m.x.scatter_add(0, m.i, m.s),
        x=(4, 3),
        i=index(4, 5, 3),
        s=(5, 3),
        conservative=known(SOURCE, "frozen s.0"),
    ),
    case(
        "scatter_reduce",
        lambda m: m.x.scatter_reduce(1, m.i, m.s, "amax"),
        x=(3, 4),
        i=index(4, 3, 5),
        s=(3, 5),
        conservative=known(SOURCE, "frozen s.1"),
    ),
    case(
        "scatter_reduce, without itself",
        lambda m: m.x.scatter_reduce(1, m.i, m.s, "prod", include_self=False),
        x=(3, 4),
        i=index(4, 3, 5),
        s=(3, 5),
    ),
    case("index_put", lambda m: _put(m.x.clone(), m.i, m.s), x=(4, 3), i=index(4, 5), s=(5, 3)),
    case(
        "index_put, scalar",
        lambda m: _put(m.x.clone(), m.i, 0.0),
        x=(4, 3),
        i=index(4, 2),
        conservative=known(SCALAR, "nonzero x.1"),
    ),
    case("index_put, broadcast values", lambda m: _put(m.x.clone(), m.i, m.s), x=(4, 3), i=index(4, 2), s=(3,)),
    case("index_put, second", lambda m: _put(m.x.clone(), (slice(None), m.i), m.s), x=(3, 4), i=index(4, 2), s=(3, 2)),
    case(
        "index_put, two apart",
        lambda m: _put(m.x.clone(), (m.i, slice(None), m.j), m.s),
        x=(4, 3, 4),
        i=index(4, 2),
        j=index(4, 2),
        s=(2, 3),
    ),
    case(
        "index_put, mask",
        lambda m: _put(m.x.clone(), m.b, m.s),
        x=(4, 3),
        b=mask(4),
        s=(3,),
        conservative=known(BY_DATA, "frozen x.0"),
    ),
    case(
        "index_put, mask of two",
        lambda m: _put(m.x.clone(), m.b, 0.0),
        x=(3, 4, 5),
        b=mask(3, 4),
        conservative=known(SCALAR, "nonzero x.0", "nonzero x.1", "nonzero x.2"),
    ),
    case(
        "index_put, mask of all",
        lambda m: _put(m.x.clone(), m.x > 0.1, m.s),
        x=(3, 4),
        s=(1,),
        conservative=known(BY_DATA, "nonzero x.0", "nonzero x.1"),
    ),
    case(
        "index_put, mask behind",
        lambda m: _put(m.x.clone(), (slice(None), m.b), 1.0),
        x=(3, 4),
        b=mask(4),
        conservative=known(BY_DATA, "frozen x.1"),
    ),
    case(
        "index_put, added",
        lambda m: m.x.index_put((m.i,), m.s, accumulate=True),
        x=(4, 3),
        i=index(4, 5),
        s=(5, 3),
        conservative=known(SOURCE, "frozen s.0"),
    ),
    case(
        "_index_put_impl_",
        lambda m: aten._index_put_impl_(m.x.clone(), [m.i], m.s, True),
        x=(4, 3),
        i=index(4, 5),
        s=(5, 3),
        conservative=known(SOURCE, "frozen s.0"),
    ),
    case(
        "index_add",
        lambda m: m.x.index_add(1, m.i, m.s),
        x=(3, 4),
        i=index(4, 5),
        s=(3, 5),
        conservative=known(SOURCE, "frozen s.1"),
    ),
    case(
        "index_add_",
        lambda m: m.x.clone().index_add_(0, m.i, m.s, alpha=2),
        x=(4, 3),
        i=index(4, 5),
        s=(5, 3),
        conservative=known(SOURCE, "frozen s.0"),
    ),
    case("index_copy", lambda m: m.x.index_copy(1, m.i, m.s), x=(3, 4), i=torch.tensor([2, 0]), s=(3, 2)),
    case(
        "index_reduce",
        lambda m: m.x.index_reduce(1, m.i, m.s, "amin"),
        x=(3, 4),
        i=torch.tensor([2, 0, 1, 3]),
        s=(3, 4),
    ),
    case("index_fill", lambda m: m.x.index_fill(1, m.i, 0), x=(3, 4), i=torch.tensor([2, 0])),
    case("index_fill, value", lambda m: m.x.index_fill(1, m.i, 3), x=(3, 4), i=torch.tensor([2, 0])),
    case(
        "masked_scatter",
        lambda m: m.x.masked_scatter(m.b, m.s),
        x=(3, 4),
        b=mask(3, 4),
        s=(6,),
        conservative=known(BY_DATA, "frozen x.0", "frozen x.1"),
    ),
    case(
        "masked_scatter, rows",
        lambda m: m.x.masked_scatter(m.b[:, None].expand(4, 3), m.s),
        x=(4, 3),
        b=mask(4),
        s=(3, 3),
    ),
    case(
        "masked_scatter, broadcast",
        lambda m: m.x.masked_scatter(m.b[:, None, None], m.s),
        x=(4, 3, 5),
        b=mask(4),
        s=(4, 3, 5),
        conservative=known(BY_DATA, "frozen x.0"),
    ),
    case("slice_scatter", lambda m: m.x.slice_scatter(m.s, 1, 1, 3), x=(3, 4), s=(3, 2)),
    case("select_scatter", lambda m: m.x.select_scatter(m.s, 1, 2), x=(3, 4), s=(3,)),
    case("put", lambda m: m.x.put(m.i, m.s), x=(3, 4), i=torch.tensor([5, 0, 11]), s=(3,)),
]

BY_VALUE = [
    case("one_hot", lambda m: F.one_hot(m.i, 4), i=index(4, 5)),
    case("nonzero", lambda m: m.x.nonzero(), x=integers(3, 4)),
    case("nonzero, tuple", lambda m: m.x.nonzero(as_tuple=True), x=integers(3, 4)),
    case("where, positions", lambda m: torch.where(m.b), b=mask(3, 4)),
    case(
        "masked_select",
        lambda m: m.x.masked_select(m.b),
        x=(3, 4),
        b=mask(3, 4),
        conservative=known(BY_DATA, "frozen x.0", "frozen x.1"),
    ),
    case("unique", lambda m: m.x.unique(return_inverse=True), x=integers(3, 4)),
    case("unique, dim", lambda m: m.x.unique(dim=0), x=(3, 4), conservative=known(ACCIDENT, "frozen x.1")),
    case(
        "unique_consecutive",
        lambda m: m.x.unique_consecutive(dim=0),
        x=(3, 4),
        conservative=known(ACCIDENT, "frozen x.0", "frozen x.1"),
    ),
    case("bincount", lambda m: m.x.bincount(), x=integers(5)),
    case("histc", lambda m: m.x.histc(4, -2, 2), x=(3, 4)),
    case("isin", lambda m: torch.isin(m.x, m.y), x=integers(3, 4), y=integers(4)),
    case(
        "isin, of values",
        lambda m: torch.isin(m.x, m.y),
        x=(3, 4),
        y=(3, 4),
        conservative=known(ACCIDENT, "frozen y.0", "frozen y.1"),
    ),
    case("bucketize", lambda m: torch.bucketize(m.x, m.y), x=(3, 4), y=torch.tensor([-1.0, 0.0, 0.5, 1.0]).double()),
    case(
        "searchsorted, in rows",
        lambda m: torch.searchsorted(m.y, m.x),
        x=(3, 4),
        y=torch.tensor([[-1.0, 0.0, 1.0]] * 3).double(),
        conservative=known(ACCIDENT, "nonzero x.0"),
    ),
    case("searchsorted", lambda m: torch.searchsorted(m.y, m.x), x=(3, 4), y=torch.tensor([-1.0, 0.0, 1.0]).double()),
    case("multinomial", lambda m: m.x.multinomial(2), x=positive(3, 4), random=True),
    case("cdist", lambda m: torch.cdist(m.x, m.y), x=(2, 3, 4), y=(2, 5, 4)),
    case("cdist, of itself", lambda m: torch.cdist(m.x, m.x, p=1), x=(3, 4), conservative=known(CANCEL, "marked x.1")),
    case("cdist, broadcast", lambda m: torch.cdist(m.x, m.y), x=(3, 3, 4), y=(5, 4)),
    case("_euclidean_dist", lambda m: aten._euclidean_dist(m.x, m.y), x=(3, 4), y=(5, 4), random=True),
    case(
        "solve_triangular",
        lambda m: torch.linalg.solve_triangular(m.a, m.b, upper=True),
        a=positive(3, 3),
        b=(3, 4),
        conservative=known(SOLVE, "frozen b.1"),
    ),
    case("inv", lambda m: torch.linalg.inv(m.x), x=(3, 3)),
    case("qr", lambda m: torch.linalg.qr(m.x), x=(4, 3)),
    case("svd", lambda m: torch.linalg.svd(m.x), x=(4, 3)),
    case("cholesky_ex", lambda m: torch.linalg.cholesky_ex(m.x @ m.x.T + 0.1)[0], x=(3, 3)),
    case("eigh", lambda m: torch.linalg.eigh(m.x + m.x.T), x=(3, 3)),
    case("solve", lambda m: torch.linalg.solve(m.a, m.b), a=(3, 3), b=(3, 4), conservative=known(SOLVE, "frozen b.1")),
    case("fft", lambda m: torch.fft.fft(m.x).real, x=(3, 4)),
    case("ifft", lambda m: torch.fft.ifft(m.x, dim=0).real, x=(3, 4)),
    case("rfft", lambda m: torch.fft.rfft(m.x, dim=1).real, x=(3, 4)),
    case("irfft", lambda m: torch.fft.irfft(m.x, n=6), x=(3, 4)),
    case("fft2", lambda m: torch.fft.fft2(m.x).real, x=(2, 3, 4)),
    case("ifft2", lambda m: torch.fft.ifft2(m.x, dim=(0, 1)).real, x=(3, 4, 2)),
    case("rfft2", lambda m: torch.fft.rfft2(m.x).real, x=(2, 3, 4)),
    case("irfft2", lambda m: torch.fft.irfft2(m.x), x=(2, 3, 4)),
    case("fftn", lambda m: torch.fft.fftn(m.x).real, x=(3, 4)),
    case("fftn, dims", lambda m: torch.fft.fftn(m.x, dim=(0, 2)).real, x=(3, 4, 2)),
    case("fftn, sizes", lambda m: torch.fft.fftn(m.x, s=(4,)).real, x=(3, 4)),
    case(
        "stft",
        lambda m: torch.stft(m.x, 4, 2, window=m.w, return_complex=True, center=False).real,
        x=(2, 12),
        w=positive(4),
        conservative=known(SIGNALS, "frozen x.0"),
    ),
    case("istft", lambda m: torch.istft(torch.complex(m.x, m.x), 4, 2, window=m.w), x=(3, 5), w=positive(4)),
]

LEAVING = [
    case("item", lambda m: m.x * m.y.sum().item(), x=(3,), y=(4,)),
    case("_local_scalar_dense", lambda m: m.x * aten._local_scalar_dense(m.y.sum()), x=(3,), y=(4,)),
    case("tolist", lambda m: m.x * m.y.tolist()[1], x=(3,), y=(4,)),
    case("numpy", lambda m: m.x * float(m.y.numpy().max()), x=(3,), y=(4,), conservative=known(PYTHON, "frozen y.0")),
    case(
        "is_nonzero",
        lambda m: m.x * 3 if m.y.sum() else m.x * 2,
        x=(3,),
        y=(4,),
        conservative=known(PYTHON, "marked y.0"),
    ),
    case(
        "_is_all_true",
        lambda m: (m.x * 2, aten._is_all_true(m.y > -9)),
        x=(3,),
        y=(4,),
        conservative=known(PYTHON, "frozen y.0"),
    ),
    case(
        "equal",
        lambda m: m.x * (2 if torch.equal(m.y, m.y + 0) else 3),
        x=(3,),
        y=(4,),
        conservative=known(PYTHON, "frozen y.0"),
    ),
    case(
        "allclose",
        lambda m: m.x * (2 if torch.allclose(m.y, m.z) else 3),
        x=(3,),
        y=(4,),
        z=(4,),
        conservative=known(PYTHON, "frozen y.0", "frozen z.0"),
    ),
    case(
        "_assert_async",
        lambda m: (aten._assert_async((m.x > -99).all()), m.x * 2)[1],
        x=(3,),
        conservative=known(PYTHON, "marked x.0"),
    ),
    case(
        "_assert_tensor_metadata",
        lambda m: (aten._assert_tensor_metadata(m.x, dtype=torch.float64), m.x * 2)[1],
        x=(3,),
    ),
    case(
        "_has_compatible_shallow_copy_type",
        lambda m: m.x * (1 + torch._has_compatible_shallow_copy_type(m.x, m.y)),
        x=(3,),
        y=(4,),
    ),
    case("is_same_size", lambda m: m.x * (1 + m.x.is_same_size(m.y)), x=(3, 4), y=(5,)),
]

CASES = [*EMBEDDINGS, *READS, *WRITES, *BY_VALUE, *LEAVING]
