"""Tensors made from sizes."""

import torch

from rules.case import case, known

# Why rules forbid more than they must.
PAIRS = "the order of the pairs could be kept"
ZEROS = "a tensor of zeros is known to be zero along its own axes only"

aten = torch.ops.aten

CASES = [
    case("zeros", lambda m: torch.zeros(3, m.n) + m.x, x=(3, 4), n=4),
    case("zeros, of a shape", lambda m: torch.zeros(m.x.shape, dtype=torch.float64) + m.x, x=(3, 4)),
    case("zeros, of a literal", lambda m: torch.zeros(3, 4) + m.x, x=(3, 4)),
    case("ones", lambda m: torch.ones((3, m.n)) * m.x, x=(3, 4), n=4),
    case("full", lambda m: torch.full((m.n,), 2.0) * m.x, x=(3, 4), n=4),
    case(
        "full, zero", lambda m: torch.full((m.n,), 0.0) + m.x, x=(3, 4), n=4, conservative=known(ZEROS, "nonzero x.0")
    ),
    case("empty", lambda m: torch.empty(m.n).fill_(3.0) * m.x, x=(3, 4), n=4),
    case("empty_strided", lambda m: aten.empty_strided([3, m.n], [4, 1]).fill_(2.0) * m.x, x=(3, 4), n=4),
    case("empty_permuted", lambda m: aten.empty_permuted([3, m.n], [1, 0]).fill_(2.0) * m.x, x=(3, 4), n=4),
    case("rand", lambda m: torch.rand(3, m.n) * m.x, x=(3, 4), n=4, random=True),
    case("randn", lambda m: torch.randn(3, m.n) * m.x, x=(3, 4), n=4, random=True),
    case("randint", lambda m: torch.randint(9, (3, m.n)) * m.x, x=(3, 4), n=4, random=True),
    case("normal, of sizes", lambda m: torch.normal(0.0, 1.0, (3, m.n)) * m.x, x=(3, 4), n=4, random=True),
    case("new_zeros", lambda m: m.x.new_zeros(m.n) + m.x, x=(3, 4), n=4, conservative=known(ZEROS, "nonzero x.0")),
    case("new_ones", lambda m: m.x.new_ones((3, m.n)) * m.x, x=(3, 4), n=4),
    case("new_full", lambda m: m.x.new_full((m.n,), 2) * m.x, x=(3, 4), n=4),
    case(
        "new_empty", lambda m: m.x.new_empty(m.n).zero_() + m.x, x=(3, 4), n=4, conservative=known(ZEROS, "nonzero x.0")
    ),
    case(
        "new_empty_strided",
        lambda m: m.x.new_empty_strided([m.n], [1]).zero_() + m.x,
        x=(3, 4),
        n=4,
        conservative=known(ZEROS, "nonzero x.0"),
    ),
    case("zeros_like", lambda m: torch.zeros_like(m.x) + m.x, x=(3, 4)),
    case("ones_like", lambda m: torch.ones_like(m.x), x=(3, 4)),
    case("full_like", lambda m: torch.full_like(m.x, 3), x=(3, 4)),
    case("full_like, zero", lambda m: torch.full_like(m.x, 0) + m.x, x=(3, 4)),
    case("empty_like", lambda m: torch.empty_like(m.x).fill_(2.0), x=(3, 4)),
    case("rand_like", lambda m: torch.rand_like(m.x), x=(3, 4), random=True),
    case("randn_like", lambda m: torch.randn_like(m.x), x=(3, 4), random=True),
    case("randint_like", lambda m: torch.randint_like(m.x, 5), x=(3, 4), random=True),
    case("arange", lambda m: torch.arange(m.n) * m.x, x=(3, 4), n=4),
    case("arange, start", lambda m: torch.arange(1, m.n) * m.x, x=(3, 4), n=5),
    case("arange, of a size", lambda m: torch.arange(m.x.shape[1]) * m.x, x=(3, 4)),
    case("arange, of what is a width too", lambda m: m.x.view(3, m.n) * torch.arange(m.n).sum(), x=(3, 4), n=4),
    case("eye", lambda m: torch.eye(m.n) * m.x, x=(4, 4), n=4),
    case("linspace", lambda m: torch.linspace(0, 1, m.n) * m.x, x=(3, 4), n=4),
    case("logspace", lambda m: torch.logspace(0, 1, m.n) * m.x, x=(3, 4), n=4),
    case("scalar_tensor", lambda m: torch.scalar_tensor(2.0) * m.x, x=(3, 4)),
    case("tril_indices", lambda m: m.x[tuple(torch.tril_indices(3, 3))], x=(3, 3)),
    case("triu_indices", lambda m: m.x[tuple(torch.triu_indices(3, 3))], x=(3, 3)),
    case("randperm", lambda m: torch.randperm(m.n) * m.x, x=(3, 4), n=4, random=True),
    case("hann_window", lambda m: torch.hann_window(m.n) * m.x, x=(3, 4), n=4),
    case("hamming_window", lambda m: torch.hamming_window(m.n) * m.x, x=(3, 4), n=4),
    case("bartlett_window", lambda m: torch.bartlett_window(m.n) * m.x, x=(3, 4), n=4),
    case(
        "cartesian_prod",
        lambda m: torch.cartesian_prod(m.x, m.y),
        x=(3,),
        y=(4,),
        conservative=known(PAIRS, "frozen x.0", "frozen y.0"),
    ),
    case("tensor", lambda m: torch.tensor([1.0, 2.0, 3.0, 4.0]) * m.x, x=(3, 4)),
]
