"""The user's model comes back as it was: after success, after bad input, and after a crash."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import torch_pruning as pruning
from torch_pruning.errors import CheckError, PositionError
from torch_pruning.planning import execute, surgery
from torch_pruning.planning.attributes import AttributeWriter

pytestmark = pytest.mark.models


class Net(nn.Module):
    """Something of everything that could be lost: buffers, plain tensors, containers, a cache, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.body = nn.Linear(8, 6)
        self.head = nn.Linear(6, 4)
        self.widths = [8, 6]
        self.sizes = {"body": 6}
        self.table = torch.randn(8)
        self.cache: Tensor | None = None
        self.fail: Exception | None = None
        self.register_buffer("shift", torch.randn(6))
        self.head.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x))).mean((2, 3)).view(x.shape[0], self.widths[0])
        self.cache = x
        if self.fail is not None:
            raise self.fail
        return self.head(self.drop(self.body(x * self.table)) + self.shift)


@pytest.fixture
def net() -> Net:
    """A model in the middle of training: gradients, mixed modes, hooks of every kind."""
    net = Net()
    net(torch.randn(2, 3, 6, 6)).square().sum().backward()
    net.cache = None
    net.norm.eval()
    net.stem.register_forward_hook(lambda module, args, out: out)
    net.body.register_forward_pre_hook(lambda module, args: args)
    net.body.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    net.body.weight.register_hook(lambda grad: grad)
    return net


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that a user would miss; what must stay the same object by identity."""
    found: dict[str, Any] = {"rng": torch.get_rng_state().tolist(), "grad mode": torch.is_grad_enabled()}
    found["inference"] = torch.is_inference_mode_enabled()
    found["fast path"] = torch.backends.mha.get_fastpath_enabled()
    found["dtype"] = torch.get_default_dtype()
    for path, module in model.named_modules():
        found[f"{path} class"] = type(module)
        for name, entry in vars(module).items():
            key = f"{path}.{name}"
            if name in ("_parameters", "_buffers"):
                for child, tensor in entry.items():
                    found[f"{key}.{child}"] = None if tensor is None else _tensor(tensor)
            elif "hooks" in name:
                found[key] = [(number, id(hook)) for number, hook in entry.items()]
            elif name == "_modules":
                found[key] = [(child, id(each)) for child, each in entry.items()]
            elif isinstance(entry, Tensor):
                found[key] = _tensor(entry)
            else:
                found[key] = (id(entry), type(entry), repr(entry))
    return found


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "object": id(tensor), "class": type(tensor), "memory": tensor.data_ptr(), "values": tensor.detach().tolist(),
        "dtype": tensor.dtype, "strides": tensor.stride(), "requires_grad": tensor.requires_grad,
        "inference": tensor.is_inference(), "hooks": list(tensor._backward_hooks or ()),
        "grad": None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist()),
    }  # fmt: skip


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


INPUTS = torch.ones(2, 3, 6, 6)


def test_fingerprint_sees_what_it_should(net: Net) -> None:
    """Each of these would be a loss; each is noticed."""
    changes: list[Callable[[], Any]] = [
        lambda: net.eval(),
        lambda: net.stem.weight.data.add_(1),
        lambda: net.norm.running_mean.add_(1),
        lambda: setattr(net.body.weight, "grad", None),
        lambda: net.stem._forward_hooks.clear(),
        lambda: net.widths.append(1),
        lambda: setattr(net, "cache", torch.ones(1)),
        lambda: setattr(net.head, "weight", nn.Parameter(net.head.weight.detach().clone(), requires_grad=False)),
        lambda: torch.rand(1),
        lambda: net.head.weight.requires_grad_(True),
    ]
    for change in changes:
        before = fingerprint(net)
        change()
        assert len(differences(before, fingerprint(net))) >= 1


def test_untouched_after_success(net: Net) -> None:
    """Building, planning, printing, verifying and a dry run leave no trace."""
    inputs = INPUTS.clone()
    before = fingerprint(net)
    graph = pruning.DependencyGraph().build_dependency(net, inputs)
    plan = graph.get_pruning_plan(net.body, pruning.prune_linear, [1, 2])
    assert str(plan).count("<DEP") == len(plan.rows)
    assert plan.exec(dry_run=True) == 2 * (9 + 4)
    plan.check()
    pruning.verify(net, plan)
    assert plan.attributes == {}
    assert differences(before, fingerprint(net)) == []
    assert torch.equal(inputs, INPUTS)


def test_untouched_after_bad_input(net: Net) -> None:
    """Inputs that the model cannot take, and positions that cannot go."""
    before = fingerprint(net)
    with pytest.raises(RuntimeError, match="channels"):
        pruning.DependencyGraph().build_dependency(net, torch.ones(2, 4, 6, 6))
    with pytest.raises(TypeError, match="positional argument"):
        pruning.DependencyGraph().build_dependency(net, (INPUTS, INPUTS))
    graph = pruning.DependencyGraph().build_dependency(net, INPUTS)
    for idxs in ([99], [0, 0], range(6), ["a"]):
        with pytest.raises((PositionError, TypeError)):
            graph.get_pruning_plan(net.body, pruning.prune_linear, idxs)  # type: ignore[arg-type]
    assert differences(before, fingerprint(net)) == []


def test_untouched_after_crash_in_the_model(net: Net) -> None:
    """The user's own exception comes through as it is, once."""
    net.fail = LookupError("of the user's own")
    before = fingerprint(net)
    with pytest.raises(LookupError) as crash:
        pruning.DependencyGraph().build_dependency(net, INPUTS)
    assert crash.value is net.fail
    assert crash.value.__cause__ is None
    assert differences(before, fingerprint(net)) == []


def crash_at_assignment(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    calls = iter(range(1000))

    def assign(*args: Any) -> None:
        if next(calls) == 3:
            raise error
        original(*args)

    original = surgery.assign
    monkeypatch.setattr(surgery, "assign", assign)


def crash_at_attributes(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    calls = iter(range(1000))

    def set_attribute(self: AttributeWriter, *args: Any) -> None:
        if next(calls) == 2:
            raise error
        original(self, *args)

    original = AttributeWriter.set
    monkeypatch.setattr(AttributeWriter, "set", set_attribute)


def crash_at_check(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def check_run(*args: Any) -> None:
        raise error

    monkeypatch.setattr(execute, "check_run", check_run)


@pytest.mark.parametrize("error", [CheckError("crash"), KeyboardInterrupt("crash")], ids=["error", "interrupt"])
@pytest.mark.parametrize("crash", [crash_at_assignment, crash_at_attributes, crash_at_check])
def test_untouched_after_crash_in_surgery(
    net: Net, monkeypatch: pytest.MonkeyPatch, crash: Callable[..., None], error: BaseException
) -> None:
    """Also half way through, also when interrupted; and the plan can still be carried out."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    optimizer.step()
    graph = pruning.DependencyGraph().build_dependency(net, INPUTS)
    plan = graph.get_pruning_plan(net.stem, pruning.prune_conv, [0, 5])
    before = fingerprint(net)
    momenta = {id(p): (id(s["momentum_buffer"]), s["momentum_buffer"].tolist()) for p, s in optimizer.state.items()}
    with monkeypatch.context() as patch:
        crash(patch, error)
        with pytest.raises(type(error), match="crash"):
            plan.exec(optimizer)
    assert differences(before, fingerprint(net)) == []
    assert momenta == {
        id(p): (id(s["momentum_buffer"]), s["momentum_buffer"].tolist()) for p, s in optimizer.state.items()
    }
    assert graph.graph.epoch == 0
    assert plan.exec(optimizer) == 2 * (28 + 2 + 6)
    assert net.widths == [6, 6]
    assert net(INPUTS).shape == (2, 4)


def test_untouched_attention_after_crash_in_surgery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that was to get another class keeps its own."""
    model = VisionTransformer(32, 16, num_layers=1, num_heads=4, hidden_dim=24, mlp_dim=20, num_classes=5)
    graph = pruning.DependencyGraph().build_dependency(model, torch.ones(1, 3, 32, 32))
    attention = model.encoder.layers[0].self_attention
    plan = graph.get_pruning_plan(attention.out_proj, pruning.prune_related_linear, range(6, 12))
    before = fingerprint(model)
    crash_at_check(monkeypatch, CheckError("crash"))
    with pytest.raises(CheckError):
        plan.exec()
    assert type(attention) is nn.MultiheadAttention
    assert differences(before, fingerprint(model)) == []
