"""The printed model before and after pruning, side by side."""

from __future__ import annotations

import difflib
from weakref import WeakKeyDictionary

from torch import nn

_before: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def before_pruning(model: nn.Module) -> None:
    """Remember how the model prints now, for `after_pruning`."""
    _before[model] = repr(model)


def after_pruning(model: nn.Module, do_print: bool = True) -> str:
    """The model as it prints now, each line that changed as `before => after`; printed too, unless `do_print` is False.

    Raises:
        RuntimeError: if `before_pruning` was not called for this model.

    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> before_pruning(net)
    >>> net[0].out_features = 1
    >>> print(after_pruning(net, do_print=False).splitlines()[1])
      (0): Linear(in_features=2, out_features=2, bias=True) => (0): Linear(in_features=2, out_features=1, bias=True)
    """
    if model not in _before:
        raise RuntimeError("before_pruning(model) must be called first; found nothing remembered for this model")
    lines = _merged(_before[model].splitlines(), repr(model).splitlines())
    text = "\n".join(lines)
    if do_print:
        print(text)
    return text


def _merged(before: list[str], after: list[str]) -> list[str]:
    lines: list[str] = []
    for kind, i, j, m, n in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += after[m:n]
        elif kind == "replace" and j - i == n - m:
            lines += [f"{old} => {new.strip()}" for old, new in zip(before[i:j], after[m:n], strict=True)]
        else:
            lines += [f"{old} => " for old in before[i:j]] + [f" => {new}" for new in after[m:n]]
    return lines
