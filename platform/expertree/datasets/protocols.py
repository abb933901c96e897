"""Protocols as data: what is done to the clean images, and how the restored ones are measured."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, TypeAlias

from expertree.degradation.parameters import Parameters

Channels: TypeAlias = Literal["rgb", "y", "grey"]
Rounding: TypeAlias = Literal["8 bit", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """The rules by which a set is measured, so that scores compare with published ones.

    Attributes:
        name: Name, unique among the protocols of a split; published results refer to it.
        degradation: Parameters of each degradation that is applied to the clean images; empty where
            the set has degraded images of its own.
        channels: Channels of PSNR and SSIM: R, G and B; the luma (BT.601, studio swing) of coloured
            images; or grey images, which the luma of the clean ones is made into first.
        multiple_px: Number of pixels of which the sides are made a multiple first, by a cut around
            the centre.
        border_px: Pixels cut from each side before measuring; the network sees them.
        gt_has_frame: Whether the clean image is larger all around; its centre belongs to the
            degraded one.
        rounding: Rounding of a degraded image that is made; with `none` it is float, and noise
            takes it out of [0, 1]. Restored images are always rounded to 8 bit.
    """

    name: str = "rgb"
    degradation: Mapping[str, Parameters] = dataclasses.field(default_factory=dict)
    channels: Channels = "rgb"
    multiple_px: int = 1
    border_px: int = 0
    gt_has_frame: bool = False
    rounding: Rounding = "8 bit"

    @property
    def reading(self) -> tuple[object, ...]:
        """What decides the pixels that are restored.

        Protocols of a split that share it differ in the measure alone.
        """
        return (self.channels == "grey", self.multiple_px, self.gt_has_frame, self.rounding)


RGB = Protocol()
"""All of each image, R, G and B."""

RGB16 = Protocol(name="rgb16", multiple_px=16)
"""R, G and B after a cut to sides that 16 divides, as AirNet and PromptIR do."""

Y = Protocol(name="y", channels="y")
"""All of each image, luma: the deraining literature."""

FRAMED = Protocol(name="rgb", gt_has_frame=True)
"""SOTS indoor, whose clean images have a frame of 10 px around what the hazy ones show."""


def noise(sigma: int) -> Protocol:
    """Return AirNet's protocol of noise: clipped and rounded to 8 bit, sides that 16 divides."""
    return Protocol(
        name=f"noise{sigma}", degradation={"noise": {"sigma": float(sigma)}}, multiple_px=16
    )


def float_noise(sigma: int) -> Protocol:
    """Return DnCNN's protocol of noise: neither clipped nor rounded, all of each image.

    The input has 20 log10(255 / sigma) dB by definition: 24.61, 20.17 and 14.15 at 15, 25 and 50.
    """
    return Protocol(
        name=f"noise{sigma}_float",
        degradation={"noise": {"sigma": float(sigma)}},
        rounding="none",
    )


def jpeg(quality: int) -> Protocol:
    """Return FBCNN's protocol of colour JPEG: libjpeg, 4:2:0, R, G and B."""
    return Protocol(name=f"jpeg{quality}", degradation={"jpeg": {"quality": quality}})


def grey_jpeg(quality: int) -> Protocol:
    """Return ARCNN's protocol of JPEG: the clean image's luma, coded and measured as grey."""
    return Protocol(
        name=f"jpeg{quality}_grey", degradation={"jpeg": {"quality": quality}}, channels="grey"
    )


_CHANNELS = {"rgb": "RGB", "y": "Y of colour", "grey": "grey"}


def in_words(protocol: Protocol) -> str:
    """Return a protocol as a clause: channels, cuts and rounding."""
    words = [_CHANNELS[protocol.channels]]
    if protocol.multiple_px > 1:
        words.append(f"cut to a multiple of {protocol.multiple_px} px")
    if protocol.border_px:
        words.append(f"{protocol.border_px} px of border left out")
    if protocol.gt_has_frame:
        words.append("the clean image's frame cut off")
    if protocol.rounding == "none":
        words.append("input neither clipped nor rounded")
    return ", ".join(words)
