"""Which blocks go: scores by influence or by weights, and plans that combine depth with width."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torch_pruning.axes.expression import leaves
from torch_pruning.errors import BudgetError
from torch_pruning.graph.blocks import Blocks, ResidualBlock
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.infer import axes_of
from torch_pruning.planning.layer_counts import Probe
from torch_pruning.planning.plan import Plan
from torch_pruning.planning.shorter import removable_blocks, shorten_plan
from torch_pruning.trace.program import tensors_in
from torch_pruning.trace.tracer import Example, copied

BlockScore: TypeAlias = "str | Callable[[nn.Module], float]"


@dataclass(frozen=True, slots=True)
class DepthOptions:
    """How many blocks go, or which share of those that can; and how they are chosen. See `plan_depth`."""

    depth: int | float
    importance: BlockScore = "influence"
    calibration: Iterable[Any] | None = None
    ignore: Iterable[object] = ()


def plan_depth(
    graph: Graph, options: DepthOptions, width: Callable[[Graph], Plan] | None = None, unused: str = "freeze"
) -> Plan:
    """The plan that takes whole residual blocks out, those of the lowest scores.

    `depth`: how many, or, below 1, which share of those that can go. `importance`: "influence" (1 - cosine of input
    and output), "magnitude" (Euclidean norm of its parameters), or a function of the block's module. `calibration`:
    inputs like the example's to measure the influence on; the example alone by default. `ignore`: blocks that stay,
    as modules, paths or patterns. `width`: makes the plan for what is left, on its graph.

    Raises:
        BudgetError: if there are not so many blocks that can go; the message says why others cannot.
        ValueError: for a depth out of range, or scores that are not numbers.
        CheckError: if the shortened model would not compute what it should.

    >>> import torch, torch_pruning as tp
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.branch = torch.nn.Linear(4, 4)
    ...
    ...     def forward(self, x):
    ...         return x + self.branch(x).relu()
    >>> net = torch.nn.Sequential(Block(), Block(), torch.nn.Linear(4, 2))
    >>> graph = tp.build_graph(net, [tp.Example(torch.randn(3, 4))])
    >>> print(plan_depth(graph, DepthOptions(1, "magnitude", ignore=["0"])))
    1: removed
    parameters 50 -> 30
    MACs       40 -> 24
    """
    probe = Probe(graph)
    blocks = _allowed(graph, removable_blocks(probe), options.ignore)
    count = _count(options.depth, blocks)
    scores = block_scores(graph, blocks.found, options.importance, options.calibration)
    chosen = sorted(blocks.found, key=lambda block: scores[block.path])[:count]
    return shorten_plan(probe, blocks, sorted(chosen, key=lambda block: block.calls.start), unused, width)


def block_scores(
    graph: Graph, blocks: Iterable[ResidualBlock], importance: BlockScore, calibration: Iterable[Any] | None = None
) -> dict[str, float]:
    """The score of each block, by path; see `plan_depth`.

    Raises:
        ValueError: for a name that is none, or a score that is not a number.
    """
    if importance == "influence":
        found = influence(graph, blocks, calibration)
    elif callable(importance) or importance == "magnitude":
        score = importance if callable(importance) else _magnitude
        found = {block.path: float(score(graph.model.get_submodule(block.path))) for block in blocks}
    else:
        raise ValueError(
            f"block_importance must be 'influence', 'magnitude' or a function of a block's module, found {importance!r}"
        )
    for path, value in found.items():
        if value != value:
            raise ValueError(f"the score of {path} must be a number, found NaN: check its parameters and the inputs")
    return found


@torch.no_grad()
def influence(
    graph: Graph, blocks: Iterable[ResidualBlock], calibration: Iterable[Any] | None = None
) -> dict[str, float]:
    """1 - E[cos(x, y)] of the input x and output y of each block, over channels, the mean over everything else.

    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024, equation 1. The
    model runs in evaluation mode on a copy of each input; channels are the dimensions that are not positions, tokens
    or batch.
    """
    sums = {block.path: (0.0, 0) for block in blocks}
    inputs_of: dict[str, Tensor] = {}
    handles = []
    for block in blocks:
        module = graph.model.get_submodule(block.path)
        channels = _channels(graph, block)

        def before(_: nn.Module, args: Any, kwargs: Any, path: str = block.path) -> None:
            inputs_of[path] = _first_floating((args, kwargs)).clone()  # a sum in place would change it

        def after(_: nn.Module, args: Any, out: Any, path: str = block.path, dims: Any = channels) -> None:
            x, y = inputs_of.pop(path), _first_floating(out)
            cosines = _cosine(x, y, dims)
            total, count = sums[path]
            sums[path] = (total + float(cosines.sum()), count + cosines.numel())

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        _run(graph, [graph.example.inputs] if calibration is None else calibration)
    finally:
        for handle in handles:
            handle.remove()
    return {path: 1 - total / max(1, count) for path, (total, count) in sums.items()}


def _run(graph: Graph, inputs: Iterable[Any]) -> None:
    training = [module for module in graph.model.modules() if module.training]
    try:
        graph.model.eval()
        for batch in inputs:
            example = Example(batch, graph.example.forward_fn)
            example.call(graph.model, copied(batch, lambda _, tensor: tensor.detach().clone()))
    finally:
        for module in training:
            module.training = True


def _first_floating(tree: Any) -> Tensor:
    return next(tensor for tensor, _ in tensors_in(tree) if tensor.is_floating_point())


def _cosine(x: Tensor, y: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Of vectors that are zero the cosine counts as 1 if both are, else as 0."""
    x, y = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (x, y))
    product, x_squared, y_squared = ((a * b).sum(dims) for a, b in ((x, y), (x, x), (y, y)))
    lengths = (x_squared * y_squared).sqrt()
    both_zero = (x_squared == 0) & (y_squared == 0)
    return torch.where(lengths > 0, product / torch.where(lengths > 0, lengths, 1), both_zero.to(x.dtype))


def _channels(graph: Graph, block: ResidualBlock) -> tuple[int, ...]:
    """The dimensions of the block's output on which an axis of the model lies, the last one if none does."""
    axes = axes_of(block.output, graph.programs[0], graph.axes)
    return tuple(dim for dim, axis in enumerate(axes) if leaves(axis)) or (len(axes) - 1,)


def _magnitude(module: nn.Module) -> float:
    squares = [parameter.detach().double().square().sum() for parameter in module.parameters()]
    return float(torch.stack([square.cpu() for square in squares]).sum().sqrt()) if squares else 0.0


def _count(depth: int | float, blocks: Blocks) -> int:
    """Raises ValueError or BudgetError for what is no number of blocks."""
    if isinstance(depth, bool) or not isinstance(depth, (int, float)) or not depth > 0:
        raise ValueError(f"depth must be a positive number of blocks, or a share below 1 of them; found {depth!r}")
    if depth >= 1 and not float(depth).is_integer():
        raise ValueError(f"depth must be a whole number of blocks, or a share below 1 of them; found {depth!r}")
    count = round(depth * len(blocks.found)) if depth < 1 else int(depth)
    if count == 0 and blocks.found:
        raise BudgetError(
            f"depth={depth} was asked for, which rounds to none of the {len(blocks.found)} blocks that can go: the "
            f"smallest share that takes one is {1 / len(blocks.found):.4g}"
        )
    if count > len(blocks.found) or not blocks.found:
        why = "".join(f"; {entry.path} cannot: {entry.reason}" for entry in blocks.refused[:3])
        raise BudgetError(
            f"depth={depth} was asked for, and {len(blocks.found)} can go: blocks whose output is their input plus "
            f"something, in a list that gets along without them{why}: ask for fewer blocks, or for widths alone"
        )
    return count


def _allowed(graph: Graph, blocks: Blocks, ignore: Iterable[object]) -> Blocks:
    wanted = list(ignore)
    modules = dict(graph.model.named_modules())

    def kept(path: str) -> bool:
        return any(_names(item, path) if isinstance(item, str) else item is modules[path] for item in wanted)

    return blocks.without({block.path: "it is to be ignored" for block in blocks.found if kept(block.path)})


def _names(pattern: str, path: str) -> bool:
    return path == pattern or path.startswith(f"{pattern}.") or fnmatch.fnmatchcase(path, pattern)
