"""Score any restoration of a data set by PSNR and SSIM, under the set's protocol."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any, TypeAlias

from expertree.datasets.pairs import Dataset, Protocol, read_pair
from expertree.images import metrics
from expertree.images.arrays import ImageU8

RestoreImage: TypeAlias = Callable[[ImageU8], ImageU8]
"""Function of a degraded image, uint8 `[height, width, 3]` RGB, to a restored one of its size."""


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
        lq, gt = read_pair(pair, dataset.protocol)
        yield PairScore(
            name=pair.name,
            tasks=pair.tasks,
            degraded=measure(lq, gt, dataset.protocol),
            restored=measure(restore(lq), gt, dataset.protocol),
        )


def measure(image_u8: ImageU8, gt_u8: ImageU8, protocol: Protocol) -> Quality:
    """Measure an image against the clean one under a protocol.

    Raises:
        ValueError: If the sizes differ, or nothing is left inside the border.
    """
    border = protocol.border_px
    inside = slice(border, -border if border else None)
    a, b = image_u8[inside, inside], gt_u8[inside, inside]
    if protocol.channels == "y":
        return Quality(psnr=metrics.psnr_y(a, b), ssim=metrics.ssim_y(a, b))
    return Quality(psnr=metrics.psnr_rgb(a, b), ssim=metrics.ssim(a, b))


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
    channels = {"rgb": "RGB", "y": "Y"}[summary["protocol"]["channels"]]
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
