"""Write a batch as one self-contained HTML page, with photographs before and after."""

import base64
import dataclasses
import importlib.resources
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image as PillowImage

from expertree.batch.manifest import PhotoRecord
from expertree.batch.summary import Summary
from expertree.batch.view import choice_text, printable
from expertree.errors import PhotoError
from expertree.images.io import to_u8
from expertree.images.photo_file import Photo, read_photo
from expertree.progress import clock_text

MAX_SHOWN = 24
"""Most photographs on the page, taken evenly from all."""

_SIDE_PX = 900
"""Longest side of a picture on the page; larger photographs show a part at their own size."""

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One photograph on the page; pictures as data URIs."""

    name: str
    caption: str
    before: str
    after: str
    width_px: int
    height_px: int


def write_page(
    path: Path, summary: Summary, records: Sequence[PhotoRecord], source: Path, target: Path
) -> None:
    """Write the page of a batch.

    Args:
        path: File of the page.
        summary: Summary of the batch.
        records: Records of what was restored, now or earlier.
        source: The folder of the photographs.
        target: The folder of the restored ones.
    """
    done = [record for record in records if record.state == "done"]
    chosen = np.unique(np.linspace(0, max(len(done) - 1, 0), MAX_SHOWN).round().astype(int))
    pairs = [_pair(done[index], source, target) for index in chosen[: len(done)].tolist()]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    text = importlib.resources.files("expertree.batch").joinpath("page.html.j2").read_text("utf-8")
    html = environment.from_string(text).render(
        summary=summary,
        pairs=[pair for pair in pairs if pair is not None],
        seconds=clock_text(summary.seconds),
        num_restored=sum(not record.is_as_is for record in done),
        num_as_is=sum(record.is_as_is for record in done),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def _finalize(value: object) -> object:
    """Return a value as the page shows it: a file's name need not be text."""
    return printable(value) if isinstance(value, str) else value


def _pair(record: PhotoRecord, source: Path, target: Path) -> Pair | None:
    """Return a photograph before and after; None if one of the two files cannot be read."""
    try:
        before = read_photo((source / record.name).read_bytes(), max_pixels=None)
        after = read_photo((target / record.output).read_bytes(), max_pixels=None)
    except (OSError, PhotoError):
        return None
    except Exception:
        _logger.exception("%s is not shown on the page, which is a fault of ours", record.name)
        return None
    height, width = min(before.height_px, _SIDE_PX), min(before.width_px, _SIDE_PX)
    top, left = (before.height_px - height) // 2, (before.width_px - width) // 2
    part = (slice(top, top + height), slice(left, left + width))
    return Pair(
        name=record.name,
        caption=_caption(record, before),
        before=_data_uri(before, part),
        after=_data_uri(after, part),
        width_px=width,
        height_px=height,
    )


def _caption(record: PhotoRecord, photo: Photo) -> str:
    size = f"{photo.width_px} x {photo.height_px}, {photo.depth} bits"
    sure = f", {record.confidence:.0%} sure" if record.confidence is not None else ""
    return f"{choice_text(record.expert, record.level)}{sure}; {size}; {record.seconds:.1f} s"


def _data_uri(photo: Photo, part: tuple[slice, slice]) -> str:
    stream = io.BytesIO()
    pixels: Any = to_u8(photo.tensor())[part]
    PillowImage.fromarray(pixels).save(stream, format="JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
