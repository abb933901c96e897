"""Score any restoration of a data set by PSNR and SSIM, under the set's protocol."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np

from expertree.datasets.pairs import Dataset, Pair, read_pair
from expertree.datasets.protocols import Protocol
from expertree.images import metrics
from expertree.images.arrays import Image, ImageU8

Degraded: TypeAlias = ImageU8 | Image
"""A degraded image: uint8 `[height, width, 3]` RGB; or float32, 1 being white and noise going out
of [0, 1], under a protocol that does not round."""

RestoreImage: TypeAlias = Callable[[Degraded], ImageU8]
"""Function of a degraded image to a restored one of its size, uint8 `[height, width, 3]` RGB."""

INPUT = "input"
"""The method that leaves the degraded image as it is, unrounded where the protocol wants it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """The quality of an image against the clean one, in the protocol's channels.

    Attributes:
        psnr: PSNR in dB, of 8-bit values.
        ssim: SSIM in [-1, 1].
    """

    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PairScore:
    """One pair's scores.

    Attributes:
        name: Name of the pair.
        tasks: Its degradations.
        degraded: Quality of the degraded image itself.
        restored: Quality of the restored image.
    """

    name: str
    tasks: tuple[str, ...]
    degraded: Quality
    restored: Quality


def evaluate(dataset: Dataset, restore: RestoreImage) -> dict[str, Any]:
    """Restore every image of a data set, and average the scores.

    Args:
        dataset: A data set from `open_dataset`.
        restore: Restores an image, for example `lambda image: restorer.restore(image).image`.

    Returns:
        The means, as `summarise` returns them.

    Raises:
        DatasetError: If a pair cannot be read, or the split has no degraded images.
    """
    return summarise(dataset, score_pairs(dataset, restore))


def score_pairs(dataset: Dataset, restore: RestoreImage) -> Iterator[PairScore]:
    """Restore and score one pair after the other.

    Raises:
        DatasetError: If a pair cannot be read, or has no degraded image.
    """
    for pair in dataset:
        found = score_pair(pair, [dataset.protocol], {"restored": restore})[dataset.protocol.name]
        yield PairScore(
            name=pair.name, tasks=pair.tasks, degraded=found[INPUT], restored=found["restored"]
        )


def score_pair(
    pair: Pair, protocols: Sequence[Protocol], restores: Mapping[str, RestoreImage]
) -> dict[str, dict[str, Quality]]:
    """Score several methods on a pair under several protocols; none restores the same pixels twice.

    Args:
        pair: A pair of a data set.
        protocols: Protocols of its split.
        restores: Functions that restore, by method.

    Returns:
        By protocol and method the quality; the method `input` is the degraded image itself.

    Raises:
        DatasetError: If the pair cannot be read, or has no clean or no degraded image.
    """
    read: dict[tuple[object, ...], tuple[ImageU8, dict[str, Degraded]]] = {}
    found: dict[str, dict[str, Quality]] = {}
    for protocol in protocols:
        if protocol.reading not in read:
            lq, gt = read_pair(pair, protocol)
            restored = {name: restore(lq) for name, restore in restores.items()}
            read[protocol.reading] = gt, {INPUT: lq, **restored}
        gt, images = read[protocol.reading]
        found[protocol.name] = {name: measure(x, gt, protocol) for name, x in images.items()}
    return found


def measure(image: Degraded, gt_u8: ImageU8, protocol: Protocol) -> Quality:
    """Measure an image against the clean one under a protocol.

    Raises:
        ValueError: If the sizes differ, or nothing is left inside the border.
    """
    border = protocol.border_px
    inside = slice(border, -border if border else None)
    a, b = image[inside, inside], gt_u8[inside, inside]
    is_luma = protocol.channels == "y"
    if a.dtype != np.uint8:
        return Quality(
            psnr=metrics.psnr_unrounded(a, b, is_luma=is_luma),
            ssim=metrics.ssim_unrounded(a, b, is_luma=is_luma),
        )
    if is_luma:
        return Quality(psnr=metrics.psnr_y(a, b), ssim=metrics.ssim_y(a, b))
    if protocol.channels == "grey":
        a = metrics.mean_of_channels(a)
    return Quality(psnr=metrics.psnr_rgb(a, b), ssim=metrics.ssim(a, b))


def to_8_bit(image: Degraded) -> ImageU8:
    """Clip and round an image to 8 bit, for a method that takes nothing else."""
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)


def summarise(dataset: Dataset, scores: Iterable[PairScore]) -> dict[str, Any]:
    """Return means over the images of a data set, as plain data.

    Returns:
        `dataset`, `split`, `protocol`, and under `groups` for each combination of degradations, and
        for `all`: `num_images`, and `psnr` and `ssim` of `degraded` and `restored`.
    """
    listed = list(scores)
    groups: dict[str, list[PairScore]] = {}
    for score in listed:
        groups.setdefault(" + ".join(score.tasks) or "unknown", []).append(score)
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "protocol": dataclasses.asdict(dataset.protocol),
        "groups": {name: _means(members) for name, members in {**groups, "all": listed}.items()},
    }


def table_of(summary: Mapping[str, Any]) -> str:
    """Return the means as lines of text: degraded beside restored, by degradation."""
    channels = {"rgb": "RGB", "y": "Y", "grey": "grey"}[summary["protocol"]["channels"]]
    lines = [f"{summary['dataset']} {summary['split']}, PSNR (dB) / SSIM, {channels}"]
    groups = summary["groups"]
    shown = {"all": groups["all"]} if len(groups) == 2 else groups
    width = max(len(name) for name in (*shown, "degradation"))
    lines.append(f"{'degradation':{width}}  images  {'degraded':>15}  {'routed':>15}     gain")
    for name, group in shown.items():
        before, after = group["degraded"], group["restored"]
        cells = (f"{q['psnr']:6.2f} / {q['ssim']:6.3f}" for q in (before, after))
        gain = after["psnr"] - before["psnr"]
        lines.append(f"{name:{width}}  {group['num_images']:6}  {'  '.join(cells)}  {gain:+7.2f}")
    return "\n".join(lines)


def _means(scores: list[PairScore]) -> Mapping[str, Any]:
    def mean(qualities: list[Quality]) -> dict[str, float]:
        return {"psnr": fmean(q.psnr for q in qualities), "ssim": fmean(q.ssim for q in qualities)}

    return {
        "num_images": len(scores),
        "degraded": mean([score.degraded for score in scores]),
        "restored": mean([score.restored for score in scores]),
    }
