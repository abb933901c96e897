"""List the files that a batch restores and where each of them goes, before any work."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from expertree.errors import ConfigError
from expertree.images.containers import PhotoFormat, read_header

SUFFIXES: Mapping[str, PhotoFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Suffixes of files that are taken for photographs, in upper or lower case."""

_SUFFIX_OF: Mapping[PhotoFormat, str] = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "avif": ".avif",
    "bmp": ".bmp",
    "tiff": ".tif",
}

_HEADER_BYTES = 1 << 18
"""Bytes that are read of a file to learn its pixels; most headers end within."""

_MAX_OPENED = 20_000
"""Most files with which each is opened to learn its pixels; with more, these are guessed."""

_BYTES_PER_PIXEL = 0.5
"""Rough bytes per pixel of a JPEG, to guess a photograph's pixels from its file's size."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhotoItem:
    """One photograph of a batch.

    Attributes:
        name: Its path below the input folder, with slashes.
        output: Path of the restored photograph below the output folder.
        num_bytes: Bytes of its file.
        mtime_ns: Time of the file's last change.
        num_pixels: Pixels by its header, or a guess; they serve to estimate its time.
    """

    name: str
    output: str
    num_bytes: int
    mtime_ns: int
    num_pixels: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The files of the input folder.

    Attributes:
        items: The photographs, by name.
        others: Number of other files by suffix.
    """

    items: tuple[PhotoItem, ...]
    others: Mapping[str, int]


def list_photographs(
    folder: Path,
    *,
    recursive: bool,
    suffix: str = "",
    target: PhotoFormat | None = None,
    apart_from: Path | None = None,
) -> Listing:
    """List the photographs of a folder.

    Hidden files and folders are passed over.

    Args:
        folder: The folder.
        recursive: Whether to look into the folders below.
        suffix: Text that is put behind each restored file's name.
        target: Format of the restored files, which decides their extension.
        apart_from: A folder not to look into, with the restored files of an earlier run.

    Raises:
        ConfigError: If there is no such folder, nothing to restore in it, or two photographs would
            go to one place.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    paths, others = [], collections.Counter[str]()
    for path in _files(folder, recursive=recursive, apart_from=apart_from):
        if path.suffix.lower() in SUFFIXES:
            paths.append(path)
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    if not paths:
        what = f" (other files: {', '.join(sorted(others))})" if others else ""
        below = "" if recursive else "; -r looks into the folders below"
        raise ConfigError(f"{folder} holds no photograph that can be read{what}{below}")
    is_opened = len(paths) <= _MAX_OPENED
    items = [
        _listed(folder, path.relative_to(folder), suffix, target, is_opened=is_opened)
        for path in paths
    ]
    refuse_collisions(items)
    return Listing(items=tuple(items), others=dict(sorted(others.items())))


def make_item(
    folder: Path,
    name: Path,
    suffix: str = "",
    target: PhotoFormat | None = None,
    *,
    is_opened: bool = True,
) -> PhotoItem:
    """Make an item of one file of a folder.

    Raises:
        ConfigError: If the file is not there.
    """
    try:
        status = (folder / name).stat()
    except OSError as error:
        raise ConfigError(f"{folder / name} cannot be read: {error.strerror}") from error
    claimed = _claimed_pixels(folder / name) if is_opened else None
    return PhotoItem(
        name=name.as_posix(),
        output=output_name(name.as_posix(), suffix, target),
        num_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        num_pixels=max(1, claimed or int(status.st_size / _BYTES_PER_PIXEL)),
    )


def _listed(
    folder: Path, name: Path, suffix: str, target: PhotoFormat | None, *, is_opened: bool
) -> PhotoItem:
    """Make an item, even of a file that is not there; restoring that one will fail alone."""
    try:
        return make_item(folder, name, suffix, target, is_opened=is_opened)
    except ConfigError:
        output = output_name(name.as_posix(), suffix, target)
        return PhotoItem(name=name.as_posix(), output=output, num_bytes=0, mtime_ns=0, num_pixels=1)


def output_name(name: str, suffix: str, target: PhotoFormat | None) -> str:
    """Return the name of a restored file: with the suffix, and another format's extension."""
    path = PurePosixPath(name)
    keeps = target is None or SUFFIXES.get(path.suffix.lower()) == target
    extension = path.suffix if keeps or target is None else _SUFFIX_OF[target]
    return str(path.with_name(f"{path.stem}{suffix}{extension}"))


def refuse_collisions(items: Iterable[PhotoItem]) -> None:
    """Raise if two photographs would be written to one place.

    Raises:
        ConfigError: If two would; names them.
    """
    taken: dict[str, str] = {}
    for item in items:
        other = taken.setdefault(item.output, item.name)
        if other != item.name:
            raise ConfigError(
                f"{other} and {item.name} would both be written to {item.output}; leave --format "
                "out, or restore them apart"
            )


def refuse_own_input(items: Sequence[PhotoItem], source: Path, target: Path) -> None:
    """Raise if a restored photograph would be written over the one it came from.

    Raises:
        ConfigError: If one would; names the first.
    """
    for item in items:
        written, read = target / item.output, source / item.name
        if written.exists() and read.exists() and written.samefile(read):
            raise ConfigError(
                f"{source / item.name} would be written over; choose another folder for --output, "
                "or a --suffix"
            )


def _files(folder: Path, *, recursive: bool, apart_from: Path | None) -> Iterator[Path]:
    avoided = None if apart_from is None else apart_from.resolve()
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and (here / name).resolve() != avoided
        )
        for name in sorted(names):
            if not name.startswith("."):
                yield here / name


def _claimed_pixels(path: Path) -> int | None:
    """Return the pixels that a file's header claims; None if it cannot be read.

    The reason is told later, when the whole file is read.
    """
    try:
        with path.open("rb") as stream:
            header = read_header(stream.read(_HEADER_BYTES))
    except Exception:  # noqa: BLE001 - see above
        return None
    return header.width_px * header.height_px
