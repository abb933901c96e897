"""The experts of a MoCE-IR's decoder block, and the router that chooses one for each image."""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.experts.backbones.restormer import ChannelNorm

_KERNEL = 7
"""Side of the depth-wise kernels of an expert's keys and values."""

_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Routed:
    """What a block chose.

    Attributes:
        expert: The number of the expert of each image.
        share: Its probability.
        loss: How unevenly the images were spread; None without noise.
    """

    expert: Int[Tensor, " b"]
    share: Float[Tensor, " b"]
    loss: Float[Tensor, ""] | None


class WindowConvolution(nn.Module):
    """Each window of one map is convolved, around its borders, with that of another.

    The product of the two Fourier transforms costs the same for any size of the window.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.q = nn.Conv2d(width, width, 1, bias=False)
        self.q_dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.kv = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(
            2 * width, 2 * width, _KERNEL, padding=_KERNEL // 2, groups=2 * width
        )
        self.norm = ChannelNorm(width, bias=True)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mix pixels over each window."""
        key, value = self.kv_dwconv(self.kv(x)).chunk(2, dim=1)
        mixed = convolve_windows(self.q_dwconv(self.q(x)), key, self.window)
        y: Tensor = self.proj_out(self.norm(mixed) * value)
        return y


def convolve_windows(
    x: Float[Tensor, "b c h w"], kernel: Float[Tensor, "b c h w"], window: int
) -> Float[Tensor, "b c h w"]:
    """Return the circular convolution of two maps inside of each window.

    Maps that windows do not divide are continued by zeros. bfloat16 is transformed as float32.
    """
    b, c, h, w = x.shape
    padding = (0, -w % window, 0, -h % window)

    def transformed(maps: Tensor) -> Tensor:
        precise = torch.promote_types(maps.dtype, torch.float32)
        padded = F.pad(maps.to(precise), padding)
        rows, columns = padded.shape[2] // window, padded.shape[3] // window
        windows = padded.reshape(b, c, rows, window, columns, window)
        spectrum: Tensor = torch.fft.rfft2(windows, dim=(3, 5))
        return spectrum

    product = transformed(x) * transformed(kernel)
    windows: Tensor = torch.fft.irfft2(product, s=(window, window), dim=(3, 5))
    return windows.reshape(b, c, h + padding[3], w + padding[1])[..., :h, :w]


class Expert(nn.Module):
    """Adds to features what windows of them say at some rank, gated by what attention found."""

    def __init__(self, width: int, rank: int, window: int) -> None:
        super().__init__()
        self.proj = nn.ModuleList(
            [
                nn.Conv2d(width, rank, 1, bias=False),
                nn.Conv2d(width, rank, 1, bias=False),
                nn.Conv2d(rank, width, 1, bias=False),
            ]
        )
        self.body = WindowConvolution(rank, window)

    def forward(
        self, x: Float[Tensor, "b c h w"], shared: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Apply it."""
        down, gate, up = self.proj
        y: Tensor = x + up(self.body(down(x)) * F.silu(gate(shared)))
        return y


class Routing(nn.Module):
    """Says which expert an image is sent to: by the features' mean and the frequency embedding."""

    def __init__(self, width: int, frequencies: int, costs: Sequence[int]) -> None:
        super().__init__()
        num = len(costs)
        self.noise_std = 1.0 / num
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num, bias=False)
        )
        self.freq_gate = nn.Linear(frequencies, num, bias=False)
        self.register_buffer("complexity", torch.tensor(costs) / max(costs))
        self.complexity: Tensor

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        frequencies: Float[Tensor, "b d"],
        noise: Float[Tensor, "b n"] | None,
        expert: int | None,
    ) -> Routed:
        """Choose, or take a given expert."""
        logits, loss = self.gate(x) + self.freq_gate(frequencies), None
        noisy = logits
        if noise is not None:
            logits = logits.float()
            noisy = logits + noise * self.noise_std
            spread = load_loss(logits, noisy, self.noise_std)
            loss = 0.5 * importance_loss(logits, self.complexity) + 0.5 * spread
        chosen = noisy.argmax(dim=1)
        if expert is not None:
            chosen = torch.full_like(chosen, expert)
        share = noisy.softmax(dim=1).gather(1, chosen[:, None])[:, 0]
        return Routed(expert=chosen, share=share, loss=loss)


def importance_loss(logits: Float[Tensor, "b n"], costs: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return how unevenly probability times cost is spread over experts.

    It is zero where an expert's share of the batch is inverse to its cost: a prior on cost, which
    is the same for every degradation.

    Args:
        logits: Logits of each image's probabilities.
        costs: Costs of the experts, relative to the largest.
    """
    return _squared_variation(logits.softmax(dim=1).sum(dim=0) * costs)


def load_loss(
    logits: Float[Tensor, "b n"], noisy: Float[Tensor, "b n"], noise_std: float
) -> Float[Tensor, ""]:
    """Return how unevenly the images are spread over experts, smoothly.

    An image counts for an expert by the probability that, with other noise, the expert's logit
    would reach the largest noisy one. It is zero where all experts have the same.

    Args:
        logits: Logits of each image's probabilities.
        noisy: The same with noise.
        noise_std: Standard deviation of the noise.
    """
    largest = noisy.amax(dim=1, keepdim=True)
    reaches = torch.special.ndtr((logits - largest) / noise_std)
    return _squared_variation(reaches.mean(dim=0))


def _squared_variation(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The square of standard deviation (n - 1) over mean."""
    return values.var() / (values.mean() + _EPSILON).square()


class Experts(nn.Module):
    """Sends each image to one expert; the last one has full rank, each before half the next's."""

    def __init__(self, width: int, windows: Sequence[int], frequencies: int) -> None:
        super().__init__()
        ranks = [width >> shift for shift in reversed(range(len(windows)))]
        self.experts = nn.ModuleList(
            nn.Sequential(Expert(width, rank, window))
            for rank, window in zip(ranks, windows, strict=True)
        )
        self.proj_out = nn.Conv2d(width, width, 1, bias=False)
        costs = [sum(p.numel() for p in expert.parameters()) for expert in self.experts]
        self.routing = Routing(width, frequencies, costs)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        shared: Float[Tensor, "b c h w"],
        frequencies: Float[Tensor, "b d"],
        noise: Float[Tensor, "b n"] | None,
        expert: int | None,
    ) -> tuple[Float[Tensor, "b c h w"], Routed]:
        """Return what the chosen experts find, and what was chosen.

        Args:
            x: Features.
            shared: What attention made of them.
            frequencies: The frequency embedding.
            noise: Standard normal; None for choices without.
            expert: The expert of all images, in place of the router's choice.
        """
        routed = self.routing(x, frequencies, noise, expert)
        if expert is None:
            found = self._dispatch(x, shared, routed.expert)
        else:
            found = self._through(expert, x, shared)
        return self.proj_out(found), routed

    def _dispatch(
        self,
        x: Float[Tensor, "b c h w"],
        shared: Float[Tensor, "b c h w"],
        chosen: Int[Tensor, " b"],
    ) -> Float[Tensor, "b c h w"]:
        """Send each image through its expert, all of one expert together."""
        order = chosen.argsort(stable=True)
        counts = F.one_hot(chosen, len(self.experts)).sum(dim=0).tolist()
        groups = zip(torch.split(x[order], counts), torch.split(shared[order], counts), strict=True)
        found = [
            self._through(number, *group) for number, group in enumerate(groups) if len(group[0])
        ]
        return torch.cat(found)[order.argsort()]

    def _through(self, number: int, x: Tensor, shared: Tensor) -> Tensor:
        found: Tensor = self.experts.get_submodule(f"{number}.0")(x, shared)
        return found
