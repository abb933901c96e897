"""AirNet's encoder of degradations, and the contrast by which it learns.

He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020: a crop's
vector is told, among those of many earlier crops, to be that of another crop of the same image.
The other vectors come from a copy of the encoder that follows it slowly.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.spec import Joined, RowsOfAll

SLOPE = 0.1
"""Of the leaky ReLUs."""

_MOMENTUM = 0.999
"""Share of the old copy that is kept at each step."""

_TEMPERATURE = 0.07


class ResBlock(nn.Module):
    """Two convolutions, normalised over the batch, beside a shorter way."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        # Of every second pixel by itself: oneDNN's gradient of a 1 x 1 convolution with a stride
        # writes beyond its memory, from 4 channels to 8 in channels_last (PyTorch 2.15).
        self.stride = stride
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d height width"]:
        """Apply both ways."""
        sparse = x[..., :: self.stride, :: self.stride]
        return F.leaky_relu(self.backbone(x) + self.shortcut(sparse), SLOPE)


class Encoder(nn.Module):
    """From images to the map of their degradation, and from this to a vector."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.E_pre = ResBlock(3, width, 1)
        self.E = nn.Sequential(
            ResBlock(width, 2 * width, 2),
            ResBlock(2 * width, 4 * width, 2),
            nn.AdaptiveAvgPool2d(1),
        )
        self.mlp = nn.Sequential(
            nn.Linear(4 * width, embedding), nn.LeakyReLU(SLOPE), nn.Linear(embedding, embedding)
        )

    def embed(self, degradation: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the vectors, of length 1, of maps of degradation."""
        return F.normalize(self.mlp(self.E(degradation).flatten(1)), dim=1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the vectors of images."""
        return self.embed(self.E_pre(image))


class Contrast(Joined):
    """The encoder, and what its training alone needs: the slow copy and the queue of its vectors.

    These are no part of the state dict, as nobody restores by them.
    """

    joined = ("queue", "num_queued")

    def __init__(self, width: int, embedding: int, length: int) -> None:
        super().__init__()
        self.encoder_q = Encoder(width, embedding)
        slow = torch.cat([p.detach().flatten() for p in self.encoder_q.parameters()])
        queue = F.normalize(torch.randn(length, embedding), dim=1)
        self.register_buffer("slow", slow, persistent=False)
        self.register_buffer("queue", queue, persistent=False)
        self.register_buffer("num_queued", torch.zeros((), dtype=torch.int64), persistent=False)
        self.slow: Tensor
        self.queue: Tensor
        self.num_queued: Tensor

    def forward(
        self, degradation: Float[Tensor, "b c h w"], key: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch, and let copy and queue follow.

        Args:
            degradation: The maps of the crops, from the encoder's first stage.
            key: Another crop of each, of the same degradation.
        """
        query = self.encoder_q.embed(degradation)
        keys = self._keys(key)
        loss = contrastive_loss(query.float(), keys, self.queue.clone())
        self._enqueue(keys)
        return loss

    @torch.no_grad()
    def _keys(self, crops: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Let the copy follow by a step, and return its vectors of crops.

        It begins as the encoder is at the first step, whatever weights that was given. It has no
        statistics of its own, as it always normalises by the batch.
        """
        named_parameters = dict(self.encoder_q.named_parameters())
        now = torch.cat([p.detach().flatten() for p in named_parameters.values()])
        is_first = self.num_queued == 0
        self.slow.copy_(torch.where(is_first, now, torch.lerp(now, self.slow, _MOMENTUM)))
        parts = torch.split(self.slow, [p.numel() for p in named_parameters.values()])
        copy = {
            name: part.view(p.shape)
            for (name, p), part in zip(named_parameters.items(), parts, strict=True)
        }
        statistics = {name: value.clone() for name, value in self.encoder_q.named_buffers()}
        keys: Tensor = torch.func.functional_call(self.encoder_q, {**copy, **statistics}, (crops,))
        return keys.float()

    @torch.no_grad()
    def _enqueue(self, keys: Float[Tensor, "b d"]) -> None:
        """Put vectors in place of the oldest."""
        newest = keys[-len(self.queue) :]
        places = torch.arange(len(newest), device=keys.device) + self.num_queued
        self.queue[places % len(self.queue)] = newest
        self.num_queued += len(newest)

    @torch.no_grad()
    def join(self, before: Mapping[str, Tensor], rows_of_all: RowsOfAll) -> None:
        """Put the vectors of all workers' crops in place of the oldest; see `Joined`."""
        num_new = min(int(self.num_queued - before["num_queued"]), len(self.queue))
        places = torch.arange(-num_new, 0, device=self.queue.device) + self.num_queued
        keys = rows_of_all(self.queue[places % len(self.queue)])
        self.queue.copy_(before["queue"])
        self.num_queued.copy_(before["num_queued"])
        self._enqueue(keys)


def contrastive_loss(
    query: Float[Tensor, "b d"], key: Float[Tensor, "b d"], others: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """Return how badly each vector tells its key from others, by their cosines.

    It is log(n + 1) where all are alike, and goes to zero where only the key is near.

    Args:
        query: Vectors of length 1.
        key: The vector of another crop of the same image, of length 1.
        others: Vectors of other crops, of length 1.
    """
    near = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([near, query @ others.T], dim=1) / _TEMPERATURE
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
