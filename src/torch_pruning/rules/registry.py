"""The table of rules, keyed by op. In-place and out variants are served by the rule of their base op."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from torch_pruning.errors import RuleError

if TYPE_CHECKING:
    from torch_pruning.rules.call import OpCall
    from torch_pruning.rules.facts import Outcome

Rule: TypeAlias = "Callable[[OpCall], Outcome]"

_rules: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for ops such as "aten.linear" or, for one overload only, "aten.where.default".

    Raises:
        RuleError: if one of the ops already has a rule.
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            if op in _rules:
                raise RuleError(f"op {op!r} already has a rule ({_rules[op].__name__}); one op has one rule")
            _rules[op] = function
        return function

    return register


def register_rule(op: str) -> Callable[[Rule], Rule]:
    """Decorator that adds a rule for an op of your own, `"namespace::name"` or `"namespace.name"`.

    The rule receives an `OpCall` and returns `op.outcome(axes, zero=...)`. For an op that works elementwise:

    >>> import torch_pruning as tp
    >>> @tp.register_rule("mylib::swish")
    ... def swish(op):
    ...     (x,) = op.operands("x")
    ...     return op.outcome(x.axes, zero=x)

    Raises:
        RuleError: if the op already has a rule.
    """
    return rule(op.replace("::", "."))


def unregister_rule(op: str) -> None:
    """Take a rule that `register_rule` added out again."""
    if _rules.pop(op.replace("::", "."), None) is None:
        raise RuleError(f"op {op!r} has no rule to remove")


def find_rule(op: str) -> Rule | None:
    """The rule of an op; None if it has none of its own."""
    key = rule_key(op)
    return None if key is None else _rules[key]


def rule_key(op: str) -> str | None:
    """Under which name an op has its rule: that of the overload, else of the op, else of what it does in place."""
    base = op.rpartition(".")[0] if op.count(".") > 1 else op
    functional = base[:-1] if base.endswith("_") and not base.endswith("__") else base
    return next((name for name in (op, base, functional) if name in _rules), None)


def registered() -> dict[str, Rule]:
    """A copy of the table."""
    return dict(_rules)
