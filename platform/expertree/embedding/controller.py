"""DA-CLIP: a frozen tower, a trainable copy that controls it, and links that start at zero.

The copy (the controller) gives the degradation embedding, which is all that is used downstream. Its
blocks also feed the frozen tower, which then gives the content embedding: that of the clean image
behind the degradation. Learning both keeps what the frozen tower knows of content out of the
controller's output (paper 000, appendix A).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from expertree.errors import ConfigError


class ContentTower(nn.Module):
    """The frozen tower with its links.

    Attributes:
        tower: The frozen image tower, a ViT of open_clip.
        links: For each block of the controller a linear layer that starts at zero. As in DA-CLIP,
            the controller's last block feeds the frozen tower's first, and so on.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(requires_grad=False)
        self.links = nn.ModuleList()
        for block in blocks_of(tower):
            width = _width_of(block)
            link = nn.Linear(width, width)
            nn.init.zeros_(link.weight)
            nn.init.zeros_(link.bias)
            self.links.append(link)

    def train(self, mode: bool = True) -> "ContentTower":  # noqa: FBT001, FBT002 - torch's own
        """Set the mode of all parts but the frozen tower, which stays in evaluation mode."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(
        self, images: Float[Tensor, "b 3 side side"], states: Sequence[Tensor] = ()
    ) -> Float[Tensor, "b dim"]:
        """Embed the content of normalised images.

        Args:
            images: The images that the controller saw.
            states: The controller's output after each block, as `states_of` collects it; without
                it the frozen tower works alone.
        """
        added = (
            [link(state) for link, state in zip(self.links, states, strict=True)] if states else []
        )
        with ExitStack() as hooks:
            for block, extra in zip(blocks_of(self.tower), reversed(added), strict=False):
                hooks.enter_context(_adding(block, extra))
            embedded: Tensor = self.tower(images)
        return embedded


def controller_of(tower: nn.Module) -> nn.Module:
    """Return a trainable copy of a tower: the controller before training.

    Raises:
        ConfigError: If the tower is no ViT of open_clip.
    """
    blocks_of(tower)
    return copy.deepcopy(tower).requires_grad_(requires_grad=True)


@contextmanager
def states_of(tower: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the output of each block of a ViT while it runs.

    Yields:
        A list that is filled by the next call of the tower, first block first.
    """
    found: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        found.append(output)

    with ExitStack() as hooks:
        for block in blocks_of(tower):
            hooks.callback(block.register_forward_hook(keep).remove)
        yield found


def blocks_of(tower: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of a ViT of open_clip, first to last.

    Raises:
        ConfigError: If the tower is no ViT of open_clip.
    """
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ConfigError(
            f"form=controller links a ViT of open_clip block by block, but the image tower is a "
            f"{type(tower).__name__}; name one in clip.name, for example ViT-B-32"
        )
    return list(blocks)


def _width_of(block: nn.Module) -> int:
    norm = getattr(block, "ln_1", None)
    if not isinstance(norm, nn.LayerNorm):
        raise ConfigError(f"a block of the image tower, {type(block).__name__}, has no layer norm")
    return int(norm.normalized_shape[0])


@contextmanager
def _adding(block: nn.Module, extra: Tensor) -> Iterator[None]:
    """Add a tensor to the output of a block while the context lasts."""

    def add(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output + extra

    handle = block.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
