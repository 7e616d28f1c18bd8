"""What ops give for row-major tensors, worked out without PyTorch, against what they do give."""

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_pruning.trace import row_major
from torch_pruning.trace.layout import LayoutTable
from torch_pruning.trace.program import Value

pytestmark = pytest.mark.ops

x4, x3, x2 = torch.rand(2, 6, 5, 4), torch.rand(2, 5, 6), torch.rand(3, 6)
vector, one = torch.rand(6), torch.rand(1)
aten = torch.ops.aten
UNARY = [
    "relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "relu6", "leaky_relu", "elu",
    "mish", "rsqrt", "sqrt", "exp", "neg", "abs",
]  # fmt: skip
IN_PLACE = ["relu_", "silu_", "sigmoid_", "hardswish_", "hardtanh_", "relu6_", "leaky_relu_", "gelu_"]
SHAPES = [x4, x3, x2, vector, torch.rand(()), torch.rand(0, 3), torch.rand(2, 1, 3, 1), torch.rand(1, 4, 1, 1)]
CASES: list[tuple[Any, tuple[Any, ...]]] = [
    *((getattr(aten, name).default, (x,)) for name in (*UNARY, *IN_PLACE) for x in SHAPES),
    *((getattr(aten, name).Tensor, (x, x)) for name in ("add", "sub", "mul", "div") for x in SHAPES),
    *((getattr(aten, name).Tensor, (x, x)) for name in ("add_", "sub_", "mul_", "div_") for x in SHAPES),
    (aten.add.Tensor, (x4, 2)),
    (aten.mul.Tensor, (x3, 0.5)),
    (aten.add_.Tensor, (x3, 1)),
    (aten.mul_.Tensor, (x2, 2.0)),
    (aten.mul.Tensor, (x4, torch.rand(2, 6, 1, 1))), (aten.mul.Tensor, (torch.rand(1, 6, 5, 1), x4)),
    (aten.add.Tensor, (torch.rand(2, 1, 3), torch.rand(1, 4, 3))), (aten.add.Tensor, (x3, vector)),
    *(
        (aten.batch_norm.default, (x, weight, weight, weight, weight, training, 0.1, 1e-5, True))
        for x in (x4, x2, torch.rand(2, 6, 3), torch.rand(2, 6, 1, 1))
        for weight in (vector,)
        for training in (False, True)
    ),
    (aten.batch_norm.default, (x4, None, None, vector, vector, False, 0.1, 1e-5, True)),
    (aten.batch_norm.default, (x4, None, None, None, None, True, 0.1, 1e-5, True)),
    (aten.layer_norm.default, (x3, [6], vector, vector)), (aten.layer_norm.default, (x4, [5, 4])),
    (aten.group_norm.default, (x4, 3, vector, vector)), (aten.group_norm.default, (torch.rand(2, 6, 3), 2)),
    (aten.linear.default, (x3, x2)),
    (aten.linear.default, (x3, x2, torch.rand(3))),
    (aten.linear.default, (vector, x2)),
    (aten.linear.default, (torch.rand(1, 1, 6), x2, torch.rand(3))),
    (aten.matmul.default, (x3, x3.mT.contiguous())), (aten.matmul.default, (x4, torch.rand(2, 6, 4, 3))),
    (aten.conv1d.default, (torch.rand(2, 6, 9), torch.rand(4, 6, 3), torch.rand(4), [2], [1], [1], 1)),
    (aten.conv2d.default, (x4, torch.rand(8, 6, 1, 1))),
    (aten.conv2d.default, (x4, torch.rand(8, 6, 3, 3), None, [2, 1], [1, 0])),
    (aten.conv2d.default, (x4, torch.rand(6, 1, 3, 3), vector, [1, 1], [2, 2], [2, 2], 6)),
    (aten.conv2d.default, (torch.rand(2, 1, 5, 5), torch.rand(4, 1, 3, 3))),
    (aten.conv2d.default, (torch.rand(2, 6, 1, 1), torch.rand(4, 6, 1, 1))),
    (aten.conv3d.default, (torch.rand(1, 2, 4, 4, 4), torch.rand(3, 2, 2, 2, 2), None, [1], [1])),
    (aten.cat.default, ([x4, x4], 1)),
    (aten.cat.default, ([x3, torch.rand(2, 5, 2), x3], -1)),
    (aten.cat.default, ([vector, one],)),
    (aten.adaptive_avg_pool2d.default, (x4, [1, 1])), (aten.adaptive_avg_pool2d.default, (x4, [3, 2])),
    (aten.adaptive_avg_pool2d.default, (torch.rand(2, 6, 1, 1), [1, 1])),
    (aten.softmax.int, (x3, -1)), (aten.softmax.int, (x4, 1)),
]  # fmt: skip
REFUSED: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.add.Tensor, (x3, x4)),
    (aten.add_.Tensor, (torch.rand(1, 6), x2)),
    (aten.mul.Tensor, (x3, torch.rand(2, 4, 6))),
    (aten.batch_norm.default, (x4, torch.rand(5), None, vector, vector, False, 0.1, 1e-5, True)),
    (aten.batch_norm.default, (x4, None, None, None, None, False, 0.1, 1e-5, True)),
    (aten.layer_norm.default, (x3, [5], None, None)),
    (aten.layer_norm.default, (x3, [6], torch.rand(5), None)),
    (aten.group_norm.default, (x4, 4)), (aten.group_norm.default, (x4, 3, torch.rand(5))),
    (aten.linear.default, (x3, torch.rand(3, 5))), (aten.linear.default, (x3, x2, torch.rand(2))),
    (aten.matmul.default, (x3, x3)), (aten.matmul.default, (x3, vector)),
    (aten.conv2d.default, (x4, torch.rand(8, 5, 3, 3))), (aten.conv2d.default, (x4, torch.rand(8, 6, 7, 7))),
    (aten.conv2d.default, (x4, torch.rand(8, 3, 3, 3), torch.rand(7), [1, 1], [0, 0], [1, 1], 2)),
    (aten.conv2d.default, (x4, torch.rand(7, 3, 3, 3), None, [1, 1], [0, 0], [1, 1], 2)),
    (aten.cat.default, ([x3, x4], 1)),
    (aten.cat.default, ([x3, torch.rand(2, 4, 6)], 2)),
    (aten.cat.default, ([x3, x3], 3)),
    (aten.softmax.int, (x3, 3)),
]  # fmt: skip


def predicted(function: Any, args: tuple[Any, ...]) -> Any:
    """What the law says of these arguments, as if they were fake."""
    table = LayoutTable()

    def encoded(item: Any) -> Any:
        if isinstance(item, list):
            return [encoded(child) for child in item]
        if not isinstance(item, Tensor):
            return item
        layout = table.get(tuple(item.shape), item.stride(), 0, item.dtype, item.device, True, True)
        return Value(0, layout.shape, layout.dtype, 0, "computed", "", layout.strides, 0, layout)

    return row_major.row_major_result(function, tuple(map(encoded, args)), {}, table)


@pytest.mark.parametrize(("function", "args"), CASES, ids=lambda item: str(item) if callable(item) else "")
def test_laws_against_real_tensors(function: Any, args: tuple[Any, ...]) -> None:
    fresh = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
    out = function(*fresh)
    law = predicted(function, args)
    if isinstance(law, int):
        assert out is fresh[law]
    elif law is not None:  # None: left to PyTorch, as sizes of 0 are
        assert (law.shape, law.strides) == (tuple(out.shape), out.stride())
        assert (law.dtype, out.storage_offset()) == (out.dtype, 0)
        assert law.bytes == out.untyped_storage().nbytes()


@pytest.mark.parametrize(("function", "args"), REFUSED, ids=lambda item: str(item) if callable(item) else "")
def test_laws_leave_what_does_not_fit_to_pytorch(function: Any, args: tuple[Any, ...]) -> None:
    assert predicted(function, args) is None


def test_every_law_has_a_case_that_it_decides() -> None:
    decided = {function for function, args in CASES if predicted(function, args) is not None}
    assert decided == set(row_major._laws)


@pytest.mark.parametrize(
    "args",
    [(x3.mT, x3.mT), (x3, x3.double()), (x3.long(), x3.long()), (torch.rand(2, 10, 6)[:, :5],) * 2],
    ids=["transposed", "two types", "integers", "gaps"],
)
def test_laws_are_for_row_major_tensors_of_one_type(args: tuple[Tensor, Tensor]) -> None:
    assert predicted(aten.add.Tensor, args) is None
