"""The home of an axis: the smallest module that it never leaves.

Code around a module gets hold of what the module returns, of tensors that stand outside of it, and of the attributes
that say its sizes. An axis on none of these lives inside: the code around cannot depend on how many units it has,
unless it reaches into the parts of the module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from torch_pruning.axes.expression import Axis, Free, leaves
from torch_pruning.axes.sizes import AttributeSource, DimensionSource, sources
from torch_pruning.graph.infer import Inferred, axes_of
from torch_pruning.rules.facts import SizeEquation
from torch_pruning.trace.substitute import named_tensors

Path = tuple[str, ...]
StateAxes = Mapping[str, tuple[Axis, ...]]
_ROOT: Path = ()


def find_homes(model: nn.Module, programs: Iterable[Inferred], of_state: StateAxes) -> dict[Free, Path]:
    """The path of the home of every axis that lies on a tensor, or is seen in a run; () for the model itself."""
    homes: dict[Free, Path] = {}
    seen: dict[tuple[Path, int], tuple[Axis, ...]] = {}  # holds the axes, so that their identities stay unique
    for path, axes in _sightings(model, programs, of_state):
        if (path, id(axes)) in seen:
            continue
        seen[path, id(axes)] = axes
        for leaf in (leaf for axis in axes for leaf in leaves(axis)):
            homes[leaf] = _common(homes[leaf], path) if leaf in homes else path
    return homes


def path_of(name: str) -> Path:
    """ "a.b" -> ("a", "b")"""
    return tuple(name.split(".")) if name else _ROOT


def _sightings(
    model: nn.Module, programs: Iterable[Inferred], of_state: StateAxes
) -> Iterator[tuple[Path, tuple[Axis, ...]]]:
    """(module, axes that its code can see), for whatever the runs show."""
    elements = set(_elements(model))
    for module, name in _holders(model, of_state):
        yield path_of(module), of_state[name]
    for inferred in programs:
        for call in (*inferred.calls, *inferred.dead):
            for value in (*call.inputs(), *call.results()):
                yield path_of(call.where.module), axes_of(value, inferred, of_state)
        for module, values in inferred.program.returned.items():
            around = _ROOT if module in elements else path_of(module)[:-1]
            for value in values:
                yield around, axes_of(value, inferred, of_state)
        for equation in inferred.facts.equations:
            yield from _of_attributes(equation, inferred, of_state)


def _holders(model: nn.Module, of_state: StateAxes) -> Iterator[tuple[str, str]]:
    """(module, name of a tensor) for every module that holds it. Tied parameters have one name and several holders."""
    parts = dict(model.named_modules())
    for name in of_state:
        path = name.partition("[")[0].rpartition(".")[0]
        while path not in parts:  # inside an object that stands on a module
            path = path.rpartition(".")[0]
        yield path, name
    names = {id(tensor): name for name, tensor in named_tensors(model)}
    for module, part in parts.items():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and names.get(id(tensor)) in of_state:
                yield module, names[id(tensor)]


def _elements(model: nn.Module) -> Iterator[str]:
    """The modules with parts of their own in lists of modules. Values pass from one to the next, and the code around
    often collects them if it is asked to: they are at home nowhere."""
    for path, container in model.named_modules():
        if isinstance(container, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            for key, child in container.named_children():
                if child._modules:
                    yield f"{path}.{key}" if path else key


def _of_attributes(
    equation: SizeEquation, inferred: Inferred, of_state: StateAxes
) -> Iterator[tuple[Path, tuple[Axis, ...]]]:
    """An attribute that says a size is read by whoever holds it: what is inside a container, or a config object, may be
    held anywhere."""
    found = sources(equation.expression)
    values = inferred.program.values
    sized = [axes_of(values[s.value], inferred, of_state)[s.dim] for s in found if isinstance(s, DimensionSource)]
    for source in found:
        if isinstance(source, AttributeSource):
            yield path_of(source.module) if len(source.steps) == 1 else _ROOT, (equation.axis, *sized)


def _common(a: Path, b: Path) -> Path:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:length]
