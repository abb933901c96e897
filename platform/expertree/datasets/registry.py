"""The data sets by name, one entry each. A new one is an entry in `DATASETS`."""

from collections.abc import Mapping
from pathlib import Path

from expertree.datasets import cameras, weather
from expertree.datasets.clean import clean_set, jpeg_set, noisy_set, photograph_set
from expertree.datasets.layouts import Place, first_names
from expertree.datasets.pairs import Dataset, Pair, read_clean
from expertree.datasets.protocols import RGB16, Y
from expertree.datasets.readers import DatasetSpec
from expertree.errors import ConfigError, DatasetError
from expertree.images.metrics import is_grey

DATASETS: Mapping[str, DatasetSpec] = {
    "rain100l": weather.rain100("L", "Light", 200, RGB16, Y),
    "rain100h": weather.rain100("H", "Heavy", 1800, Y),
    "rain200l": weather.rain200("L"),
    "rain200h": weather.rain200("H"),
    "rain12": weather.rain12(),
    "did": weather.did(),
    "ddn": weather.ddn(),
    "lhp_rain": weather.lhp_rain(),
    "outdoor_rain": weather.outdoor_rain(),
    "raindrop": weather.raindrop(),
    "reside": weather.reside(),
    "sots_indoor": weather.sots("indoor"),
    "sots_outdoor": weather.sots("outdoor"),
    "snow100k": weather.snow100k(),
    "realsnow": weather.realsnow(),
    "cdd11": weather.cdd11(),
    "gopro": cameras.gopro(),
    "hide": cameras.hide(),
    "realblur_j": cameras.realblur("J"),
    "realblur_r": cameras.realblur("R"),
    "lol_v1": cameras.lol_v1(),
    "lol_v2_real": cameras.lol_v2("real"),
    "lol_v2_synthetic": cameras.lol_v2("synthetic"),
    "sidd": cameras.sidd(),
    "dnd": cameras.dnd(),
    "cc15": cameras.cc15(),
    "nam": cameras.nam(),
    "polyu": cameras.polyu(),
    "bsd400": noisy_set(
        "BSD400",
        400,
        "BSDS500/data/images/t*/*",
        "images/t*/*",
        "*",
        usual="clean",
        is_measured=False,
    ),
    "cbsd68": noisy_set(
        "CBSD68",
        68,
        "original_png/*",
        "CBSD68/original_png/*",
        "*",
        folders=("cbsd68", "cbsd68dataset"),
    ),
    "wed": noisy_set(
        "WED",
        4744,
        "exploration_database_and_code/pristine_images/*",
        "pristine_images/*",
        "*",
        usual="clean",
        is_measured=False,
    ),
    "kodak24": noisy_set("Kodak24", 24, "*", folders=("kodak24", "kodak"), marks=("kodim01.png",)),
    "urban100": noisy_set(
        "Urban100", 100, "HR/*", "image_SRF_4/*_HR.*", "*", folders=("urban100",)
    ),
    "mcmaster": noisy_set("McMaster", 18, "*", folders=("mcmaster", "mcm", "mcmaster18")),
    "live1": jpeg_set(
        "LIVE1",
        29,
        "refimgs/*",
        "LIVE1/*",
        "*",
        folders=("live1", "live1color", "live1gray"),
        marks=("refimgs",),
    ),
    "classic5": jpeg_set("Classic5", 5, "*", is_grey=True, folders=("classic5",)),
    "div2k": clean_set(
        "DIV2K", train=(800, ("DIV2K_train_HR/*",)), valid=(100, ("DIV2K_valid_HR/*",))
    ),
    "flickr2k": clean_set("Flickr2K", train=(2650, ("Flickr2K_HR/*", "*"))),
    "unpaired": photograph_set(),
    "paired": cameras.paired(),
    "clean": noisy_set("clean images", None, "**/*", usual="clean", is_measured=False),
}


def open_dataset(name: str, root: str | Path, split: str = "", *, partial: bool = False) -> Dataset:
    """Find the pairs of a data set in a folder; images are read later, one by one.

    Args:
        name: A key of `DATASETS`.
        root: The folder it was unpacked to.
        split: A part of it; by default the usual one, mostly the test set.
        partial: Whether part of the set is enough. Its scores are then not those of the set.

    Raises:
        ConfigError: If the name or the split is unknown.
        DatasetError: If the folder does not have the expected layout, or not all of the set is
            there, or its images are grey where the set's have colour; says what was expected and
            what was found.
    """
    if name not in DATASETS:
        raise ConfigError(f"data set '{name}' is not known; there are {', '.join(DATASETS)}")
    spec = DATASETS[name]
    chosen = split or next(iter(spec.splits))
    if chosen not in spec.splits:
        raise ConfigError(
            f"data set {name} has no split '{chosen}'; there are {', '.join(spec.splits)}"
        )
    folder = Path(root).expanduser()
    place = Place(dataset=name, split=chosen, root=folder, partial=partial)
    part = spec.splits[chosen]
    try:
        if not folder.is_dir():
            raise place.error(f"'{root}' is not a folder")
        pairs = part.find(place)
    except OSError as error:
        raise place.error(f"'{error.filename}' cannot be read: {error.strerror}") from error
    if part.num_pairs not in (None, len(pairs)) and not partial:
        raise place.error(
            f"'{root}' has {len(pairs)} images where the whole set has {part.num_pairs} (found "
            f"{first_names(pair.name for pair in pairs)}); complete it, or ask for a partial set"
        )
    if part.is_coloured and all(_is_grey(pair) for pair in pairs):
        raise place.error(
            f"all {len(pairs)} images of '{root}' are grey, but those of {spec.title} have colour; "
            "give the set in colour, or a split that is grey"
        )
    protocol, *others = part.protocols
    return Dataset(
        name=name, split=chosen, protocol=protocol, pairs=tuple(pairs), others=tuple(others)
    )


def _is_grey(pair: Pair) -> bool:
    """Return whether a clean image has no colour; one that cannot be read may have."""
    try:
        return is_grey(read_clean(pair))
    except DatasetError:
        return False
