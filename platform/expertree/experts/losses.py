"""The losses that an expert's training minimises, and what others weigh beside them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_CHARBONNIER_EPSILON_SQUARED = 1e-6
_PSNR_FLOOR = 1e-8
_FFT_SHARE = 0.05


def l1(restored: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Return the mean absolute error."""
    return torch.nn.functional.l1_loss(restored, clean)


def charbonnier(
    restored: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Return a mean absolute error that is smooth at zero."""
    squared = (restored - clean).square()
    return (squared + _CHARBONNIER_EPSILON_SQUARED).sqrt().mean()


def l1_fft(
    restored: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Return the mean absolute error plus a share of that of the Fourier transform.

    The second term counts errors of fine structure. The transform is orthonormal, so that both
    terms have the same scale for any size; MIMO-UNet's loss (Cho et al. 2021) weighs an
    unnormalised one by 0.1.
    """
    error = torch.view_as_real(torch.fft.rfft2(restored - clean, norm="ortho"))
    return l1(restored, clean) + _FFT_SHARE * error.abs().mean()


def psnr(restored: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Return NAFNet's loss, the mean negative PSNR in dB, up to a constant.

    An image counts by the ratio by which its error changes, not by the size of the error.
    """
    errors = (restored - clean).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(errors + _PSNR_FLOOR).mean()


def steepness(
    loss: Callable[[Tensor, Tensor], Tensor],
    restored: Float[Tensor, "b 3 h w"],
    clean: Float[Tensor, "b 3 h w"],
) -> Float[Tensor, " b"]:
    """Return how many times as long as that of `l1` a loss's gradient is, for each image.

    By as much is multiplied what a network is trained on beside the loss of its image, so that its
    published weight means what it means beside `l1`. The others of `LOSSES` are like `l1`; `psnr`
    is 20 / ln 10 / rmse times as steep, 140 times at 24 dB.

    Args:
        loss: One of `LOSSES`, or another that is like `l1`.
        restored: The images that it is taken of.
        clean: What they should be.

    Returns:
        The factors, without gradients.
    """
    if loss is not psnr:
        return restored.new_ones(len(restored))
    errors = (restored.detach() - clean).square().mean(dim=(1, 2, 3))
    return 20 / math.log(10) / (errors + _PSNR_FLOOR).sqrt()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "l1_fft": l1_fft,
    "psnr": psnr,
}
