"""Study of a bundle on whole photographs: each kind of fault at fixed strengths, blind and told.

Patches of 128 px show less than people's pictures do. Here whole photographs that nothing was
trained on are spoiled, and real pairs are read; the bundle restores them without being told what is
wrong, and told; classical methods are told. Clean pictures should come back as they are.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from expertree.classical import candidates_for
from expertree.config import to_dict
from expertree.datasets import Dataset, open_dataset, read_pair
from expertree.datasets.scoring import to_8_bit
from expertree.degradation.looks import desaturate
from expertree.degradation.maps import decode_map
from expertree.degradation.parameters import Parameters
from expertree.degradation.photographs import Photo, list_photographs, load_photo
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import Maps
from expertree.degradation.synthesis import degrade
from expertree.errors import ConfigError
from expertree.evaluation.scores import HARM_DB
from expertree.images.arrays import Field, ImageU8
from expertree.images.folders import find_files
from expertree.images.io import jpeg_round_trip
from expertree.images.metrics import PSNR_CAP_DB, psnr_rgb
from expertree.restorer import SHIPPED, Restorer
from expertree.routing import Wish
from expertree.studies.tables import Cell, Rows, Table

VERSION = 1
"""Raise it when the same settings would give other rows."""

_RAIN = {"angle_deg": 10.0, "length_px": 31, "width_px": 3}
_HAZE = {"airlight": 0.85}
_BLUR = {"size_px": 15, "std_x_px": 2.0, "std_y_px": 2.0, "angle_deg": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One kind of fault at one strength.

    Attributes:
        name: Name in the table.
        task: The degradation, by its name in `degradation.registry`.
        parameters: Its parameters.
    """

    name: str
    task: str
    parameters: Parameters


FAULTS: tuple[Fault, ...] = (
    *(
        Fault(name=f"noise, sigma {sigma}", task="noise", parameters={"sigma": float(sigma)})
        for sigma in (5, 15, 25, 50)
    ),
    Fault(name="rain, strength 100", task="rain", parameters={"strength": 100.0, **_RAIN}),
    Fault(
        name="snow, medium flakes",
        task="snow",
        parameters={"size": "medium", "density": 1.0, "angle_deg": 10.0},
    ),
    Fault(name="haze, beta 1", task="haze", parameters={"beta": 1.0, **_HAZE}),
    Fault(name="haze, beta 2", task="haze", parameters={"beta": 2.0, **_HAZE}),
    Fault(name="blur, deviation 2 px", task="blur", parameters=_BLUR),
    Fault(
        name="motion blur, 15 px",
        task="motion_blur",
        parameters={"size_px": 15, "angle_deg": 30.0},
    ),
    Fault(name="low light, gamma 2", task="low_light", parameters={"gamma": 2.0}),
    Fault(name="low light, gamma 3.5", task="low_light", parameters={"gamma": 3.5}),
    *(
        Fault(name=f"JPEG, quality {quality}", task="jpeg", parameters={"quality": quality})
        for quality in (10, 20, 40)
    ),
)
"""What photographs are spoiled with. Noise is clipped and rounded."""

CLEAN: Mapping[str, Callable[[ImageU8], ImageU8]] = {
    "nothing, in colour": lambda image_u8: image_u8,
    "nothing, grey": lambda image_u8: desaturate(image_u8, 0.0),
    "nothing, pale": lambda image_u8: desaturate(image_u8, 0.25),
    "nothing, saved as JPEG 90": lambda image_u8: jpeg_round_trip(
        image_u8, 90, subsampling="4:2:0"
    ),
}
"""Looks of pictures with nothing wrong, which should be left as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PairsConfig:
    """A set of real pairs."""

    name: str = ""
    """Name in the table."""

    root: str = ""
    """Its folder."""

    reader: str = "paired"
    """Reader, a key of the data sets."""

    split: str = ""
    """Part of the set; the reader's usual one by default."""

    task: str = ""
    """What is wrong with its pictures, for those that are told; empty if nobody can say."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WholeConfig:
    """The bundle, and the pictures that it is measured on."""

    bundle: str = SHIPPED
    """Name, folder or URI of a bundle."""

    photographs: str | None = None
    """Folder of clean photographs, of which none was trained on."""

    pairs: tuple[PairsConfig, ...] = ()
    """Sets of real pairs."""

    rain_streaks: str | None = None
    """Folder of streak masks that rain is made with; null for procedural ones."""

    kinds: tuple[str, ...] = ()
    """Names of the rows to make; all by default."""

    classical: bool = True
    """Whether classical methods run too; they take most of the time."""

    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        """Raise ConfigError if pairs lack a folder or a name of their own, or a row is unknown."""
        for pairs in self.pairs:
            if not pairs.name or not pairs.root:
                raise ConfigError(f"whole.pairs: each needs a name and a root, got {pairs}")
        known = [fault.name for fault in FAULTS] + list(CLEAN) + [own.name for own in self.pairs]
        for name in known:
            if known.count(name) > 1:
                raise ConfigError(f"whole.pairs: two rows are called {name!r}; rename the pairs")
        for kind in self.kinds:
            if kind not in known:
                raise ConfigError(f"whole.kinds: {kind!r} is none of {', '.join(known)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A row to be made: its pictures, degraded beside clean, and what is told of them."""

    name: str
    spec: Mapping[str, Any]
    task: str
    pictures: Callable[[], Iterator[tuple[ImageU8, ImageU8]]]


def study_whole(config: WholeConfig, rows: Rows) -> tuple[Table, ...]:
    """Restore all pictures, and measure them.

    Raises:
        ConfigError: If there are no photographs and no pairs.
        ArtefactError: If the bundle cannot be opened.
        DatasetError: If a set of pairs cannot be read.
        PhotoError: If the photographs cannot be used.
    """
    if config.photographs is None and not config.pairs:
        raise ConfigError(
            "whole.photographs is not set; give a folder of clean photographs, or whole.pairs"
        )
    restorer = Restorer.load(config.bundle)
    found = {}
    for row in _rows_of(config):
        if config.kinds and row.name not in config.kinds:
            continue
        spec = {
            "study": "whole",
            "version": VERSION,
            "bundle": restorer.bundle.manifest.digest,
            "classical": config.classical,
            **row.spec,
        }
        found[row.name] = rows.row(row.name, spec, partial(_measure, config, restorer, row))
    spoiled = {name: row for name, row in found.items() if row["input"] is not None}
    clean = {name: row for name, row in found.items() if row["input"] is None}
    return tuple(
        table for table, own in ((_of_spoiled(spoiled), spoiled), (_of_clean(clean), clean)) if own
    )


def _rows_of(config: WholeConfig) -> Iterator[_Row]:
    print_of = functools.cache(_print_of)  # a set's pictures may all lie in one file
    if config.photographs is not None:
        photos = list_photographs(config.photographs, min_side_px=1)[0]
        masks = _masks(config.rain_streaks)
        prints = sorted(photo.sha256 for photo in photos)
        for fault in FAULTS:
            own = masks if fault.task == "rain" else []
            yield _Row(
                name=fault.name,
                spec={
                    "fault": to_dict(fault),
                    "photographs": prints,
                    "masks": [print_of(path) for path in own],
                    "seed": config.seed,
                },
                task=fault.task,
                pictures=partial(_spoiled, fault, photos, own, config.seed),
            )
        for name, look in CLEAN.items():
            yield _Row(
                name=name,
                spec={"look": name, "photographs": prints},
                task="",
                pictures=partial(_clean, look, photos),
            )
    for pairs in config.pairs:
        if config.kinds and pairs.name not in config.kinds:
            continue  # its files are not read to say what it is
        dataset = open_dataset(pairs.reader, pairs.root, pairs.split, partial=True)
        yield _Row(
            name=pairs.name,
            spec={
                "pairs": to_dict(pairs),
                "files": [
                    [pair.name, *(print_of(own) for own in (pair.lq, pair.gt) if own is not None)]
                    for pair in dataset
                ],
            },
            task=pairs.task,
            pictures=partial(_pairs, dataset),
        )


def _print_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _masks(folder: str | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in find_files(Path(folder)).files if path.suffix.lower() == ".png")
    if not found:
        raise ConfigError(f"whole.rain_streaks: '{folder}' has no PNG files")
    return found


def _spoiled(
    fault: Fault, photos: Sequence[Photo], masks: Sequence[Path], seed: int
) -> Iterator[tuple[ImageU8, ImageU8]]:
    for number, photo in enumerate(photos):
        clean = load_photo(photo)
        recipe = Recipe(
            tasks=(fault.task,),
            parameters={fault.task: fault.parameters},
            seed=seed * len(photos) + number,
        )
        maps = Maps()
        if masks:
            maps = Maps(rain_streaks=_streaks(masks[number % len(masks)], clean))
        yield degrade(clean, recipe, maps), clean


def _clean(
    look: Callable[[ImageU8], ImageU8], photos: Sequence[Photo]
) -> Iterator[tuple[ImageU8, ImageU8]]:
    for photo in photos:
        picture = look(load_photo(photo))
        yield picture, picture


def _pairs(dataset: Dataset) -> Iterator[tuple[ImageU8, ImageU8]]:
    for pair in dataset:
        degraded, clean = read_pair(pair, dataset.protocol)
        yield to_8_bit(degraded), clean


def _streaks(mask: Path, image_u8: ImageU8) -> Field:
    """Read a mask, and bring it to the size of a picture."""
    height_px, width_px = image_u8.shape[:2]
    streaks = decode_map(mask.read_bytes(), "opacity")
    scaled = cv2.resize(streaks, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def _measure(config: WholeConfig, restorer: Restorer, row: _Row) -> dict[str, Any]:
    """Return the means of a row; without a degradation, of those pictures that are changed."""
    knows = row.task in restorer.bundle.guide.names
    told = Wish(instruction=(row.task,)) if knows else None
    methods = candidates_for((row.task,)) if config.classical and row.task else ()
    before, after, told_db, left = [], [], [], []
    classical: dict[str, list[float]] = {method.name: [] for method in methods}
    for spoiled, clean in row.pictures():
        restoration = restorer.restore(spoiled)
        before.append(psnr_rgb(spoiled, clean))
        after.append(psnr_rgb(restoration.image, clean))
        left.append(restoration.route.expert is None)
        if told is not None:
            told_db.append(psnr_rgb(restorer.restore(spoiled, told).image, clean))
        for method in methods:
            classical[method.name].append(psnr_rgb(method.restore(spoiled), clean))
    means = {name: float(np.mean(values)) for name, values in classical.items()}
    best = max(means, key=lambda name: means[name]) if means else None
    gains_db = np.array(after) - np.array(before)
    is_clean = all(value >= PSNR_CAP_DB for value in before)
    changed = [own for own, stays in zip(after, left, strict=True) if not stays]
    return {
        "pictures": len(before),
        "input": None if is_clean else float(np.mean(before)),
        "routed": float(np.mean(after)),
        "told": float(np.mean(told_db)) if told_db else None,
        "classical": None if best is None else means[best],
        "classical_name": best,
        "left": int(np.sum(left)),
        "harmed": int(np.sum(gains_db < -HARM_DB)),
        "worst_db": float(gains_db.min()),
        "least_changed_db": min(changed, default=None),
    }


def _of_spoiled(found: Mapping[str, Mapping[str, Any]]) -> Table:
    lines: list[tuple[Cell, ...]] = [
        (
            name,
            *(row[key] for key in ("pictures", "input", "classical", "routed")),
            row["routed"] - row["input"],
            *(row[key] for key in ("told", "left", "harmed", "worst_db")),
        )
        for name, row in found.items()
    ]
    best = [f"{name}: {row['classical_name']}" for name, row in found.items() if row["classical"]]
    return Table(
        title="Whole pictures, PSNR in dB",
        columns=(
            *("what is wrong", "pictures", "input", "classical, told", "routed", "gain"),
            *("told", "left as they are", "harmed", "worst gain"),
        ),
        rows=tuple(lines),
        decimals=2,
        notes=(
            "Routed is not told what is wrong. The classical method is the best in hindsight.",
            f"Harmed: more than {HARM_DB} dB below the input.",
            *(("Classical methods: " + "; ".join(best) + ".",) if best else ()),
        ),
    )


def _of_clean(found: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        title="Pictures with nothing wrong",
        columns=("look", "pictures", "left as they are", "worst of the others, dB to the input"),
        rows=tuple(
            (name, row["pictures"], row["left"], row["least_changed_db"])
            for name, row in found.items()
        ),
        decimals=2,
    )
