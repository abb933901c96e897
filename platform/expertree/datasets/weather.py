"""The sets of rain, haze and snow."""

from collections.abc import Mapping

from expertree.datasets.layouts import Layout, Place, folders, images_at
from expertree.datasets.names import Key, by_first_part, by_number, by_stem, matching
from expertree.datasets.protocols import FRAMED, RGB, RGB16, Protocol, Y
from expertree.datasets.readers import (
    DatasetSpec,
    Find,
    Split,
    combinations,
    halves,
    one_of,
    pairs_of_files,
)

CDD11: Mapping[str, tuple[str, ...]] = {
    "low": ("low_light",),
    "haze": ("haze",),
    "rain": ("rain",),
    "snow": ("snow",),
    "low_haze": ("low_light", "haze"),
    "low_rain": ("low_light", "rain"),
    "low_snow": ("low_light", "snow"),
    "haze_rain": ("rain", "haze"),
    "haze_snow": ("snow", "haze"),
    "low_haze_rain": ("low_light", "rain", "haze"),
    "low_haze_snow": ("low_light", "snow", "haze"),
}
"""Folders of the set CDD-11, and the degradations of each in physical order."""

_RAINY = ("input", "rainy", "rain/X2", "rain", "rainy_image", "in")
_DRY = ("target", "gt", "norain", "groundtruth", "ground_truth", "clean", "label")
_OUTDOOR = matching(r"(im_\d+)(?:_s\d+_a\d+)?")


def rain_pairs(
    *places: str,
    lq_key: Key = by_number,
    gt_key: Key = by_number,
    scene: Key | None = None,
    tasks: tuple[str, ...] = ("rain",),
) -> Find:
    """Return a function that finds rainy images and dry ones below the first of some folders.

    Rainy and dry images may lie in any two of the usual folders, or beside each other.
    """
    rainy = (*folders(*_RAINY), "rain-*")
    dry = (*folders(*_DRY), "norain-*")
    layout = Layout(lq=rainy, gt=dry, lq_key=lq_key, gt_key=gt_key, scene=scene)
    return pairs_of_files(tasks, *(layout.inside(place) for place in places))


def rain100(letter: str, weight: str, num_train: int, *protocols: Protocol) -> DatasetSpec:
    """Return Rain100L or Rain100H: as first published, as in MPRNet's archive, or as updated."""

    def split(name: str, number: int) -> Split:
        find = rain_pairs(name, "", f"rain_data_{name}_{weight}")
        return Split(find=find, num_pairs=number, protocols=protocols)

    return DatasetSpec(
        title=f"Rain100{letter}",
        splits={"test": split("test", 100), "train": split("train", num_train)},
        measured=("test",),
        folders=(f"rain100{letter.lower()}", f"rain100{letter.lower()}old"),
        marks=(f"rain_data_test_{weight}",),
    )


def rain200(letter: str) -> DatasetSpec:
    """Return Rain200L or Rain200H, the later version of Rain100L or Rain100H."""
    numbers = {"test": 200, "train": 1800}
    return DatasetSpec(
        title=f"Rain200{letter}",
        splits={
            name: Split(find=rain_pairs(name, ""), num_pairs=number, protocols=(Y,))
            for name, number in numbers.items()
        },
        measured=("test",),
        folders=(f"rain200{letter.lower()}",),
    )


def rain12() -> DatasetSpec:
    """Return Rain12."""
    key = matching(r"(?:rain-|norain-)?0*(\d+)(?:_(?:in|GT|gt|rain))?")
    find = rain_pairs("test", "", lq_key=key, gt_key=key)
    return DatasetSpec(
        title="Rain12",
        splits={"test": Split(find=find, num_pairs=12, protocols=(Y,))},
        measured=("test",),
        folders=("rain12", "test12"),
    )


def did() -> DatasetSpec:
    """Return DID (Rain1200): two images side by side in a picture, or in two folders."""
    places = {
        "test": (1200, ("DID-MDN-test/*", "*.jpg")),
        "train": (12000, ("DID-MDN-training/*/train2018new/*", "*/train2018new/*")),
    }

    def split(name: str, number: int, globs: tuple[str, ...]) -> Split:
        def where(place: Place) -> int:
            return int(any(images_at(place.root, glob) for glob in globs))

        find = one_of(where, rain_pairs(name, ""), halves(("rain",), *globs))
        return Split(find=find, num_pairs=number, protocols=(Y,))

    return DatasetSpec(
        title="DID",
        splits={name: split(name, *given) for name, given in places.items()},
        measured=("test",),
        folders=("did", "diddata", "rain1200", "test1200", "didmdndatasets", "didmdntest"),
        marks=("DID-MDN-test",),
    )


def ddn() -> DatasetSpec:
    """Return DDN (Rain1400): fourteen rainy images of each clean one."""

    def split(name: str, number: int) -> Split:
        places = (f"{name}ing", name, "")
        find = rain_pairs(*places, lq_key=by_first_part, gt_key=by_first_part)
        return Split(find=find, num_pairs=number, protocols=(Y,))

    return DatasetSpec(
        title="DDN",
        splits={"test": split("test", 1400), "train": split("train", 12600)},
        measured=("test",),
        folders=("ddn", "ddndata", "rain1400", "rainyimagedataset"),
    )


def lhp_rain() -> DatasetSpec:
    """Return LHP-Rain in two folders for each split; its frames are of one scene each."""
    splits = {
        name: Split(find=rain_pairs(name, "", scene=by_stem), protocols=(RGB, Y)) for name in _PARTS
    }
    return DatasetSpec(
        title="LHP-Rain", splits=splits, measured=("test",), folders=("lhprain", "lhp")
    )


_PARTS = ("test", "train")


def outdoor_rain() -> DatasetSpec:
    """Return Outdoor-Rain (heavy rain with veil): fifteen images of each clean one."""

    def split(number: int, *places: str) -> Split:
        find = rain_pairs(*places, lq_key=_OUTDOOR, gt_key=_OUTDOOR, tasks=("rain", "haze"))
        return Split(find=find, num_pairs=number, protocols=(Y, RGB))

    return DatasetSpec(
        title="Outdoor-Rain",
        splits={"test": split(750, "test1", "test", ""), "train": split(9000, "train", "")},
        measured=("test",),
        folders=("outdoorrain", "heavyrain", "rainfog"),
    )


def raindrop() -> DatasetSpec:
    """Return RainDrop: drops on the lens, which are no degradation of the registry."""
    layout = Layout(
        lq=folders("data", "input"),
        gt=folders("gt", "target"),
        lq_key=by_first_part,
        gt_key=by_first_part,
    )

    def split(number: int, *places: str) -> Split:
        find = pairs_of_files((), *(layout.inside(place) for place in places))
        return Split(find=find, num_pairs=number, protocols=(Y, RGB))

    return DatasetSpec(
        title="RainDrop",
        splits={
            "test_a": split(58, "test_a/test_a", "test_a", "test", ""),
            "test_b": split(249, "test_b/test_b", "test_b"),
            "train": split(861, "train/train", "train"),
        },
        measured=("test_a",),
        folders=("raindrop", "raindropdata", "deraindrop"),
        marks=("test_a/data", "test_a/test_a/data"),
    )


def reside() -> DatasetSpec:
    """Return RESIDE's training parts, in folders of their own or at the root."""
    places = ("ITS", "ITS/train", "train", "")
    indoor = _hazy(
        *((place, ("hazy/*", "ITS_haze/*"), ("clear/*", "ITS_clear/*")) for place in places)
    )
    every = ("hazy/**/*", "haze/**/*")
    outdoor = _hazy(*((place, every, ("clear/**/*",)) for place in ("OTS", "")))
    return DatasetSpec(
        title="RESIDE",
        splits={"its": Split(find=indoor, num_pairs=13990), "ots": Split(find=outdoor)},
    )


def sots(place: str) -> DatasetSpec:
    """Return SOTS indoor or outdoor, as published or as in the all-in-one papers' archive."""
    places = (f"{place}/nyuhaze500", place, f"SOTS/{place}/nyuhaze500", f"SOTS/{place}", "")
    find = _hazy(*((x, folders("hazy", "input"), folders("gt", "target", "clear")) for x in places))
    protocol = FRAMED if place == "indoor" else RGB16
    return DatasetSpec(
        title=f"SOTS {place}",
        splits={"test": Split(find=find, num_pairs=500, protocols=(protocol,))},
        measured=("test",),
        folders=(f"sots{place}",),
        marks=(f"{place}/nyuhaze500", f"{place}/hazy", f"{place}/gt"),
    )


def _hazy(*sides: tuple[str, tuple[str, ...], tuple[str, ...]]) -> Find:
    """Return a function that finds hazy images, several for a clear one, below one of some folders.

    Partners have the same name up to the first underscore.
    """
    layouts = (
        Layout(lq=lq, gt=gt, lq_key=by_first_part, gt_key=by_first_part).inside(place)
        for place, lq, gt in sides
    )
    return pairs_of_files(("haze",), *layouts)


def snow100k() -> DatasetSpec:
    """Return Snow100K, its tests also below the folders that its archive unpacks to."""
    layout = Layout(lq=folders("synthetic"), gt=folders("gt"))

    def split(number: int, *places: str) -> Split:
        find = pairs_of_files(("snow",), *(layout.inside(place) for place in places))
        return Split(find=find, num_pairs=number, protocols=(RGB, Y))

    unpacked = "media/jdway/GameSSD/overlapping/test"
    tests = {"L": 16801, "M": 16588, "S": 16611}
    return DatasetSpec(
        title="Snow100K",
        splits={
            size: split(
                number,
                f"test/Snow100K-{size}",
                f"Snow100K-{size}",
                f"{unpacked}/Snow100K-{size}",
            )
            for size, number in tests.items()
        }
        | {"train": split(50000, "train", "all")},
        measured=tuple(tests),
        folders=("snow100k",),
        marks=("test/Snow100K-L", "Snow100K-L", f"{unpacked}/Snow100K-L"),
    )


def realsnow() -> DatasetSpec:
    """Return RealSnow."""
    layout = Layout(lq=folders("synthetic", "input", "snow"), gt=folders("gt", "target"))

    def split(name: str, number: int | None) -> Split:
        places = (f"{name}ing", name, f"{name.capitalize()}ing", "")
        find = pairs_of_files(("snow",), *(layout.inside(place) for place in places))
        return Split(find=find, num_pairs=number)

    return DatasetSpec(
        title="RealSnow",
        splits={"test": split("test", None), "train": split("train", None)},
        measured=("test",),
        folders=("realsnow",),
    )


def cdd11() -> DatasetSpec:
    """Return CDD-11: eleven combinations of the same clean images."""
    return DatasetSpec(
        title="CDD-11",
        splits={
            "test": Split(find=combinations(CDD11, ("CDD-11_test", "test")), num_pairs=2200),
            "train": Split(find=combinations(CDD11, ("CDD-11_train", "train")), num_pairs=13013),
        },
        measured=("test",),
        folders=("cdd11",),
        marks=("CDD-11_test",),
        kinds=tuple(CDD11),
    )
