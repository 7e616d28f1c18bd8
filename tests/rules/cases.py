"""One table with at least one case for every rule: what is called, on which tensors, and where it is too strict."""

from rules.case import Case
from rules.families import (
    contraction,
    create,
    customized,
    index,
    join,
    normalise,
    pointwise,
    recurrent,
    reduce,
    shape,
    spatial,
)

FAMILIES = (shape, join, pointwise, contraction, normalise, reduce, index, spatial, create, recurrent, customized)

CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
