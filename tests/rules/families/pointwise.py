"""Elementwise functions, in all their spellings."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rules.case import Case, Maker, case, complex_, integers, known, mask, normal, positive, unit

# Why rules forbid more than they must.
MASK_PARAMETER = "a mask that lives on the model loses its True where it is masked, as no real one does"

aten = torch.ops.aten
X = {"x": (3, 4)}
XY = {"x": (3, 4), "y": (3, 4)}
BITS = {"x": integers(3, 4), "y": integers(3, 4)}
FLAGS = {"x": mask(3, 4), "y": mask(3, 4)}


def above(low: float, *shape: int) -> Maker:
    return lambda generator: positive(*shape)(generator) + low


def _unary(names: str, values: Maker, suffix: str = "") -> list[Case]:
    return [case(name + suffix, lambda m, name=name: getattr(torch, name)(m.x), x=values) for name in names.split()]


UNARY = [
    *_unary(
        "abs absolute ceil cos cosh deg2rad erf erfc exp exp2 expm1 fix floor frac neg negative positive", normal(3, 4)
    ),
    *_unary(
        "nan_to_num rad2deg relu round sgn sigmoid sign sin sinc sinh square tan tanh trunc angle i0", normal(3, 4)
    ),
    *_unary("signbit isnan isinf isfinite selu logical_not", normal(3, 4)),
    *_unary("log log10 log2 log1p sqrt rsqrt reciprocal lgamma digamma", positive(3, 4)),
    *_unary("acos arccos asin arcsin atan arctan atanh arctanh asinh arcsinh erfinv logit", unit(3, 4)),
    *_unary("acosh arccosh", above(1, 3, 4)),
    *_unary("bitwise_not", integers(3, 4)),
    *_unary("conj_physical sgn abs angle sin", complex_(3, 4), ", complex"),
    *(
        case(f"F.{name}", lambda m, name=name: getattr(F, name)(m.x), **X)
        for name in [
            "gelu",
            "silu",
            "mish",
            "elu",
            "celu",
            "leaky_relu",
            "relu6",
            "hardswish",
            "hardsigmoid",
            "hardshrink",
            "softshrink",
            "tanhshrink",
            "softsign",
            "softplus",
            "logsigmoid",
            "hardtanh",
            "rrelu",
        ]
    ),
    case("special_i1", lambda m: torch.special.i1(m.x), **X),
    case("special_i1e", lambda m: torch.special.i1e(m.x), **X),
    case("log_sigmoid_forward", lambda m: aten.log_sigmoid_forward(m.x), **X),
    case("special_expit", lambda m: aten.special_expit(m.x), **X),
    case("conj", lambda m: m.x.conj() * 2, x=complex_(3, 4)),
    case("_neg_view", lambda m: aten._neg_view(m.x) * 2, **X),
    case("threshold", lambda m: F.threshold(m.x, 0.1, 0), **X),
    case("threshold, value", lambda m: F.threshold(m.x, 0.1, 20), **X),
    case("hardtanh, bounds", lambda m: F.hardtanh(m.x, 0.5, 2), **X),
    case("clamp", lambda m: m.x.clamp(-0.5, 0.5), **X),
    case("clamp, above zero", lambda m: m.x.clamp(min=0.5), **X),
    case("clamp_min", lambda m: m.x.clamp_min(0), **X),
    case("clamp_max", lambda m: m.x.clamp_max(-0.5), **X),
    case("clip", lambda m: m.x.clip(-1, 1), **X),
    case("clamp, by a tensor", lambda m: torch.clamp(m.x, max=m.y), **XY),
    case("dropout", lambda m: F.dropout(m.x, 0.5, False), **X),
    case("dropout, training", lambda m: F.dropout(m.x, 0.5, True), train=True, random=True, **X),
    case("feature_dropout", lambda m: F.dropout1d(m.x, 0.5, True), x=(3, 4, 5), random=True),
    case("alpha_dropout", lambda m: F.alpha_dropout(m.x, 0.5, True), random=True, **X),
    case("feature_alpha_dropout", lambda m: F.feature_alpha_dropout(m.x, 0.5, True), x=(3, 4, 5), random=True),
    case("native_dropout", lambda m: torch.native_dropout(m.x, 0.5, True), random=True, **X),
    case(
        "fake_quantize",
        lambda m: torch.fake_quantize_per_tensor_affine(m.x.float(), 0.1, 0, -128, 127),
        random=True,
        **X,
    ),
]

BINARY = [
    *(
        case(name, lambda m, name=name: getattr(torch, name)(m.x, m.y), x=(3, 4), y=(3, 4))
        for name in [
            "add",
            "sub",
            "subtract",
            "mul",
            "multiply",
            "div",
            "divide",
            "true_divide",
            "maximum",
            "minimum",
            "fmax",
            "fmin",
            "hypot",
            "copysign",
            "nextafter",
            "atan2",
            "arctan2",
            "gt",
            "greater",
            "lt",
            "less",
            "ne",
            "not_equal",
            "ge",
            "greater_equal",
            "le",
            "less_equal",
            "eq",
            "isclose",
            "heaviside",
            "logaddexp",
        ]
    ),
    *(
        case(name, lambda m, name=name: getattr(torch, name)(m.x, m.y), x=positive(3, 4), y=positive(3, 4))
        for name in ["fmod", "remainder", "floor_divide", "xlogy", "pow", "float_power", "ldexp", "polar", "complex"]
    ),
    *(
        case(name, lambda m, name=name: getattr(torch, name)(m.x, m.y), **BITS)
        for name in ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"]
    ),
    *(
        case(name, lambda m, name=name: getattr(torch, name)(m.x, m.y), **FLAGS)
        for name in ["logical_and", "logical_or", "logical_xor"]
    ),
    case("&", lambda m: m.x & m.y, **FLAGS),
    case("|", lambda m: m.x | m.y, **FLAGS),
    case("^", lambda m: m.x ^ m.y, **FLAGS),
    case("<<", lambda m: m.x << m.y, **BITS),
    case(">>", lambda m: m.x >> m.y, **BITS),
    case("<<=", lambda m: m.x.clone().__ilshift__(m.y), **BITS),
    case(">>=", lambda m: m.x.clone().__irshift__(m.y), **BITS),
    case("&=", lambda m: m.x.clone().__iand__(m.y), **FLAGS),
    case("|=", lambda m: m.x.clone().__ior__(m.y), **FLAGS),
    case("^=", lambda m: m.x.clone().__ixor__(m.y), **FLAGS),
    case("add, broadcast", lambda m: m.x + m.y, x=(3, 1, 5), y=(4, 5)),
    case("add, scalar", lambda m: m.x + 1, **X),
    case("add, zero", lambda m: m.x + 0, **X),
    case("add, alpha", lambda m: torch.add(m.x, m.y, alpha=2), **XY),
    case("rsub", lambda m: 1 - m.x, **X),
    case("rsub, tensor", lambda m: torch.rsub(m.x, m.y), **XY),
    case("mul, scalar", lambda m: 3 * m.x, **X),
    case("mul, outer", lambda m: m.x[:, None] * m.x[None, :], x=(4,)),
    case("mul, outer of two", lambda m: m.x[:, None] * m.y[None, :] + m.z, x=(4,), y=(4,), z=(4, 4)),
    case("div, by a scalar", lambda m: m.x / 2, **X),
    case("div, of a scalar", lambda m: 2 / m.x, **X),
    case("div, rounded", lambda m: torch.div(m.x, m.y, rounding_mode="floor"), **XY),
    case("floor_divide, scalar", lambda m: m.x // 0.3, **X),
    case("remainder, scalar", lambda m: m.x % 0.3, **X),
    case("remainder, of a scalar", lambda m: torch.remainder(3, m.x), **X),
    case("pow, square", lambda m: m.x**2, **X),
    case("pow, to the zeroth", lambda m: m.x**0, **X),
    case("pow, inverse", lambda m: m.x**-1, **X),
    case("pow, of a scalar", lambda m: 2**m.x, **X),
    case("float_power, to the zeroth", lambda m: m.x.float_power(0), **X),
    case("gt, scalar", lambda m: m.x > 0, **X),
    case("ge, scalar", lambda m: m.x >= 0, **X),
    case("lt, scalar", lambda m: m.x < 0.1, **X),
    case("ne, scalar", lambda m: m.x != 0, **X),
    case("eq, scalar", lambda m: m.x == 1.5, **X),
    case("le, scalar", lambda m: m.x <= -0.1, **X),
    case("masked by itself", lambda m: m.x * (m.x > 0), **X),
    case("lerp", lambda m: torch.lerp(m.x, m.y, 0.3), **XY),
    case("lerp, weights", lambda m: torch.lerp(m.x, m.y, m.z), z=(4,), **XY),
    case("addcmul", lambda m: torch.addcmul(m.x, m.y, m.z), z=(4,), **XY),
    case("addcdiv", lambda m: torch.addcdiv(m.x, m.y, m.z), z=positive(3, 4), **XY),
    case("where", lambda m: torch.where(m.b, m.x, m.y), b=mask(3, 4), **XY),
    case("where, scalar behind", lambda m: torch.where(m.b, m.x, 2.0), b=mask(3, 4), **X),
    case("where, zero behind", lambda m: torch.where(m.b, m.x, 0.0), b=mask(3, 4), **X),
    case(
        "where, scalar in front",
        lambda m: torch.where(m.b, 2.0, m.x),
        b=mask(3, 4),
        **X,
        conservative=known(MASK_PARAMETER, "nonzero x.0", "nonzero x.1"),
    ),
    case("where, scalars", lambda m: torch.where(m.b, 2.0, 1.0), b=mask(3, 4)),
    case("masked_fill", lambda m: m.x.masked_fill(m.b, 0.0), b=mask(3, 4), **X),
    case(
        "masked_fill, minus infinity",
        lambda m: m.x.masked_fill(m.b, -9e9),
        b=mask(4),
        **X,
        conservative=known(MASK_PARAMETER, "nonzero x.1"),
    ),
    case(
        "masked_fill, by a tensor",
        lambda m: m.x.masked_fill(m.b, m.v),
        b=mask(3, 4),
        v=(),
        **X,
        conservative=known(MASK_PARAMETER, "nonzero x.0", "nonzero x.1"),
    ),
    case("prelu", lambda m: F.prelu(m.x, m.w), x=(3, 4, 5), w=(4,)),
    case("prelu, one", lambda m: F.prelu(m.x, m.w), x=(3, 4), w=(1,)),
    case("prelu, vector", lambda m: F.prelu(m.x, m.w), x=(4,), w=(1,)),
    case("_prelu_kernel", lambda m: aten._prelu_kernel(m.x, m.w), x=(3, 4), w=(3, 4)),
    case("glu, by hand", lambda m: m.x[:, : m.n] * torch.sigmoid(m.x[:, m.n :]), x=(3, 8), n=4),
]


def _written(x: Tensor, name: str, *arguments: object) -> Tensor:
    copy = x.clone()
    getattr(copy, name)(*arguments)
    return copy


def _through_a_view(m: object) -> Tensor:
    """A write to part of a tensor is seen in all of it."""
    whole = m.x.clone()
    whole[:, m.n :].add_(m.y)
    return whole


def _given(function: object, m: object, *arguments: object) -> Tensor:
    result = m.z.clone()
    function(*arguments, out=result)
    return result


def _given_part(m: object) -> Tensor:
    """The result is written to a part of something larger."""
    whole = m.z.clone()
    torch.add(m.x, m.y, out=whole[0])
    return whole


IN_PLACE = [
    *(
        case(f"{name}_", lambda m, name=name: _written(m.x, f"{name}_"), **X)
        for name in [
            "relu",
            "neg",
            "abs",
            "sigmoid",
            "tanh",
            "exp",
            "floor",
            "ceil",
            "round",
            "sin",
            "square",
            "zero",
            "silu",
            "hardswish",
            "leaky_relu",
        ]
        if hasattr(Tensor, f"{name}_")
    ),
    case("relu_, function", lambda m: F.relu(m.x.clone(), inplace=True), **X),
    case("silu_, function", lambda m: F.silu(m.x.clone(), inplace=True), **X),
    case("hardtanh_, function", lambda m: F.hardtanh(m.x.clone(), inplace=True), **X),
    case("dropout_, function", lambda m: F.dropout(m.x.clone(), 0.5, False, inplace=True), **X),
    case("threshold_, function", lambda m: F.threshold(m.x.clone(), 0.1, 0, inplace=True), **X),
    *(
        case(f"{name}_, two", lambda m, name=name: _written(m.x, f"{name}_", m.y), x=(3, 4), y=(4,))
        for name in ["add", "sub", "mul", "div", "floor_divide", "copy", "copysign"]
    ),
    case("add_, scalar", lambda m: _written(m.x, "add_", 2), **X),
    case("fill_", lambda m: _written(m.x, "fill_", 2.0), **X),
    case("fill_, zero", lambda m: _written(m.x, "fill_", 0), **X),
    case("fill_, tensor", lambda m: _written(m.x, "fill_", m.y), x=(3, 4), y=()),
    case(
        "masked_fill_",
        lambda m: _written(m.x, "masked_fill_", m.b, 1.5),
        b=mask(3, 4),
        **X,
        conservative=known(MASK_PARAMETER, "nonzero x.0", "nonzero x.1"),
    ),
    case("clamp_", lambda m: _written(m.x, "clamp_", -1, 1), **X),
    *(
        case(f"{name}_", lambda m, name=name: _written(m.x, f"{name}_"), random=True, **X)
        for name in ["uniform", "normal", "exponential", "log_normal", "cauchy", "bernoulli", "random"]
    ),
    case("geometric_", lambda m: _written(m.x, "geometric_", 0.5), random=True, **X),
    case("bernoulli", lambda m: torch.bernoulli(m.x), x=unit(3, 4), random=True),
    case("normal", lambda m: torch.normal(m.x, m.y), x=(3, 4), y=positive(3, 4), random=True),
    case("poisson", lambda m: torch.poisson(m.x), x=positive(3, 4), random=True),
    case("add_, through a view", _through_a_view, x=(3, 7), y=(3, 4), n=3),
    case("add, out", lambda m: _given(torch.add, m, m.x, m.y), z=(3, 4), unchecked=True, **XY),
    case("mm, out", lambda m: _given(torch.mm, m, m.x, m.y), x=(3, 4), y=(4, 5), z=(3, 5), unchecked=True),
    case("sum, out", lambda m: _given(torch.sum, m, m.x, 1), z=(3,), unchecked=True, **X),
    case("cat, out", lambda m: _given(torch.cat, m, [m.x, m.y], 1), z=(3, 8), unchecked=True, **XY),
    case("add, out, to a part", _given_part, z=(2, 3, 4), **XY),
]

CASES = [*UNARY, *BINARY, *IN_PLACE]
