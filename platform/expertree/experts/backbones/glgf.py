"""SLER-IR's global-local fusion: a prior of a whole image, and how features receive it.

Paper 004, section 3.4. What the paper leaves open is settled in METHOD section 4.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.restormer import ChannelNorm
from expertree.experts.backbones.spec import Norm

TOKENS = 8
"""Rows, and columns, of the prior's tokens."""

_HEADS = 4


class TokenNorm(Norm):
    """Layer norm of tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Normalise each token over its channels."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


class Content(nn.Module):
    """The content encoder: tokens of an image made small, which no fine degradation survives.

    Three convolutions halve the overview's sides to 8 x 8 tokens; the global token is their mean,
    from which an MLP scales and shifts all tokens. It begins with scales of 1 and shifts of 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        last = nn.Linear(width, 2 * width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.film = nn.Sequential(nn.Linear(width, width), nn.GELU(), last)
        self.norm = TokenNorm(width)

    def forward(self, overview: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b 64 c"]:
        """Return the content semantic map, equation 11."""
        tokens = self.layers(overview).flatten(2).mT
        scale, shift = self.film(tokens.mean(dim=1, keepdim=True)).chunk(2, dim=-1)
        calibrated: Tensor = self.norm((1.0 + scale) * tokens + shift)
        return calibrated


class Fusion(nn.Module):
    """Content asks where what is wrong: attention from content to cells, then feed-forward."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.content = Content(width)
        self.cells = nn.Linear(embed_dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS**2, width))
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project_out = nn.Linear(width, width)
        self.norm = TokenNorm(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, overview: Float[Tensor, "b 3 64 64"], cells: Float[Tensor, "b n embed"]
    ) -> Float[Tensor, "b c 8 8"]:
        """Return the restoration prior of whole images, equation 12."""
        side = round(cells.shape[1] ** 0.5)
        content = self.content(overview)
        wrong = self.cells(F.layer_norm(cells, cells.shape[-1:])).mT.unflatten(2, (side, side))
        wrong = F.interpolate(wrong, (TOKENS, TOKENS), mode="bilinear").flatten(2).mT
        query, (key, value) = (
            self.query(content + self.place),
            self.key_value(wrong + self.place).chunk(2, dim=-1),
        )
        heads = [part.unflatten(2, (_HEADS, -1)).transpose(1, 2) for part in (query, key, value)]
        seen = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        fused = content + self.project_out(seen)
        fused = fused + self.ffn(self.norm(fused))
        prior: Tensor = fused.mT.unflatten(2, (TOKENS, TOKENS))
        return prior


class Injection(nn.Module):
    """Features receive the prior by attention between channels; it begins as the identity.

    The paper's attention would give as many outputs as the prior has tokens; between channels it
    gives one for each pixel, and its cost is linear in them.
    """

    def __init__(self, width: int, heads: int, prior_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.norm = ChannelNorm(width, bias=True)
        self.align = nn.Conv2d(prior_width, width, 1, bias=False)
        self.query = nn.Conv2d(width, width, 1, bias=False)
        self.key_value = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width, bias=False)
        self.project_out = nn.Conv2d(width, width, 1, bias=False)
        nn.init.zeros_(self.project_out.weight)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        prior: Float[Tensor, "b p 8 8"],
        window: Float[Tensor, "b 4"],
    ) -> Float[Tensor, "b c h w"]:
        """Add what the prior, cut to where the features lie in their image, makes of them."""
        b, c, h, w = x.shape
        query = cut_map(self.query(self.align(prior)), window, (h, w)).to(x.dtype)
        key, value = self.dwconv(self.key_value(self.norm(x))).chunk(2, dim=1)
        parts = [
            part.reshape(b, self.heads, c // self.heads, h * w) for part in (query, key, value)
        ]
        scores = F.normalize(parts[0], dim=-1) @ F.normalize(parts[1], dim=-1).mT
        mixed = (scores * self.temperature).softmax(dim=-1) @ parts[2]
        informed: Tensor = x + self.project_out(mixed.reshape(b, c, h, w))
        return informed


def cut_map(
    values: Float[Tensor, "b c rows columns"], window: Float[Tensor, "b 4"], size: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """Read a map of whole images where some pixels of them lie, bilinearly, at least in float32.

    Args:
        values: The map.
        window: Top, left, bottom and right of the pixels, as shares of their image's sides.
        size: Height and width in pixels.
    """
    places = [
        first + (last - first) * (torch.arange(count, device=window.device) + 0.5) / count
        for first, last, count in (
            (window[:, 0:1], window[:, 2:3], size[0]),
            (window[:, 1:2], window[:, 3:4], size[1]),
        )
    ]
    rows, columns = (2.0 * place - 1.0 for place in places)
    b = len(window)
    grid = torch.stack([columns[:, None].expand(b, *size), rows[:, :, None].expand(b, *size)], -1)
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    return F.grid_sample(exact, grid.to(exact), padding_mode="border", align_corners=False)
