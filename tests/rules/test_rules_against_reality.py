"""Every rule against the op itself: what it claims must be so, and what it forbids must be impossible or listed."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision  # noqa: F401  (registers its ops)

from rules.case import Case
from rules.cases import CASES
from rules.forbidden import needlessly_forbidden
from rules.probe import PLAIN, Probe, run, stored
from rules.reality import claims_of, false_claims, variants
from torch_pruning.rules.pointwise import is_pointwise
from torch_pruning.rules.registry import find_rule, registered, rule_key
from torch_pruning.trace.tracer import Example, trace

pytestmark = [
    pytest.mark.ops,
    # What torch has to say about single ops is of no interest here.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]
# The ops that 861 models of five zoos call, as counted when the toolkit was designed.
OPS_SEEN = (Path(__file__).parent / "ops_seen.txt").read_text("utf-8").split()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_what_the_rules_claim_is_so(case: Case) -> None:
    assert [str(claim) for variant in variants(case) for claim in false_claims(case, variant)] == []


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_what_the_rules_forbid_is_impossible_or_listed(case: Case) -> None:
    assert needlessly_forbidden(case) == set(case.conservative)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_case_says_something(case: Case) -> None:
    """The trace of a plain case runs to its end, and its outputs are compared."""
    claims = claims_of(case)
    assert claims.graph.programs[0].program.failure is None
    assert claims.dense
    assert not claims.graph.ops_without_rule()


@pytest.mark.parametrize("case", [case for case in CASES if case.twin is not None], ids=repr)
def test_twins_compute_the_same(case: Case) -> None:
    tensors, sizes = stored(case, PLAIN)
    assert case.twin is not None
    twin = dataclasses.replace(case, call=case.twin, twin=None)
    tolerance = 1e-5 if case.random else 1e-12
    for expected, found in zip(run(case, tensors, sizes), run(twin, tensors, sizes), strict=False):
        torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_names_of_cases_are_unique() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_every_rule_has_a_case() -> None:
    assert registered().keys() - set(_rules_used()) == set()


def test_every_op_that_models_use_has_a_rule() -> None:
    assert [op for op in OPS_SEEN if not _is_known(op)] == []


def _rules_used() -> Iterator[str]:
    """The keys of the table under which the calls of all cases found their rule."""
    for case in CASES:
        tensors, sizes = stored(case, PLAIN)
        program = trace(Probe(case, tensors, sizes, PLAIN, real=False), Example(()), "train" if case.train else "eval")
        for call in program.calls:
            key = rule_key(call.op)
            if key is not None:
                yield key


def _is_known(op: str) -> bool:
    namespace, name, overload = op.split(".")
    if find_rule(op) is not None:
        return True
    return is_pointwise(getattr(getattr(getattr(torch.ops, namespace), name), overload))
