"""The oracle: the pruned model against the original with the removed slices set to zero."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_pruning.planning.copies import copied_state, on_copies
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.precision import in_double
from torch_pruning.planning.rescale import rescale_weights
from torch_pruning.planning.silence import silenced
from torch_pruning.planning.surgery import Surgery, scale_positions
from torch_pruning.planning.undefined import undefined_noticed
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.substitute import named_tensors
from torch_pruning.trace.tracer import Example, copied, doubled

TOLERANCE = 1e-9
DEGENERATE = 1e-4
HUGE = 1e30

# A training mode probe that enlarges a change by this much sees rounding errors of 1e-16 as differences; then its batch
# is doubled, this often at most.
MOST_MAGNIFIED = 1e6
NUDGE = 1e-12
MOST_DOUBLINGS = 3


@dataclass(frozen=True, slots=True)
class Verification:
    """What the oracle saw.

    `error`: largest |A - B| / largest |A|, A the masked original and B the pruned model, over all outputs.
    `gradient_error`: the same for parameter gradients at kept positions (None if not asked for or not possible).
    `sensitivity`: largest |A - dense| / largest |dense|: how much of the change the outputs can show at all.
    """

    error: float
    gradient_error: float | None
    sensitivity: float
    shapes_equal: bool
    mode: str

    @property
    def degenerate(self) -> bool:
        """The outputs hardly depend on what was removed: agreement says nothing."""
        return self.sensitivity < DEGENERATE

    @property
    def exact(self) -> bool:
        """Equal to 1e-9 in values (and gradients), by a probe that can see. NaN is never equal."""
        gradients = self.gradient_error is None or self.gradient_error <= TOLERANCE
        return self.shapes_equal and self.error <= TOLERANCE and gradients and not self.degenerate

    def __float__(self) -> float:
        return self.error


def verify(
    model: nn.Module,
    plan: Plan,
    example_inputs: Any = None,
    *,
    mode: str = "eval",
    gradients: bool = True,
    rescale: bool = False,
) -> Verification:
    """Carry the plan out on float64 copies of the tensors and compare with copies whose removed slices are zero.

    Of blocks that go as wholes, the branches are multiplied by zero where the original adds them.

    Gradients are left out where the original has none in this mode. `model` is the one the plan was made for, before
    `plan.exec()`; it is not touched. `example_inputs` default to those of the trace. `rescale` brings randomly
    initialised weights to unit variance layer by layer, on the copies, so that deep networks do not hide errors in a
    dying signal. In training mode the batch is doubled where the model refuses it as it is, or where it makes batch
    statistics of so few values that rounding errors would show as differences.

    Raises:
        StalePlanError: if the model was changed since.
    """
    plan.fits(model)
    training = mode == "train"
    example = _example(plan, example_inputs)
    if training and not _runs(model, example):
        example = _twice(example)
    probe = _probe(model, plan, example, training, rescale)
    found, gradients = _compared(probe, gradients)
    for _ in range(MOST_DOUBLINGS):
        if found.exact or not training or not probe.magnifies_rounding(gradients):
            break
        example = _twice(example)
        if not _runs(model, example):
            break
        probe = _probe(model, plan, example, training, rescale)
        found, gradients = _compared(probe, gradients)
    return found


def _probe(model: nn.Module, plan: Plan, example: Example, training: bool, rescale: bool) -> _Probe:
    inputs = _double(example.inputs)
    with on_copies(model, {}, training):
        if rescale:
            rescale_weights(model, example, _double(inputs))
        return _Probe(model, plan, example, inputs, copied_state(model), training)


def _compared(probe: _Probe, gradients: bool) -> tuple[Verification, bool]:
    """What the three runs show, and whether the original has gradients."""
    dense_out = probe.dense(gradients=False).outputs
    try:
        masked_out, masked_grads, _ = probe.masked(gradients)
    except Exception:
        if not gradients or probe.differentiates():
            raise
        gradients = False
        masked_out, masked_grads, _ = probe.masked(gradients)
    pruned_out, pruned_grads, _ = probe.pruned(gradients)
    shapes = _same_shapes(masked_out, pruned_out)
    error = _difference(masked_out, pruned_out) if shapes else float("inf")
    # Lengths that come from the data (as many frames as a model predicts) show a change like no number does.
    sensitivity = _difference(dense_out, masked_out) if _same_shapes(dense_out, masked_out) else float("inf")
    gradient_error = None
    if gradients and masked_grads and pruned_grads:
        gradient_error = _gradient_difference(probe.plan, probe.model, masked_grads, pruned_grads)
    mode = "train" if probe.training else "eval"
    return Verification(error, gradient_error, sensitivity, shapes, mode), gradients


def _same_shapes(a: list[Tensor], b: list[Tensor]) -> bool:
    return [x.shape for x in a] == [y.shape for y in b]


def _gradient_difference(plan: Plan, model: nn.Module, masked: dict[str, Tensor], pruned: dict[str, Tensor]) -> float:
    if plan.depth is not None:
        masked = {name: grad for name, grad in masked.items() if not plan.depth.gone(name)}
        pruned = {plan.depth.original_name(name): grad for name, grad in pruned.items()}
    if masked.keys() != pruned.keys():
        return float("inf")
    for (name, dim, positions), factor in plan.scales.items():
        if name in masked:  # L(w) = M(f w): a gradient of M is 1/f of that of L
            scale_positions(masked[name], dim, positions, 1 / factor)
    surgery = Surgery(plan, model, None)
    names = list(masked)
    expected = [surgery.cut(name, masked[name]) if name in plan.shapes else masked[name] for name in names]
    return _difference(expected, [pruned[name] for name in names])


class Run(NamedTuple):
    """What a run gave. It is `defined` if no module gave NaN, whatever became of that in the outputs."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor]
    defined: bool


@dataclass(frozen=True, slots=True)
class _Probe:
    """One model, one plan, one input: three runs on copies of the same state."""

    model: nn.Module
    plan: Plan
    example: Example
    inputs: Any
    state: dict[str, Tensor]
    training: bool

    def dense(self, gradients: bool) -> Run:
        with on_copies(self.model, self.state, self.training):
            return _run(self.model, self.example, self.inputs, gradients)

    def differentiates(self) -> bool:
        """Whether the original has gradients in this mode. Some write over what their backward pass needs."""
        try:
            self.dense(gradients=True)
        except Exception:
            return False
        return True

    def masked(self, gradients: bool) -> Run:
        """With every removed slice of every tensor set to zero.

        A dimension that must not be zero keeps its values: where zeroing it alone already gives something that is not
        finite (0 / 0 in a weight norm, a division by a parameter), other tensors of its group make the zeros.
        """
        found = self._masked_run(gradients, None)
        if _finite(found) or not _finite(self.dense(gradients)):
            return found
        dims = [(name, dim) for name, kept in self.plan.kept.items() for dim in kept]
        dims += [(name, block.dim) for name, block in self.plan.blocks.items()]
        alone = [dim for dim in dims if _finite(self._masked_run(gradients, [dim]))]
        found = self._masked_run(gradients, alone)
        return found if _finite(found) else self._masked_run(gradients, self._finite_together(alone, gradients))

    def _finite_together(self, dims: list[tuple[str, int]], gradients: bool) -> list[tuple[str, int]]:
        """As many of the dimensions as can be zero at once, one by one: a weight alone, but not with its bias."""
        chosen: list[tuple[str, int]] = []
        for dim in dims:
            if _finite(self._masked_run(gradients, [*chosen, dim])):
                chosen.append(dim)
        return chosen

    def _masked_run(self, gradients: bool, only: Collection[tuple[str, int]] | None) -> Run:
        with on_copies(self.model, self.state, self.training):
            _mask(self.model, self.plan, only)
            with silenced(self.model, self.plan.depth):
                return _run(self.model, self.example, self.inputs, gradients)

    def pruned(self, gradients: bool) -> Run:
        with on_copies(self.model, self.state, self.training):
            surgery = Surgery(self.plan, self.model, None)
            try:
                surgery.apply()
                return _run(self.model, self.example, self.inputs, gradients)
            finally:
                surgery.undo()

    def magnifies_rounding(self, gradients: bool) -> bool:
        """Whether rounding errors alone can look like a difference, which is so where batch statistics see few values.

        Of two values batch norm leaves a little more than their order. Then a change of the weights by 1e-12 is seen
        enlarged a million times.
        """
        generator = torch.Generator().manual_seed(4)
        nudged = {
            name: tensor * (1 + NUDGE * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in self.state.items()
        }
        outputs, grads, _ = self.masked(gradients)
        nudged_outputs, nudged_grads, _ = replace(self, state=nudged).masked(gradients)
        if not _same_shapes(outputs, nudged_outputs) or grads.keys() != nudged_grads.keys():
            return True
        pairs = ((outputs, nudged_outputs), ([*grads.values()], [nudged_grads[name] for name in grads]))
        return any(_difference(a, b) > MOST_MAGNIFIED * NUDGE for a, b in pairs)


def _twice(example: Example) -> Example:
    """The example with its batch repeated, the repeated part told apart."""
    example = doubled(example)
    return replace(example, inputs=copied(example.inputs, _told_apart))


def _runs(model: nn.Module, example: Example) -> bool:
    """Whether training mode takes the example as it is: batch norm refuses a batch of one."""
    try:
        with on_copies(model, {}, True):
            _run(model, example, _double(example.inputs), gradients=False)
    except Exception:
        return False
    return True


def _finite(run: Run) -> bool:
    tensors = (*run.outputs, *run.gradients.values())
    return run.defined and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _example(plan: Plan, example_inputs: Any) -> Example:
    if example_inputs is not None:
        return Example(example_inputs) if plan.graph is None else replace(plan.graph.example, inputs=example_inputs)
    if plan.graph is None:
        raise ValueError("a plan read from a file needs example_inputs")
    return plan.graph.example


def _told_apart(name: str, tensor: Tensor) -> Tensor:
    """A repeated batch whose second half differs a little.

    Of two equal samples batch norm leaves nothing but rounding errors, which rescaling would blow up.
    """
    half = tensor.shape[0] // 2 if tensor.dim() else 0
    if not tensor.is_floating_point() or not half or not torch.equal(tensor[:half], tensor[half:]):
        return tensor.clone()
    noise = torch.randn(tensor[half:].shape, generator=torch.Generator().manual_seed(3), dtype=tensor.dtype)
    return torch.cat([tensor[:half], tensor[half:] * (1 + 0.3 * noise.to(tensor.device))])


def _double(inputs: Any) -> Any:
    return copied(
        inputs, lambda _, tensor: tensor.detach().clone().double() if tensor.is_floating_point() else tensor.clone()
    )


def _mask(model: nn.Module, plan: Plan, only: Collection[tuple[str, int]] | None = None) -> None:
    """Zero the removed slices of all tensors, or of these dimensions of tensors."""
    tensors = dict(named_tensors(model))
    with torch.no_grad():
        for name, dims in plan.removed.items():
            for dim, gone in dims.items():
                if only is None or (name, dim) in only:
                    tensors[name].index_fill_(dim, gone, 0)
        for name, block in plan.blocks.items():
            if only is not None and (name, block.dim) not in only:
                continue
            tensor = tensors[name].movedim((block.lane_dim, block.dim), (0, 1))
            width = tensor.shape[0] // len(block.kept)
            for lane, kept in enumerate(block.kept):
                stays = set(kept)
                gone = torch.tensor([p for p in range(tensor.shape[1]) if p not in stays], dtype=torch.long)
                tensor[lane * width : (lane + 1) * width].index_fill_(1, gone, 0)


def _run(model: nn.Module, example: Example, inputs: Any, gradients: bool) -> Run:
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients), in_double():
        torch.manual_seed(0)
        with undefined_noticed() as undefined:
            out = example.call(model, _double(inputs))
        if example.output_transform is not None:
            out = example.output_transform(out)
        outputs = [tensor for tensor, opaque in tensors_in(out) if not opaque]
        grads: dict[str, Tensor] = {}
        differentiable = [o for o in outputs if o.requires_grad and o.is_floating_point()]
        if gradients and differentiable:
            generator = torch.Generator().manual_seed(1)
            loss = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in differentiable)
            assert isinstance(loss, Tensor)
            loss.backward()
            grads = {
                name: p.grad for name, p in named_tensors(model) if isinstance(p, nn.Parameter) and p.grad is not None
            }
    return Run([o.detach().clone() for o in outputs], grads, not undefined)


def _difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest |a - b| over largest |a|, of integers and of other numbers apart; NaN on either side gives infinity.

    Numbers that stand for infinity (a mask's `finfo.min`) would hide all others: each is held to its own size.
    """
    found = {False: _Largest(), True: _Largest()}
    for x, y in zip(a, b, strict=True):
        if x.numel():
            largest = found[x.is_floating_point() or x.is_complex()]
            x, y = (torch.view_as_real(t) if t.is_complex() else t for t in (x, y))
            largest.add(x.double(), y.double())
    return max(largest.relative() for largest in found.values())


@dataclass(slots=True)
class _Largest:
    """Largest difference and largest number of what was added."""

    difference: float = 0.0
    number: float = 0.0
    of_huge: float = 0.0  # relative already

    def add(self, x: Tensor, y: Tensor) -> None:
        difference = (x - y).abs()
        finite = torch.isfinite(x)
        if not (finite.all() and torch.isfinite(y).all()):
            same = torch.equal(finite, torch.isfinite(y)) and torch.equal(x[~finite], y[~finite])  # NaN equals nothing
            self.of_huge = self.of_huge if same else float("inf")
            difference, x = difference[finite], x[finite]
        huge = difference.isinf() | (x.abs() > HUGE)
        if huge.any():
            self.of_huge = max(self.of_huge, float((difference[huge] / x[huge].abs()).max()))
            difference, x = difference[~huge], x[~huge]
        if x.numel():
            self.difference = max(self.difference, float(difference.max()))
            self.number = max(self.number, float(x.abs().max()))

    def relative(self) -> float:
        return max(self.of_huge, self.difference / self.number if self.number else self.difference)
