"""Which of its own experts each layer of a network takes for an image."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.experts.conditions import NOTHING, Condition


@runtime_checkable
class Choosing(Protocol):
    """A network whose layers have experts of their own, of which an image meets one in each."""

    def restore_and_choose(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b layers experts"]]:
        """Return what the network itself returns, and ones where an expert was taken."""
        ...


def run_network(
    network: nn.Module, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b layers experts"] | None]:
    """Restore images, and return what the network's layers chose, if they choose."""
    if isinstance(network, Choosing):
        return network.restore_and_choose(image, condition)
    restored: Tensor = network(image, condition) if condition else network(image)
    return restored, None


def shares_of(
    choices: Sequence[Int[Tensor, "b layers experts"]],
) -> tuple[tuple[float, ...], ...]:
    """Return, for each layer, the share of an image's tiles that each expert has taken.

    Returns:
        A row a layer, each of sum 1; nothing where nothing was chosen.
    """
    if not choices:
        return ()
    shares = torch.cat(list(choices)).float().mean(dim=0)
    return tuple(tuple(round(share, 4) for share in row) for row in shares.tolist())
