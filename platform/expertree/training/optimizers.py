"""The optimisers of training: AdamW, or Muon for the matrices and AdamW for the rest.

Muon (Jordan et al. 2024) replaces the averaged gradient of a matrix by the nearest orthogonal one,
so that every direction of it moves by the same amount. For small networks that train for minutes on
a CPU, that gains more than the time it costs (docs/LOG.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.training.flat import FlatParameters

MOMENTUM = 0.95
"""Share of the old average of gradients that Muon keeps; Nesterov's form of it, as published."""

# The published quintic: after five steps all singular values lie between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_STEPS = 5
_EPSILON = 1e-7

_ADAMW = ("step", "exp_avg", "exp_avg_sq")
_MOMENTUM_NAME = "momentum"


class Optimizer:
    """Moves weights along their gradients."""

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        *,
        undecayed: Iterable[nn.Parameter] = (),
        matrices: Sequence["Matrices"] = (),
        learning_rate: float,
        matrix_learning_rate: float = 0.0,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        fused: bool = True,
    ) -> None:
        """Start with empty averages.

        Args:
            weights: Weights that AdamW moves, and makes smaller by weight decay.
            undecayed: Weights that it moves only.
            matrices: Weights that Muon moves.
            learning_rate: AdamW's learning rate.
            matrix_learning_rate: Muon's.
            weight_decay: Share of each weight that a step of rate 1 takes away.
            betas: AdamW's averaging of the gradient and of its square.
            fused: Whether AdamW takes one pass over memory in place of several; it rounds in
                another way.
        """
        self._learning_rate, self._matrix_learning_rate = learning_rate, matrix_learning_rate
        self._weight_decay = weight_decay
        self._matrices = matrices
        groups: list[dict[str, Any]] = [{"params": list(weights)}]
        alone = list(undecayed)
        if alone:
            groups.append({"params": alone, "weight_decay": 0.0})
        self._adamw = torch.optim.AdamW(
            groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=fused
        )
        self._weights: list[nn.Parameter] = [w for group in groups for w in group["params"]]

    def step(self, share: float) -> None:
        """Move the weights by one step.

        Args:
            share: Factor on the learning rates.
        """
        for group in self._adamw.param_groups:
            group["lr"] = self._learning_rate * share
        self._adamw.step()
        for matrices in self._matrices:
            matrices.step(self._matrix_learning_rate * share, self._weight_decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that the next step depends on, by name, for a checkpoint."""
        found = {
            f"{name}.{number}": self._adamw.state[weight][name]
            for number, weight in enumerate(self._weights)
            if weight in self._adamw.state  # AdamW knows none of a weight without a gradient.
            for name in _ADAMW
        }
        return found | {
            f"{_MOMENTUM_NAME}.{number}": matrices.momentum
            for number, matrices in enumerate(self._matrices)
        }

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `tensors` returned; there may be others among them."""
        for number, weight in enumerate(self._weights):
            if f"{_ADAMW[0]}.{number}" in tensors:
                self._adamw.state[weight] = {
                    name: _laid_out_as(weight, tensors[f"{name}.{number}"]) for name in _ADAMW
                }
        for number, matrices in enumerate(self._matrices):
            matrices.momentum.copy_(tensors[f"{_MOMENTUM_NAME}.{number}"])


def _laid_out_as(weight: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor of AdamW's state on its weight's device and in its memory format.

    The fused step walks through both in memory's order, and safetensors knows one format only.
    """
    if tensor.shape != weight.shape:
        return tensor.to(weight.device)
    return torch.empty_like(weight).copy_(tensor)


class Matrices:
    """Matrices of one shape, which Muon moves together.

    Attributes:
        momentum: The averages of their gradients, one for each.
    """

    def __init__(self, matrices: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Start with averages of zero.

        Args:
            matrices: Weights and gradient of each, as views.
        """
        self._weights = [weight for weight, _ in matrices]
        self._gradients = [gradient for _, gradient in matrices]
        rows, columns = self._weights[0].shape
        # Tall matrices move more, so that what they give moves as much (Jordan's own scale).
        self._scale = max(1.0, rows / columns) ** 0.5
        self.momentum = torch.zeros_like(torch.stack(self._gradients))

    def step(self, rate: float, weight_decay: float) -> None:
        """Move all of them by one step, but for those that this step's samples did not reach.

        A direction has length 1 however small the average is: without a gradient, a matrix of an
        expert that no sample was sent to would go on as it went last.
        """
        gradient = torch.stack(self._gradients)
        seen = gradient.flatten(1).any(dim=1)[:, None, None]
        self.momentum.lerp_(torch.where(seen, gradient, self.momentum), 1.0 - MOMENTUM)
        moved = orthogonalise(gradient.lerp(self.momentum, MOMENTUM)) * seen
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


def muon_split(
    network: nn.Module, flat: FlatParameters
) -> tuple[list[Matrices], list[nn.Parameter]]:
    """Return the matrices that Muon moves, by shape, and the weights that are left to AdamW.

    Args:
        network: The network; its trainable weights are views into `flat`.
        flat: Weights and gradient.
    """
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
    return [Matrices(own) for own in by_shape.values()], [flat.part(*span) for span in rest]


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether Muon moves a parameter: it mixes channels and is not the last layer's.

    A depth-wise kernel, a bias and a scale are vectors to Muon. The last layer, which gives the
    image's three channels and starts at zero, is left to AdamW, as heads are.
    """
    return parameter.ndim >= 2 and parameter.shape[1] > 1 and parameter.shape[0] > 3
