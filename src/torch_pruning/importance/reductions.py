"""From scores of members to scores of units, and what makes scores of several groups comparable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Normalizer: TypeAlias = "str | Callable[[Tensor], Tensor] | None"

JOINT = "joint"

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda scores: scores.sum(0),
    "mean": lambda scores: scores.mean(0),
    "max": lambda scores: scores.amax(0),
    "prod": lambda scores: scores.prod(0),
    "first": lambda scores: scores[0],
    "gate": lambda scores: scores[-1],
}


def check_reduction(name: str | None) -> None:
    """Raises ValueError for what is no reduction, listing those there are."""
    if name not in (None, JOINT, *_REDUCTIONS):
        raise ValueError(
            f"group_reduction must be one of {', '.join(_REDUCTIONS)}, {JOINT} or None; found {name!r}: choose one"
        )


def reduced(scores: Tensor, name: str) -> Tensor:
    """Scores of members as scores of units: [members, ...] -> [...]. `first` is the first member, `gate` the last."""
    return _REDUCTIONS[name](scores)


def check_normalizer(normalizer: Normalizer) -> None:
    """Raises ValueError for what is no normaliser, listing those there are."""
    if normalizer is None or callable(normalizer) or normalizer in _NORMALIZERS:
        return
    if isinstance(normalizer, str) and normalizer.startswith("sentinel_"):
        _quantile(normalizer)
        return
    raise ValueError(
        f"normalizer must be one of {', '.join(_NORMALIZERS)}, sentinel_<q>, None or a function of the scores; "
        f"found {normalizer!r}: choose one"
    )


def normalized(scores: Tensor, normalizer: Normalizer) -> Tensor:
    """The scores of one group in units of their own. Functions are given a vector, [units] of all lanes in turn.

    sum, mean, max: s / sum(s), s / mean(s), s / max(s); where that is 0, all scores are, and stay so.
    standarization: (s - min) / (max - min + 1e-8). gaussian: (s - mean) / (std + 1e-8).
    sentinel_q: s / (the score of rank floor(q * units), ascending, + 1e-8).
    lamp: s_u / sum over v with s_v >= s_u of s_v. Lee et al., "Layer-adaptive Sparsity for the Magnitude-based
    Pruning", 2021, eq. 1.

    >>> normalized(torch.tensor([1.0, 3.0]), "mean")
    tensor([0.5000, 1.5000])
    """
    if normalizer is None:
        return scores
    vector = scores.reshape(-1)
    if callable(normalizer):
        found = torch.as_tensor(normalizer(vector))
        if found.shape != vector.shape:
            raise ValueError(
                f"a normalizer must give one number per score, {list(vector.shape)}; found {list(found.shape)} "
                f"from {normalizer!r}: keep the shape"
            )
    elif normalizer in _NORMALIZERS:
        found = _NORMALIZERS[normalizer](vector)
    else:
        found = _sentinel(vector, _quantile(normalizer))
    return found.reshape(scores.shape)


def _over(scores: Tensor, scale: Tensor) -> Tensor:
    """Where the scale is 0 so are the scores, and 0 / 1 says it without NaN."""
    return scores / torch.where(scale == 0, torch.ones_like(scale), scale)


def _standardized(scores: Tensor) -> Tensor:
    lowest, highest = scores.min(), scores.max()
    return (scores - lowest) / (highest - lowest + 1e-8)


def _gaussian(scores: Tensor) -> Tensor:
    if scores.numel() == 1:  # one score has no deviation
        return torch.zeros_like(scores)
    return (scores - scores.mean()) / (scores.std() + 1e-8)


def _lamp(scores: Tensor) -> Tensor:
    ascending, order = scores.sort(stable=True)
    at_least = ascending.flip(0).cumsum(0).flip(0)
    return torch.empty_like(scores).scatter_(0, order, _over(ascending, at_least))


def _sentinel(scores: Tensor, quantile: float) -> Tensor:
    rank = min(int(quantile * scores.numel()), scores.numel() - 1)
    return scores / (scores.sort().values[rank] + 1e-8)


def _quantile(normalizer: str) -> float:
    text = normalizer.removeprefix("sentinel_")
    try:
        quantile = float(text)
    except ValueError:
        quantile = -1.0
    if not 0 <= quantile <= 1:
        raise ValueError(f"sentinel_<q> needs a share between 0 and 1; found {text!r}: write sentinel_0.5, say")
    return quantile


_NORMALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda scores: _over(scores, scores.sum()),
    "mean": lambda scores: _over(scores, scores.mean()),
    "max": lambda scores: _over(scores, scores.max()),
    "standarization": _standardized,  # the spelling that Torch-Pruning 1.x has
    "standardization": _standardized,
    "gaussian": _gaussian,
    "lamp": _lamp,
}
