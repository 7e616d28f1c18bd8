"""Customized layers during a run: each is recorded as one call, and whatever it is made of stays unseen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import handle_torch_function, has_torch_function

from torch_pruning.rules.customized import width_dimension


@dataclass(slots=True)
class CustomizedLayers:
    """The users' pruners by path of the layer. `blind` are the layers that do not run on tensors without data."""

    pruners: Mapping[str, Any] = field(default_factory=dict)
    blind: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """The model with each of these layers standing for one call, for the length of a run."""
        before: list[tuple[dict[str, Any], Any]] = []
        try:
            for path, pruner in self.pruners.items():
                layer = model.get_submodule(path)
                before.append((layer.__dict__, layer.__dict__.get("forward")))
                layer.__dict__["forward"] = self._surrogate(path, layer, pruner)
            yield
        finally:
            for entries, forward in before:
                entries.pop("forward", None)
                if forward is not None:
                    entries["forward"] = forward

    def _surrogate(self, path: str, layer: nn.Module, pruner: Any) -> Callable[..., Tensor]:
        forward = layer.forward

        def surrogate(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            width_in, width_out = int(pruner.get_in_channels(layer)), int(pruner.get_out_channels(layer))
            dim = int(getattr(pruner, "pruning_dim", 1))

            def run() -> Tensor:
                try:
                    out = forward(x, *args, **kwargs)
                except Exception as error:
                    if not isinstance(x, FakeTensor) or not _needs_data(error):
                        raise
                    self.blind.add(path)
                    shape = [int(size) for size in x.shape]
                    shape[width_dimension(shape, width_in, dim)] = width_out
                    return x.new_empty(shape)
                if not isinstance(out, Tensor):
                    raise TypeError(
                        f"a customized layer must give one tensor; found {type(out).__name__} from {path}: "
                        "register the layers inside it"
                    )
                return out

            tensors = [*layer.parameters(), *layer.buffers()]
            return customized_layer(x, tensors, path, width_in, width_out, dim, is_coupled(pruner), run)

        return surrogate


def is_coupled(pruner: Any) -> bool:
    """Whether a pruner has one function for both sides: each output channel is made from the input channel there."""
    one, other = pruner.prune_in_channels, pruner.prune_out_channels
    return getattr(one, "__func__", one) == getattr(other, "__func__", other)


def customized_layer(
    x: Tensor,
    tensors: list[Tensor],
    path: str,
    width_in: int,
    width_out: int,
    pruning_dim: int,
    coupled: bool,
    run: Callable[[], Tensor],
) -> Tensor:
    """What stands in the program for the layer; runs it."""
    given = (x, tensors, path, width_in, width_out, pruning_dim, coupled, run)
    if has_torch_function((x,)):
        out: Tensor = handle_torch_function(customized_layer, (x,), *given)
        return out
    return run()


def _needs_data(error: Exception) -> bool:
    """Whether a run on fakes failed because they have no data."""
    of_fakes = type(error).__module__ == fake_tensor.__name__
    no_kernel = isinstance(error, NotImplementedError)
    return of_fakes or no_kernel or "tensor subclasses" in str(error) or "fake" in str(error).lower()
