"""Criteria that look at the gradients of a loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torch_pruning.errors import ImportanceError
from torch_pruning.importance.criterion import TARGET_TYPES, Criterion, Types, added
from torch_pruning.importance.observation import Observer
from torch_pruning.importance.reductions import Normalizer
from torch_pruning.importance.shares import Share
from torch_pruning.importance.statistics import GRADIENT, SQUARED_GRADIENT, Statistics, require_shape
from torch_pruning.importance.tensors import widened


class TaylorImportance(Observer, Criterion):
    """First order change of the loss when a unit goes: score(u) = sum over its entries of |w * g|.

    With `multivariable`, |sum over its entries of w * g|: the entries go together. g is the gradient of the loss summed
    over all that was observed; without observation, `.grad` as it stands.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017, eq. 7;
    "Importance Estimation for Neural Network Pruning", 2019, eq. 6.
    """

    needs = frozenset((GRADIENT,))

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        multivariable: bool = False,
        bias: bool = False,
        target_types: Types | None = TARGET_TYPES,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.multivariable = multivariable

    def select(self, shares: list[Share], where: str) -> list[Share]:
        return self.with_statistics([s for s in shares if self._gradient(s) is not None], where, "a loss.backward()")

    def score(self, shares: Sequence[Share]) -> Tensor:
        if self.multivariable:
            return added([share.sums(self._product(share)) for share in shares]).abs()
        return added([share.sums(self._product(share).abs()) for share in shares])

    def _product(self, share: Share) -> Tensor:
        gradient = self._gradient(share)
        assert gradient is not None
        require_shape(share.name, gradient.shape, share.tensor.shape)
        return share.values * widened(share.own(gradient)).to(share.tensor.device)

    def _gradient(self, share: Share) -> Tensor | None:
        if self.statistics is not None:
            return self.statistics.gradients.get(share.name)
        gradient = share.tensor.grad
        return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


class HessianImportance(Observer, Criterion):
    """Second order change of the loss when a unit goes: score(u) = sum over its entries of w^2 * h / 2.

    h, the diagonal of the Fisher matrix, is the sum of g^2 over all backward passes, of single samples for the matrix
    itself. LeCun et al., "Optimal Brain Damage", 1989, eq. 5; Theis et al., "Faster gaze prediction with dense networks
    and Fisher pruning", 2018, eq. 4.
    """

    needs = frozenset((SQUARED_GRADIENT,))

    def select(self, shares: list[Share], where: str) -> list[Share]:
        return self.with_statistics([s for s in shares if self._curvature(s) is not None], where, "a loss.backward()")

    def score(self, shares: Sequence[Share]) -> Tensor:
        return added([share.sums(self._increase(share)) for share in shares])

    def _increase(self, share: Share) -> Tensor:
        curvature = self._curvature(share)
        assert curvature is not None
        require_shape(share.name, curvature.shape, share.tensor.shape)
        return share.values.abs().square() * share.own(curvature).to(share.tensor.device) / 2

    def _curvature(self, share: Share) -> Tensor | None:
        return None if self.statistics is None else self.statistics.squares.get(share.name)

    def zero_grad(self) -> None:
        """Forget what was accumulated."""
        self.statistics = None

    def accumulate_grad(self, model: nn.Module) -> None:
        """Take in `.grad` of all parameters, as the gradient of one sample: call it after each backward pass.

        Raises:
            ImportanceError: if no parameter has a gradient.
        """
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if not gradients:
            raise ImportanceError(
                f"gradients are needed to accumulate; found none in {type(model).__name__}: call loss.backward() before"
            )
        if self.statistics is None:
            self.statistics = Statistics(self.needs)
        for name, gradient in gradients.items():
            self.statistics.add_gradient(name, gradient)
