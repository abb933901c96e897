"""The manifest of a bundle: what it holds, for those who plan without opening it."""

import dataclasses
import hashlib
import math
from pathlib import PurePosixPath

from expertree.config import fingerprint, load
from expertree.errors import ArtefactError, ConfigError
from expertree.experts import AdapterConfig
from expertree.experts.weights import ADAPTER, CARD, WEIGHTS
from expertree.storage import Storage

FORMAT = 5
"""Format of the bundle."""

_READ = (4, FORMAT)
"""Formats that are read; in the first, no expert has windows."""

MANIFEST = "manifest.json"

PART_FILES = (
    "extractor/extractor.json",
    "extractor/extractor.safetensors",
    "router/guide.json",
    "router/router.json",
    "router/router.safetensors",
    "tree/tree.json",
    "tree/tree.safetensors",
)

_SUFFIXES = (".json", ".safetensors")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """The hash and size that a file must have."""

    sha256: str
    num_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertEntry:
    """What the manifest says of one expert, to plan with without opening it.

    Attributes:
        node: The tree's node that it is named by.
        levels: Levels on which it serves a node.
        num_samples: Training samples of its node.
        backbone: Its kind of network; `expert.json` has the sizes.
        num_parameters: Scalars in its network.
        multiple_px: Multiple of the sides on which the network works; tiles start on it.
        adapter: Settings of its adapter on the root's network, the same for all adapters; None if
            it is stored as a whole network.
        window_px: Side of the windows whose means it takes in larger images; None if it takes them
            over all of an image.
    """

    node: int
    levels: tuple[int, ...]
    num_samples: int
    backbone: str
    num_parameters: int
    multiple_px: int
    adapter: AdapterConfig | None
    window_px: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for windows without a side."""
        if self.window_px is not None and self.window_px < 1:
            raise ValueError(f"window_px must be at least 1, got {self.window_px}")

    @property
    def folder(self) -> str:
        """Its folder in the bundle."""
        return f"experts/{self.node:03d}"

    @property
    def files(self) -> tuple[str, str]:
        """Its files in the bundle."""
        weights = WEIGHTS if self.adapter is None else ADAPTER
        return f"{self.folder}/{CARD}", f"{self.folder}/{weights}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        format: Format of the bundle.
        groups: Number of nodes on each level of the tree.
        embed_dim: Length of an embedding.
        experts: Experts, in the order of their nodes.
        files: Every other file of the bundle, by name.
    """

    format: int
    groups: tuple[int, ...]
    embed_dim: int
    experts: tuple[ExpertEntry, ...]
    files: dict[str, FileEntry]

    @property
    def digest(self) -> str:
        """Hash of the model, made of every file's hash; models with equal digests restore alike."""
        record = dataclasses.asdict(self)
        for entry in record["experts"]:
            if entry["window_px"] is None:
                del entry["window_px"]  # bundles without any keep the digest that they had
        return fingerprint(record)

    @property
    def multiple_px(self) -> int:
        """Multiple of the sides on which every expert works."""
        return math.lcm(*(entry.multiple_px for entry in self.experts))


def describe(data: bytes) -> FileEntry:
    """Return the manifest's entry for a file with this content."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))


def read_manifest(directory: Storage) -> Manifest:
    """Read the manifest of a bundle.

    Raises:
        ArtefactError: If there is none, it is damaged or of another format, or it lists files that
            a bundle does not hold.
    """
    where = directory.path(MANIFEST)
    if not directory.exists(MANIFEST):
        raise ArtefactError(f"{directory.where()} is not a bundle: it has no {MANIFEST}")
    data = directory.read_json(MANIFEST)
    found = data.get("format") if isinstance(data, dict) else None
    if found not in _READ:
        raise ArtefactError(
            f"{where} has format {found!r}, this program reads {' and '.join(map(str, _READ))}"
        )
    try:
        manifest = load(Manifest, data)
    except ConfigError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.suffix not in _SUFFIXES:
            raise ArtefactError(
                f"{where} lists '{name}'; a bundle holds JSON and safetensors below its directory "
                "and nothing else"
            )
    return manifest


def check_file(directory: Storage, name: str, manifest: Manifest) -> None:
    """Raise ArtefactError unless a file is there, with the content that the manifest promises."""
    where = directory.path(name)
    if name not in manifest.files:
        raise ArtefactError(f"{where} is not in the bundle's {MANIFEST}")
    if not directory.exists(name):
        raise ArtefactError(f"{where} is missing from the bundle")
    expected, found = manifest.files[name], describe(directory.read_bytes(name))
    if found != expected:
        raise ArtefactError(
            f"{where} has sha256 {found.sha256[:12]} and {found.num_bytes} bytes, but the "
            f"{MANIFEST} says {expected.sha256[:12]} and {expected.num_bytes}; copy the bundle "
            "again"
        )
