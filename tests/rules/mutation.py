"""Break the rules on purpose: drop one statement at a time, claim zeros everywhere, unlink outputs from inputs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from rules.attention_models import SETTINGS, Setting, disagreements, graph_of
from rules.case import Case
from rules.probe import PLAIN, Probe, Variant, stored
from rules.reality import claims_of, false_claims, variants
from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.errors import CheckError, RuleError
from torch_pruning.graph import infer
from torch_pruning.rules import registry
from torch_pruning.rules.attention import multi_head_attention
from torch_pruning.rules.call import OpCall
from torch_pruning.rules.facts import Outcome
from torch_pruning.rules.laws import EVERYWHERE
from torch_pruning.rules.pointwise import elementwise, is_pointwise
from torch_pruning.trace.tracer import Example, trace

Rule = Callable[[OpCall], Outcome]
# What rules say with; each can be left unsaid. (`split`, `cut` and `fresh` make axes: without them nothing runs.)
STATEMENTS = (
    "unify", "freeze", "sums", "statistic", "counts", "mixes", "crosses", "size_is", "equal_counts",
)  # fmt: skip
_RULES = str(Path(registry.__file__).parent)
_CALL = str(Path(_RULES) / "call.py")


@dataclasses.dataclass(frozen=True, order=True)
class Mutation:
    """`statement` at one line of a rule is left unsaid; "zero" or "unlinked" concern the outcome."""

    statement: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.statement} at {self.file}:{self.line}" if self.file else self.statement


ZERO, UNLINKED = Mutation("zero"), Mutation("unlinked")


def _site() -> tuple[str, int]:
    """The line of a rule from which a statement is made."""
    frame = sys._getframe(2)
    while not frame.f_code.co_filename.startswith(_RULES) or frame.f_code.co_filename == _CALL:
        assert frame.f_back is not None
        frame = frame.f_back
    return Path(frame.f_code.co_filename).name, frame.f_lineno


class _Spy(OpCall):
    """Notes which statements a rule makes."""

    seen: set[Mutation] = set()  # noqa: RUF012


class _Mutant(OpCall):
    """Leaves one statement unsaid."""

    dropped: Mutation = ZERO


def _spying(name: str) -> Any:
    def statement(self: _Spy, *args: Any, **kwargs: Any) -> Any:
        _Spy.seen.add(Mutation(name, *_site()))
        return getattr(OpCall, name)(self, *args, **kwargs)

    return statement


def _forgetful(name: str) -> Any:
    def statement(self: _Mutant, *args: Any, **kwargs: Any) -> Any:
        if name == _Mutant.dropped.statement and (_Mutant.dropped.file, _Mutant.dropped.line) == _site():
            return None
        return getattr(OpCall, name)(self, *args, **kwargs)

    return statement


for _name in STATEMENTS:
    setattr(_Spy, _name, _spying(_name))
    setattr(_Mutant, _name, _forgetful(_name))


def _as(kind: type[OpCall], op: OpCall) -> OpCall:
    return kind(**{field.name: getattr(op, field.name) for field in dataclasses.fields(op)})


@contextmanager
def _replaced(rule: Rule, new: Rule) -> Iterator[None]:
    """`new` in the place of `rule`, under all its names."""
    table = {key: new for key, found in registry.registered().items() if found is rule}
    with mock.patch.dict(registry._rules, table):
        if rule is elementwise:
            with mock.patch.object(infer, "elementwise", new):
                yield
        else:
            yield


def rules_of(cases: list[Case]) -> dict[Rule, list[Case]]:
    """For each rule the cases that use it."""
    found: dict[Rule, list[Case]] = {}
    for case in cases:
        tensors, sizes = stored(case, PLAIN)
        program = trace(Probe(case, tensors, sizes, PLAIN, real=False), Example(()), "train" if case.train else "eval")
        for call in program.calls:
            rule = registry.find_rule(call.op) or (elementwise if is_pointwise(call.function) else None)
            if rule is not None and case not in found.setdefault(rule, []):
                found[rule].append(case)
    return found


def mutations(rule: Rule, cases: list[Case]) -> list[Mutation]:
    """Everything that can be broken in a rule, as far as its cases reach."""
    _Spy.seen.clear()
    outcomes: list[Outcome] = []

    def spying(op: OpCall) -> Outcome:
        outcomes.append(rule(_as(_Spy, op)))
        return outcomes[-1]

    with _replaced(rule, spying):
        for case in cases:
            claims_of(case)
        if rule is multi_head_attention:
            for setting in SETTINGS:
                graph_of(setting)
    axes = [axis for outcome in outcomes for output in outcome.axes for axis in output]
    says_something = any(leaf.reason is None for axis in axes for leaf in leaves(axis))
    return [*sorted(_Spy.seen), *((ZERO, UNLINKED) if says_something else ())]


def mutant(rule: Rule, mutation: Mutation) -> Rule:
    """The rule with one thing broken."""

    def broken(op: OpCall) -> Outcome:
        if mutation == ZERO:
            outcome = rule(op)
            return Outcome(outcome.axes, tuple(EVERYWHERE for _ in outcome.zeros))
        if mutation == UNLINKED:
            outcome = rule(op)
            return Outcome(tuple(tuple(map(_unlinked, axes)) for axes in outcome.axes), outcome.zeros)
        _Mutant.dropped = mutation
        return rule(_as(_Mutant, op))

    return broken


def _unlinked(axis: Axis) -> Axis:
    """Another axis of the same size, if anything in it could be pruned."""
    return Free(axis.size) if any(leaf.reason is None for leaf in leaves(axis)) else axis


def caught(rule: Rule, mutation: Mutation, cases: list[Case]) -> bool:
    """Whether any case goes red."""
    with _replaced(rule, mutant(rule, mutation)):
        return any(_red(case, variant) for case, variant in _likely_first(mutation, cases))


def caught_in_attention(mutation: Mutation) -> bool:
    """Whether any model with an nn.MultiheadAttention goes red: only inside that layer its rule lets anything go."""
    with _replaced(multi_head_attention, mutant(multi_head_attention, mutation)):
        return any(_red_setting(setting) for setting in SETTINGS)


def _red_setting(setting: Setting) -> bool:
    try:
        return bool(disagreements(setting))
    except (RuleError, AssertionError, CheckError, RuntimeError):
        return True


def _red(case: Case, variant: Variant) -> bool:
    try:
        return bool(false_claims(case, variant))
    except (RuleError, AssertionError):  # the engine itself found a contradiction
        return True


def _likely_first(mutation: Mutation, cases: list[Case]) -> Iterator[tuple[Case, Variant]]:
    """All variants of all cases, those first that are made to show this kind of mistake."""
    pairs = [(case, variant) for case in cases for variant in _variants(case)]
    if mutation.statement in ("mixes", "crosses"):
        pairs.sort(key=lambda pair: pair[1].lanes is None)
    elif mutation.statement in ("sums", "statistic", "counts", "zero"):
        pairs.sort(key=lambda pair: not pair[1].lost)
    yield from pairs


_variants_of: dict[str, list[Variant]] = {}


def _variants(case: Case) -> list[Variant]:
    """As the unbroken rules have them."""
    if case.name not in _variants_of:
        with mock.patch.dict(registry._rules, _unbroken), mock.patch.object(infer, "elementwise", elementwise):
            _variants_of[case.name] = list(variants(case))
    return _variants_of[case.name]


_unbroken = registry.registered()
