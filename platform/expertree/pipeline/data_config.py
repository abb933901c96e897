"""The settings of what a build is trained on, where that is more than one folder of photographs."""

import dataclasses
import re

from expertree.datasets import DATASETS
from expertree.degradation.photographs import Split
from expertree.errors import ConfigError
from expertree.uris import public

PHOTOGRAPHS = "photographs"
"""The reader of any folder of clean photographs, with its subfolders."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """One source of training pictures: clean photographs to spoil, or pairs to take as they are."""

    reader: str = PHOTOGRAPHS
    """`photographs` for any folder of clean photographs, or a data set of docs/DATASETS.md. What
    its split has decides: pairs are cut as they are, clean pictures are spoiled here."""

    root: str = ""
    """Folder that it was unpacked to; relative to `data.root`, if that is given."""

    split: str = ""
    """Part of the data set; the set's usual one, mostly the test set, when left out."""

    weight: float = 1.0
    """Share of the patches that experts and routers are trained on, relative to the other sources'
    weights. Clean photographs of weight 0 serve the extractor alone."""

    repeats: float | None = None
    """Times that each picture counts in an epoch, where a protocol says so: the weight is
    multiplied by this and by the number of pictures."""

    tasks: tuple[str, ...] = ()
    """Kinds of the degradations of its pairs, in physical order, where the reader does not know
    them (`paired`) or others are wanted."""

    part: Split | None = None
    """Part of the build that all of it is for: `train`, `route` or `val`. Null divides its scenes.
    Where a source is for one part, no other is divided for that part."""

    scene: str | None = None
    """Regular expression; pairs whose names match it with equal groups show one scene, and stay in
    one part. Null takes what is known of the set. Pairs that share a clean picture always stay
    together."""

    alike: float | None = None
    """Correlation of two small grey clean pictures from which on they count as one scene, in
    (0, 1]; for sets with near copies. Null does not compare."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot work, ConfigError for a folder that is none."""
        check_folder("data.sources: root", self.root)
        if self.reader != PHOTOGRAPHS and self.reader not in DATASETS:
            known = ", ".join((PHOTOGRAPHS, *DATASETS))
            raise ValueError(f"reader '{self.reader}' is not known; there are {known}")
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")
        if self.repeats is not None and self.repeats <= 0:
            raise ValueError(f"repeats must be positive, got {self.repeats}")
        if self.alike is not None and not 0.0 < self.alike <= 1.0:
            raise ValueError(f"alike must lie in (0, 1], got {self.alike}")
        if self.scene is not None:
            _check_pattern(self.scene)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The sources of a build, in place of `photographs.source`."""

    root: str | None = None
    """Folder that the sources' folders are relative to; null takes them as they are given."""

    sources: tuple[SourceConfig, ...] = ()
    """The sources; without any, `photographs.source` is the only one."""

    partial: bool = False
    """Whether sets may be incomplete. What is trained is then not the protocol's."""

    def __post_init__(self) -> None:
        """Raise ConfigError if no source has a weight, or the folder is none."""
        check_folder("data.root", self.root or "")
        if self.sources and not any(source.weight for source in self.sources):
            raise ConfigError("data.sources: at least one source must have a weight above 0")


def check_folder(key: str, folder: str) -> None:
    """Refuse a URI where a folder is needed: pictures are read by path, on every node.

    Raises:
        ConfigError: If it is a URI; names the key.
    """
    if "://" in folder:
        raise ConfigError(
            f"{key}={public(folder)} is a URI, but pictures are read from folders; give the path "
            "of one that every node sees, such as a mount of the bucket"
        )


def _check_pattern(pattern: str) -> None:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"scene is no regular expression: {error}") from None
    if num_groups == 0:
        raise ValueError(f"scene needs a group in brackets that names the scene, got {pattern!r}")
