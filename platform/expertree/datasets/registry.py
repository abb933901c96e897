"""The data sets by name, one entry each. A new one is an entry in `DATASETS`."""

from collections.abc import Mapping
from pathlib import Path

from expertree.datasets.layouts import Place, first_names
from expertree.datasets.pairs import Dataset, Protocol
from expertree.datasets.readers import (
    DatasetSpec,
    Split,
    clean_images,
    combinations,
    gopro_split,
    jpeg_set,
    low_light_split,
    noisy_set,
    paired_set,
    rain_set,
    reside_set,
    snow_split,
    snow_test_split,
    sots_set,
)
from expertree.errors import ConfigError

DATASETS: Mapping[str, DatasetSpec] = {
    "rain100l": rain_set("Light", 200, Protocol(multiple_px=16)),
    "rain100h": rain_set("Heavy", 1800, Protocol(channels="y")),
    "reside": reside_set(),
    "sots_indoor": sots_set("indoor", Protocol(gt_has_frame=True)),
    "sots_outdoor": sots_set("outdoor", Protocol(multiple_px=16)),
    "bsd400": noisy_set(400, "clean", "BSDS500/data/images/t*/*", "images/t*/*", "*"),
    "cbsd68": noisy_set(68, "noise25", "original_png/*", "CBSD68/original_png/*", "*"),
    "wed": noisy_set(
        4744, "clean", "exploration_database_and_code/pristine_images/*", "pristine_images/*", "*"
    ),
    "kodak24": noisy_set(24, "noise25", "*"),
    "urban100": noisy_set(100, "noise25", "HR/*", "image_SRF_4/*_HR.*", "*"),
    "gopro": DatasetSpec(
        splits={"test": gopro_split("test", 1111), "train": gopro_split("train", 2103)}
    ),
    "lol_v1": DatasetSpec(
        splits={"test": low_light_split("eval15", 15), "train": low_light_split("our485", 485)}
    ),
    "snow100k": DatasetSpec(
        splits={
            "L": snow_test_split("L", 16801),
            "M": snow_test_split("M", 16588),
            "S": snow_test_split("S", 16611),
            "train": snow_split(50000, "train", "all"),
        }
    ),
    "live1": jpeg_set(29, "refimgs/*", "LIVE1/*", "*"),
    "cdd11": DatasetSpec(
        splits={
            "test": Split(find=combinations(("CDD-11_test", "test")), num_pairs=2200),
            "train": Split(find=combinations(("CDD-11_train", "train")), num_pairs=13013),
        }
    ),
    "div2k": DatasetSpec(
        splits={
            "train": Split(find=clean_images("DIV2K_train_HR/*"), num_pairs=800),
            "valid": Split(find=clean_images("DIV2K_valid_HR/*"), num_pairs=100),
        }
    ),
    "flickr2k": DatasetSpec(
        splits={"train": Split(find=clean_images("Flickr2K_HR/*", "*"), num_pairs=2650)}
    ),
    "paired": paired_set(),
    "clean": noisy_set(None, "clean", "**/*"),
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
            there; says what was expected and what was found.
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
    if not folder.is_dir():
        raise place.error(f"'{root}' is not a folder")
    pairs = spec.splits[chosen].find(place)
    expected = spec.splits[chosen].num_pairs
    if expected not in (None, len(pairs)) and not partial:
        raise place.error(
            f"'{root}' has {len(pairs)} images where the whole set has {expected} (found "
            f"{first_names(pair.name for pair in pairs)}); complete it, or ask for a partial set"
        )
    return Dataset(name=name, split=chosen, protocol=spec.protocol, pairs=tuple(pairs))
