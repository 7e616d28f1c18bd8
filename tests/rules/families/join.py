"""Parts: cat, stack, split, slices, padding, gates."""

import torch
from torch.nn import functional as F

from rules.case import case, known

# Why rules forbid more than they must.
EMPTY = "nothing of it is used"
PADDED = "the padding is not zero, but where units are removed there is none"
REVERSED = "an axis has no way to say that it runs backwards"
UNREAD = "a longer input may read the part of a parameter that this one does not"
UNEVEN = "units of the last part could go as long as the parts keep their number and order"

aten = torch.ops.aten

CASES = [
    case("cat", lambda m: torch.cat([m.x, m.y], 1), x=(3, 4), y=(3, 5)),
    case("cat, negative dim", lambda m: torch.cat([m.x, m.y, m.x], -1), x=(3, 4), y=(3, 5)),
    case("cat, with an empty vector", lambda m: torch.cat([m.x.new_empty(0), m.x], 0), x=(3, 4)),
    case("concat", lambda m: torch.concat([m.x, m.y]), x=(3, 4), y=(5, 4)),
    case("concatenate", lambda m: torch.concatenate([m.x, m.y], dim=1), x=(3, 4), y=(3, 5)),
    case("stack", lambda m: torch.stack([m.x, m.y], 1), x=(3, 4), y=(3, 4)),
    case("stack, negative dim", lambda m: torch.stack([m.x, m.y], -1), x=(3, 4), y=(3, 4)),
    case("hstack", lambda m: torch.hstack([m.x, m.y]), x=(3, 4), y=(3, 5)),
    case("hstack, vectors", lambda m: torch.hstack([m.x, m.y]), x=(3,), y=(4,)),
    case("vstack", lambda m: torch.vstack([m.x, m.y]), x=(3, 4), y=(5, 4)),
    case("vstack, vectors", lambda m: torch.vstack([m.x, m.y]), x=(3,), y=(3,)),
    case("dstack", lambda m: torch.dstack([m.x, m.y]), x=(3, 4), y=(3, 4)),
    case("column_stack", lambda m: torch.column_stack([m.x, m.y]), x=(3, 4), y=(3,)),
    case("block_diag", lambda m: torch.block_diag(m.x, m.y), x=(3, 4), y=(5, 3)),
    case("combinations", lambda m: torch.combinations(m.x, 2), x=(4,)),
    case("pad_sequence", lambda m: torch.nn.utils.rnn.pad_sequence([m.x, m.y], batch_first=True), x=(3, 4), y=(5, 4)),
    case("chunk", lambda m: m.x.chunk(3, 1), x=(3, 12)),
    case(
        "chunk, used unequally",
        lambda m: m.x.chunk(2, dim=-1)[0] + m.y,
        x=(3, 8),
        y=(3, 4),
        conservative=known(UNREAD, "frozen x.1"),
    ),
    case("chunk, uneven", lambda m: m.x.chunk(3, 1), x=(3, 8), conservative=known(UNEVEN, "frozen x.1")),
    case("tensor_split", lambda m: m.x.tensor_split(3, 1), x=(3, 12)),
    case("tensor_split, uneven", lambda m: m.x.tensor_split(3, 1), x=(3, 11), conservative=known(UNEVEN, "frozen x.1")),
    case(
        "tensor_split, positions",
        lambda m: m.x.tensor_split((3, 5), 1),
        x=(3, 9),
        conservative=known(UNEVEN, "frozen x.1"),
    ),
    case(
        "tensor_split, by a tensor",
        lambda m: m.x.tensor_split(torch.tensor([3, 5]), 1),
        x=(3, 9),
        conservative=known(UNEVEN, "frozen x.1"),
    ),
    case("split", lambda m: m.x.split(m.n, 1), x=(3, 12), n=4),
    case("split, shorter end", lambda m: m.x.split(m.n, 1), x=(3, 10), n=4, conservative=known(UNEVEN, "frozen x.1")),
    case("split, sizes", lambda m: m.x.split((m.a, m.b), -1), x=(3, 7), a=3, b=4),
    case("split, sizes in torch", lambda m: torch.split(m.x, [m.a, m.b, m.a], 1), x=(3, 10), a=3, b=4),
    case("split.sizes", lambda m: aten.split.sizes(m.x, [m.a, m.b], 1), x=(3, 7), a=3, b=4),
    case("unsafe_split", lambda m: torch.unsafe_split(m.x, m.n, 1), x=(3, 12), n=4),
    case("unsafe_split_with_sizes", lambda m: torch.unsafe_split_with_sizes(m.x, [m.a, m.b], 1), x=(3, 7), a=3, b=4),
    case("split_with_sizes", lambda m: m.x.split_with_sizes([m.a, m.b], 1), x=(3, 7), a=3, b=4),
    case("unbind", lambda m: m.x.unbind(1), x=(3, 4)),
    case("unbind, used", lambda m: torch.unbind(m.x)[0] * torch.unbind(m.x)[1], x=(3, 4)),
    case("select", lambda m: m.x.select(1, 2), x=(3, 4)),
    case("select, by index", lambda m: m.x[:, -1], x=(3, 4)),
    case("slice", lambda m: m.x[:, m.a :], x=(3, 7), a=3, conservative=known(UNREAD, "frozen x.1")),
    case("slice, from the back", lambda m: m.x[:, -m.a :], x=(3, 7), a=3, conservative=known(UNREAD, "frozen x.1")),
    case("slice, middle", lambda m: m.x[:, m.a : m.b], x=(3, 9), a=3, b=5, conservative=known(UNREAD, "frozen x.1")),
    case("slice, all but the last", lambda m: m.x[:, : -m.a], x=(3, 7), a=3, conservative=known(UNREAD, "frozen x.1")),
    case("slice, literal", lambda m: m.x[:, 2:], x=(3, 5)),
    case("slice, literal from the back", lambda m: m.x[:, :-2], x=(3, 5)),
    case("slice, everything", lambda m: m.x[:, 0:9], x=(3, 5)),
    case("slice, step", lambda m: m.x[:, ::2], x=(3, 6)),
    case("slice, step with a start", lambda m: m.x[:, 1::3], x=(3, 7)),
    case("slice, step up to a literal", lambda m: m.x[:, 1:6:2], x=(3, 6)),
    case("slice, step up to the middle", lambda m: m.x[:, 0:4:2], x=(3, 8)),
    case("slice, step from the back", lambda m: m.x[:, -5::2], x=(3, 6)),
    case("slice, step with a late start", lambda m: m.x[:, 2::2], x=(3, 8)),
    case(
        "slice, two dims",
        lambda m: m.x[m.a :, m.b :],
        x=(5, 7),
        a=2,
        b=3,
        conservative=known(UNREAD, "frozen x.0", "frozen x.1"),
    ),
    case(
        "slice, after an integer and an ellipsis",
        lambda m: m.x[0, ..., m.a :],
        x=(3, 4, 7),
        a=3,
        conservative=known(UNREAD, "frozen x.2"),
    ),
    case("slice, of a new dim", lambda m: m.x[None, :, m.a :], x=(3, 7), a=3, conservative=known(UNREAD, "frozen x.1")),
    case("slice, out of range", lambda m: m.x[:, 3:100], x=(3, 7)),
    case("slice, empty", lambda m: m.x[:, 5:3], x=(3, 7), conservative=known(EMPTY, "frozen x.1")),
    case("slice, written", lambda m: _write(m.x.clone(), m.y, m.a), x=(3, 7), y=(3, 4), a=3),
    case("narrow", lambda m: m.x.narrow(1, m.a, m.b), x=(3, 9), a=3, b=4, conservative=known(UNREAD, "frozen x.1")),
    case(
        "narrow, from the back",
        lambda m: m.x.narrow(1, -m.a, m.a),
        x=(3, 9),
        a=4,
        conservative=known(UNREAD, "frozen x.1"),
    ),
    case("narrow, literal", lambda m: m.x.narrow(1, 2, 3), x=(3, 7), conservative=known(UNREAD, "frozen x.1")),
    case("narrow, by a tensor", lambda m: m.x.narrow(1, torch.tensor(2), 3), x=(3, 7)),
    case("pad", lambda m: F.pad(m.x, (1, 2)), x=(3, 4)),
    case("pad, two dims", lambda m: F.pad(m.x, (0, 1, 2, 0)), x=(3, 4)),
    case("pad, value", lambda m: F.pad(m.x, (1, 2), value=3.0), x=(3, 4), conservative=known(PADDED, "nonzero x.1")),
    case("pad, cropped", lambda m: F.pad(m.x, (-1, 0)), x=(3, 4)),
    case("pad, cropped and grown", lambda m: F.pad(m.x, (2, -1)), x=(3, 4)),
    case("pad, reflect", lambda m: F.pad(m.x, (1, 2), mode="reflect"), x=(3, 4, 5)),
    case("pad, replicate", lambda m: F.pad(m.x, (1, 2), mode="replicate"), x=(3, 4, 5)),
    case("pad, circular", lambda m: F.pad(m.x, (1, 2), mode="circular"), x=(3, 4, 5)),
    case("constant_pad_nd", lambda m: aten.constant_pad_nd(m.x, [1, 0, 0, 2], 0), x=(3, 4, 5)),
    case("reflection_pad1d", lambda m: aten.reflection_pad1d(m.x, [1, 1]), x=(3, 4, 5)),
    case("reflection_pad2d", lambda m: aten.reflection_pad2d(m.x, [1, 1, 0, 1]), x=(3, 4, 5, 5)),
    case("reflection_pad3d", lambda m: aten.reflection_pad3d(m.x, [1, 1, 0, 1, 1, 0]), x=(3, 4, 3, 3, 3)),
    case("replication_pad1d", lambda m: aten.replication_pad1d(m.x, [1, 1]), x=(3, 4, 5)),
    case("replication_pad2d", lambda m: aten.replication_pad2d(m.x, [1, 1, 0, 1]), x=(3, 4, 5, 5)),
    case("replication_pad3d", lambda m: aten.replication_pad3d(m.x, [1, 1, 0, 1, 1, 0]), x=(3, 4, 3, 3, 3)),
    case("glu", lambda m: F.glu(m.x), x=(3, 8)),
    case("glu, dim", lambda m: F.glu(m.x, 1), x=(3, 8, 4)),
    case("roll", lambda m: m.x.roll(1, 1), x=(3, 4)),
    case("roll, several", lambda m: m.x.roll((1, 2), (0, -1)), x=(3, 4, 5)),
    case("roll, flat", lambda m: torch.roll(m.x, 2), x=(3, 4)),
    case("flip", lambda m: m.x.flip(-1), x=(3, 4), conservative=known(REVERSED, "frozen x.1")),
    case("fliplr", lambda m: m.x.fliplr(), x=(3, 4), conservative=known(REVERSED, "frozen x.1")),
    case("flipud", lambda m: m.x.flipud(), x=(3, 4), conservative=known(REVERSED, "frozen x.0")),
    case("rot90", lambda m: m.x.rot90(), x=(3, 4, 5), conservative=known(REVERSED, "frozen x.0", "frozen x.1")),
    case(
        "rot90, other dims",
        lambda m: m.x.rot90(1, [1, 2]),
        x=(3, 4, 5),
        conservative=known(REVERSED, "frozen x.1", "frozen x.2"),
    ),
    case("triu", lambda m: m.x.triu(), x=(3, 4, 4)),
    case("tril", lambda m: m.x.tril(-1), x=(3, 4, 5)),
]


def _write(x: torch.Tensor, y: torch.Tensor, a: int) -> torch.Tensor:
    x[:, a:] = y
    return x
