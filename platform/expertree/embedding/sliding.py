"""LoRA-IR's image tower for large images: windows at their own scale, and the image made small."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.embedding.views import resize, windows

_WINDOWS_AT_ONCE = 64
"""Windows that go through the tower together, so that memory does not grow with the image."""


class SlidingTower(nn.Module):
    """An image tower for images of any size (paper 002, equation 1).

    Windows and the downsampled image go through one tower; the windows' features are averaged, put
    behind those of the downsampled image, and a two-layer MLP makes the embedding of both.

    Attributes:
        tower: Image tower, from normalised float [B, 3, side, side] to [B, embed_dim].
        fusion: The MLP.
    """

    def __init__(self, tower: nn.Module, *, embed_dim: int, side_px: int, frozen: bool) -> None:
        """Wrap an image tower for images of one size.

        Args:
            tower: The image tower.
            embed_dim: Length of its embeddings, and of those made here.
            side_px: Side of a window.
            frozen: Whether to train the MLP only, as the paper does with pretrained weights.
        """
        super().__init__()
        self.tower = tower.requires_grad_(not frozen)
        self.fusion = nn.Sequential(
            nn.Linear(2 * embed_dim, embed_dim), nn.GELU(), nn.Linear(embed_dim, embed_dim)
        )
        self._side_px = side_px
        self._frozen = frozen

    def train(self, mode: bool = True) -> "SlidingTower":  # noqa: FBT001, FBT002 - torch's own
        """Set the mode; a frozen tower stays in evaluation mode and keeps its statistics."""
        super().train(mode)
        if self._frozen:
            self.tower.eval()
        return self

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        """Embed normalised images of any size."""
        cut = windows(images, self._side_px)
        num_images, num_windows = cut.shape[:2]
        chunks = torch.split(cut.flatten(0, 1), _WINDOWS_AT_ONCE)
        found = [self.tower(chunk) for chunk in chunks]
        local = torch.cat(found).view(num_images, num_windows, -1).mean(dim=1)
        whole = self.tower(resize(images, self._side_px))
        embedded: Tensor = self.fusion(torch.cat([whole, local], dim=1))
        return embedded
