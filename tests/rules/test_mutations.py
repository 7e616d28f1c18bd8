"""A check that cannot fail is none: whatever is broken in a rule turns some case red.

Here a slice of the rules that is quick; all of them with `make mutations`, which takes minutes and names what survives.
"""

import os
from collections.abc import Callable

import pytest
import torchvision  # noqa: F401  (registers its ops)

from rules.case import Case
from rules.cases import CASES
from rules.mutation import Mutation, Rule, caught, caught_in_attention, mutations, rules_of
from torch_pruning.rules.attention import multi_head_attention
from torch_pruning.rules.pointwise import elementwise
from torch_pruning.rules.registry import registered

pytestmark = [
    pytest.mark.ops,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]

ALL = os.environ.get("MUTATIONS") == "all"
SLICE = (
    "linear", "outer", "kron", "prelu", "rms_norm", "channel_shuffle", "pixel_shuffle", "meshgrid", "diagonal",
)  # fmt: skip
RULES: list[Rule] = [
    rule for rule in (*dict.fromkeys(registered().values()), elementwise) if ALL or rule.__name__ in SLICE
]
# Statements that some rule shares with others and does not need itself.
_WITHOUT = "the result carries the other dimensions without these, so that no lanes over them are left (graph/lanes.py)"
NEEDLESS = {
    ("pack", "mixes"): _WITHOUT,
    (
        "pack",
        "zero",
    ): "a trace of computed values ends at the op, whose sizes depend on the lengths: nothing is compared",
    ("pad", "mixes"): _WITHOUT,
    ("im2col", "mixes"): _WITHOUT,
    ("index_select", "mixes"): _WITHOUT,
    ("deformable_conv", "size_is"): "the number of groups it is given is read off its tensors",
    ("mkldnn_rnn_layer", "freeze"): "with one layer, of single precision, so that values are not compared",
    ("mkldnn_rnn_layer", "sums"): "of single precision, so that values are not compared",
}


def test_slice_names_rules() -> None:
    assert {rule.__name__ for rule in RULES} >= set(SLICE)


def name_of(rule: Callable[..., object]) -> str:
    return rule.__name__


@pytest.fixture(scope="module")
def cases_of() -> dict[Rule, list[Case]]:
    return rules_of(CASES)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_break_is_noticed(rule: Rule, cases_of: dict[Rule, list[Case]]) -> None:
    found = mutations(rule, cases_of[rule])
    assert found
    noticed: Callable[[Mutation], bool] = lambda mutation: (  # noqa: E731
        caught_in_attention(mutation) if rule is multi_head_attention else caught(rule, mutation, cases_of[rule])
    )
    survivors = {mutation for mutation in found if not noticed(mutation)}
    needless = {mutation for mutation in survivors if (rule.__name__, mutation.statement) in NEEDLESS}
    assert sorted(map(str, survivors - needless)) == []
