"""Which clusters may lose units, and which of them the caller gave a ratio of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from torch_pruning.axes.expression import Axis, Concat, Free, Product, leaves, resolve
from torch_pruning.graph.clusters import Cluster
from torch_pruning.graph.graph import Graph
from torch_pruning.graph.ignored import produced_axes
from torch_pruning.pruner.candidates import Pool
from torch_pruning.pruner.options import Options, Ratios


def movable(graph: Graph, ignored: Collection[Free], exact_only: bool, follow: str = "head_dims") -> list[Cluster]:
    """The clusters that may lose units. Of the axes in one product only the innermost moves: a ratio applies once.

    An axis that is tied to a width moves with it, whatever else it stands beside.
    """
    outer = {before for before, _ in standing_before(graph)}
    return [
        cluster
        for cluster in _allowed(graph, ignored, exact_only, follow)
        if not all(axis in outer for axis in cluster.axes)
    ]


def heads(graph: Graph, ignored: Collection[Free], exact_only: bool, follow: str = "head_dims") -> list[Cluster]:
    """The clusters of heads: axes before head dims in some product, but not the groups of a convolution.

    Where heads lie within heads, as queries within key-value heads, the outermost move: a ratio applies once.
    """
    outer = head_axes(graph)
    within = {after for before, after in standing_before(graph) if before in outer}
    return [
        cluster
        for cluster in _allowed(graph, ignored, exact_only, follow)
        if all(axis in outer and axis not in within for axis in cluster.axes if axis in graph.group_of)
    ]


def head_axes(graph: Graph) -> set[Free]:
    """The axes before head dims in some product, but not the groups of a convolution."""
    return {before for before, _ in standing_before(graph)} - convolution_groups(graph)


def _allowed(graph: Graph, ignored: Collection[Free], exact_only: bool, follow: str) -> Iterator[Cluster]:
    for cluster in graph.clusters_following(follow):
        groups = [graph.group_of[axis] for axis in cluster.axes if axis in graph.group_of]
        if not any(member.tensor in graph.parameters for group in groups for member in group.members):
            continue  # a table of positions, say: there is nothing to gain, and nothing to score
        inexact = exact_only and not all(group.exact for group in groups)
        if not inexact and not any(axis in ignored for axis in cluster.axes):
            yield cluster


def standing_before(graph: Graph) -> set[tuple[Free, Free]]:
    """Pairs of movable axes of which the first stands before the second in a product: heads before head dims."""
    before: set[tuple[Free, Free]] = set()
    for axes in graph.axes.values():
        for axis in axes:
            stack: list[Axis] = [resolve(axis)]
            while stack:
                item = stack.pop()
                if isinstance(item, Product):
                    free = [_movable_leaves(graph, factor) for factor in item.factors]
                    before.update((a, b) for one, other in combinations(free, 2) for a in one for b in other)
                stack += item.factors if isinstance(item, Product) else item.parts if isinstance(item, Concat) else ()
    # After a channel shuffle each stands before the other somewhere: the one that was split off first counts as outer.
    return {(a, b) for a, b in before if (b, a) not in before or a.serial < b.serial}


def _movable_leaves(graph: Graph, factor: Axis) -> list[Free]:
    """Of (heads * [pairs + pairs]) the pairs, too."""
    return [leaf for leaf in leaves(factor) if leaf.reason is None and leaf in graph.group_of]


def convolution_groups(graph: Graph) -> set[Free]:
    """The axes in dim 0 of the weights of convolutions that have several groups."""
    found: set[Free] = set()
    for inferred in graph.programs:
        for call in inferred.program.calls:
            values = call.inputs()
            if call.op.startswith("aten.conv") and len(values) > 1 and values[1].name in graph.axes:
                weight = values[1]
                # The channels of the side that dim 1 of the weight holds one group of.
                whole = call.results()[0] if "transpose" in call.op else values[0]
                if len(weight.shape) > 2 and whole.shape[1 - len(weight.shape)] != weight.shape[1]:
                    found.update(leaves(graph.axes[weight.name][0]))
    return found


# ---------------------------------------------------------------- ratios and pools

Asked = tuple[Any, float]  # which entry of the caller's options speaks for a cluster, and the ratio it gives


def asked_ratios(graph: Graph, clusters: Sequence[Cluster], ratios: Ratios | None) -> dict[int, Asked]:
    """The entries of `ratios` that name each cluster, by the cluster's index; of several the last counts.

    Raises:
        ValueError: for a key that names no group which may lose units.
    """
    found: dict[int, Asked] = {}
    for place, (key, ratio) in enumerate((ratios or {}).items()):
        axes = produced_axes(graph, key if isinstance(key, tuple) else (key,))
        named = [i for i, cluster in enumerate(clusters) if not axes.isdisjoint(cluster.axes)]
        if not named:
            raise ValueError(
                f"a key of ratios must produce an axis that may be pruned, found {_shown(graph, key)}: "
                "graph.explain(name) says what its dimensions are"
            )
        found.update((index, ((place, isinstance(key, tuple)), ratio)) for index in named)
    return found


def _shown(graph: Graph, key: object) -> str:
    """Modules and parameters by their names."""
    if isinstance(key, tuple):
        return f"({', '.join(_shown(graph, part) for part in key)})"
    named = (*graph.model.named_modules(), *graph.model.named_parameters())
    return repr(next((name for name, found in named if found is key), key))


def select(graph: Graph, options: Options, ignored: Collection[Free]) -> tuple[list[Cluster], dict[int, Asked]]:
    """All clusters that take part, and the ratios that the caller gave some of them."""
    clusters = movable(graph, ignored, options.exact_only, options.follow)
    asked: dict[int, Asked] = {}
    if options.head_dim_ratio is not None:
        inner = {dims for before, dims in standing_before(graph) if before not in convolution_groups(graph)}
        for index, cluster in enumerate(clusters):
            if all(axis in inner for axis in cluster.axes if axis in graph.group_of):
                asked[index] = (("head dims", False), options.head_dim_ratio)
    asked.update(asked_ratios(graph, clusters, options.ratios))
    return _with_heads(graph, options, ignored, clusters, asked)


def _with_heads(
    graph: Graph, options: Options, ignored: Collection[Free], clusters: list[Cluster], asked: dict[int, Asked]
) -> tuple[list[Cluster], dict[int, Asked]]:
    if options.head_ratio == 0:
        return clusters, asked
    known = set(clusters)
    of_heads = [c for c in heads(graph, ignored, options.exact_only, options.follow) if c not in known]
    if not of_heads:
        raise ValueError(
            "head_ratio is for models with heads that may be pruned, found none: they may be ignored, frozen or tied "
            "to a width; follow='heads' lets them give way instead of head dims"
        )
    if isinstance(options.head_ratio, Mapping):
        named = asked_ratios(graph, of_heads, options.head_ratio)
    else:
        named = dict.fromkeys(range(len(of_heads)), (("heads", False), options.head_ratio))
    of_all = {**asked, **{len(clusters) + index: (("heads", *key), r) for index, (key, r) in named.items()}}
    return [*clusters, *of_heads], of_all


def pools(graph: Graph, clusters: Sequence[Cluster], asked: Mapping[int, Asked], scope: str) -> list[Pool]:
    """Clusters that share a ranking: each alone ("local"), all ("global", "cost") or those of one structure, but only
    with others of the same entry of `ratios`; the modules of one tuple always."""
    members: dict[object, list[int]] = {}
    ratio_of: dict[object, float | None] = {}
    for index, cluster in enumerate(clusters):
        entry, ratio = asked.get(index, ((None, False), None))
        together = entry[-1]
        place: object = "one" if together or scope in ("global", "cost") else index
        if scope == "isomorphic" and not together:
            place = structure(graph, cluster)
        key = (entry, place)
        members.setdefault(key, []).append(index)
        ratio_of[key] = ratio
    return [Pool(tuple(indices), ratio_of[key]) for key, indices in members.items()]


def structure(graph: Graph, cluster: Cluster) -> tuple[object, ...]:
    """What a cluster is made of, without sizes: classes of layers, dimensions of their tensors, and roles.

    Clusters of equal structure are compared with one another, as in Fang et al., "Isomorphic Pruning for Vision
    Models", 2024.
    """
    rows: list[tuple[str, ...]] = []
    for axis in cluster.axes:
        group = graph.group_of.get(axis)
        for member in group.members if group else ():
            path, _, name = member.tensor.rpartition(".")
            owner = graph.model
            for step in path.split(".") if path else ():
                owner = getattr(owner, step, owner)
            rows.append((type(owner).__name__, name, str(member.dim), member.role, str(len(member.siblings))))
    return tuple(sorted(rows))
