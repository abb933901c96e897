"""Hold a network's trainable weights in one vector."""

import torch
from torch import Tensor, nn

_ALIGNMENT = 16
"""Each tensor starts at a multiple of 16 numbers, 64 bytes: what vector loads want."""


class FlatParameters:
    """Moves a network's trainable parameters, and their gradients, into one vector each.

    The network goes on as before: its parameters are views. Clipping, the optimiser's step, the
    average and a checkpoint each become one operation instead of one for each tensor, which for
    a small network is a tenth of the step. The gradients have their memory from the start: clear
    them by `clear_gradients`, never by setting them to None.

    Attributes:
        vector: The parameters, with zeros between them for alignment; an optimiser steps on it.
        gradient: Their gradients, laid out alike.
        spans: Place of each parameter with the zeros behind it: first number, one past the last.
    """

    def __init__(self, network: nn.Module) -> None:
        trainable = [p for p in network.parameters() if p.requires_grad]
        sizes = [-(-p.numel() // _ALIGNMENT) * _ALIGNMENT for p in trainable]
        first = trainable[0]
        self.vector = nn.Parameter(torch.zeros(sum(sizes), dtype=first.dtype, device=first.device))
        self.vector.grad = torch.zeros_like(self.vector)
        self.gradient = self.vector.grad
        self.spans: list[tuple[int, int]] = []
        start = 0
        for parameter, size in zip(trainable, sizes, strict=True):
            span = slice(start, start + parameter.numel())
            self.vector.data[span] = parameter.detach().flatten()
            parameter.data = self.vector.data[span].view(parameter.shape)
            parameter.grad = self.gradient[span].view(parameter.shape)
            self.spans.append((start, start + size))
            start += size

    def part(self, begin: int, end: int) -> nn.Parameter:
        """Return some of the numbers, with their gradient, for an optimiser to step on."""
        view = nn.Parameter(self.vector.data[begin:end])
        view.grad = self.gradient[begin:end]
        return view

    def clear_gradients(self) -> None:
        """Set all gradients to zero."""
        self.gradient.zero_()

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale the gradient down to a norm of at most `max_norm`; return the norm it had."""
        norm: Tensor = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm
