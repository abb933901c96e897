"""The optimisers of training: AdamW, or Muon for the matrices and AdamW for the rest.

Muon (Jordan et al. 2024) replaces the averaged gradient of a matrix by the nearest orthogonal one,
so that every direction of it moves by the same amount. For small networks that train for minutes on
a CPU, that gains more than the time it costs (docs/LOG.md).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.flat import FlatParameters
from expertree.experts.recipe import RecipeConfig

MOMENTUM = 0.95
"""Share of the old average of gradients that Muon keeps; Nesterov's form of it, as published."""

# The published quintic: after five steps all singular values lie between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_STEPS = 5
_EPSILON = 1e-7

_ADAMW = ("step", "exp_avg", "exp_avg_sq")
_MOMENTUM_NAME = "momentum"


class Optimizer:
    """Moves a network's flat weights along their flat gradient.

    Attributes:
        learning_rate: AdamW's learning rate in the last step.
    """

    def __init__(self, network: nn.Module, flat: FlatParameters, recipe: RecipeConfig) -> None:
        """Start with empty averages.

        Args:
            network: The network; its trainable weights are views into `flat`.
            flat: Weights and gradient.
            recipe: The choice of optimiser, and its settings.
        """
        self._recipe = recipe
        self.learning_rate = recipe.learning_rate
        self._groups: list[_Group] = []
        rest = [(0, len(flat.vector))]
        if recipe.optimizer == "muon":
            self._groups, rest = _divide(network, flat)
        # Views: a step in place moves the weights themselves.
        self._vectors = [_view(flat.vector, flat.gradient, *span) for span in rest]
        self._adamw = torch.optim.AdamW(
            self._vectors,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def step(self, share: float) -> None:
        """Move the weights by one step along the gradient.

        Args:
            share: Factor on the recipe's learning rates.
        """
        self.learning_rate = self._recipe.learning_rate * share
        self._adamw.param_groups[0]["lr"] = self.learning_rate
        self._adamw.step()
        for group in self._groups:
            group.step(self._recipe.matrix_learning_rate * share, self._recipe.weight_decay)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that the next step depends on, by name, for a checkpoint."""
        found = {
            f"{name}.{number}": self._adamw.state[vector][name]
            for number, vector in enumerate(self._vectors)
            for name in _ADAMW
        }
        return found | {
            f"{_MOMENTUM_NAME}.{number}": group.momentum
            for number, group in enumerate(self._groups)
        }

    def resume(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors that `state` returned."""
        for number, vector in enumerate(self._vectors):
            self._adamw.state[vector] = {name: state[f"{name}.{number}"] for name in _ADAMW}
        for number, group in enumerate(self._groups):
            group.momentum = state[f"{_MOMENTUM_NAME}.{number}"]


class _Group:
    """Matrices of one shape, moved together."""

    def __init__(self, matrices: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._weights = [weight for weight, _ in matrices]
        self._gradients = [gradient for _, gradient in matrices]
        rows, columns = self._weights[0].shape
        # Tall matrices move more, so that what they give moves as much (Jordan's own scale).
        self._scale = max(1.0, rows / columns) ** 0.5
        self.momentum = torch.zeros_like(torch.stack(self._gradients))

    def step(self, rate: float, weight_decay: float) -> None:
        gradient = torch.stack(self._gradients)
        self.momentum.lerp_(gradient, 1.0 - MOMENTUM)
        moved = orthogonalise(gradient.lerp(self.momentum, MOMENTUM))
        for weight, direction in zip(self._weights, moved, strict=True):
            weight.mul_(1.0 - rate * weight_decay).add_(direction, alpha=-rate * self._scale)


def orthogonalise(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """Set all singular values of matrices to about 1 (Newton-Schulz, in float32).

    Args:
        matrices: Any matrices; a zero one stays zero.
    """
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + _EPSILON)
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    a, b, c = _COEFFICIENTS
    for _ in range(_NUM_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _divide(network: nn.Module, flat: FlatParameters) -> tuple[list[_Group], list[tuple[int, int]]]:
    """Return the matrices by shape, and the spans of the flat vector that are left to AdamW."""
    by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    rest: list[tuple[int, int]] = []
    for parameter, (begin, end) in zip(_trainable(network), flat.spans, strict=True):
        if _is_matrix(parameter):
            span = slice(begin, begin + parameter.numel())
            shape = (parameter.shape[0], parameter.numel() // parameter.shape[0])
            matrix = (flat.vector.data[span].view(shape), flat.gradient[span].view(shape))
            by_shape.setdefault(shape, []).append(matrix)
        elif rest and rest[-1][1] == begin:
            rest[-1] = (rest[-1][0], end)
        else:
            rest.append((begin, end))
    return [_Group(matrices) for matrices in by_shape.values()], rest


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether Muon moves a parameter: it mixes channels and is not the last layer's.

    A depth-wise kernel, a bias and a scale are vectors to Muon. The last layer, which gives the
    image's three channels and starts at zero, is left to AdamW, as heads are.
    """
    return parameter.ndim >= 2 and parameter.shape[1] > 1 and parameter.shape[0] > 3


def _view(vector: Tensor, gradient: Tensor, begin: int, end: int) -> nn.Parameter:
    view = nn.Parameter(vector.data[begin:end])
    view.grad = gradient[begin:end]
    return view
