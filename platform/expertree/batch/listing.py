"""List the files that a batch restores and where each of them goes, before any work."""

import collections
import dataclasses
import unicodedata
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from expertree.errors import ConfigError
from expertree.images.containers import PHOTO_FORMATS, PhotoFormat, read_header
from expertree.images.folders import SUFFIXES, find_files
from expertree.storage import Storage

_SUFFIX_OF: Mapping[PhotoFormat, str] = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "avif": ".avif",
    "heic": ".heic",
    "bmp": ".bmp",
    "tiff": ".tif",
}

_HEADER_BYTES = 1 << 18
"""Bytes that are read of a file to learn its pixels; most headers end within."""

_MAX_OPENED = 20_000
"""Most files with which each is opened to learn its pixels; with more, these are guessed."""

_BYTES_PER_PIXEL = 0.5
"""Rough bytes per pixel of a JPEG, to guess a photograph's pixels from its file's size."""

_RESULTS = "restored before"
"""Word for files that earlier runs wrote into the folder they read."""


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
        unreadable: Folders that cannot be looked into, below the input folder, and why.
    """

    items: tuple[PhotoItem, ...]
    others: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()


def list_photographs(
    folder: Path,
    *,
    recursive: bool,
    suffix: str = "",
    target: PhotoFormat | None = None,
    apart_from: Path | None = None,
    results: Collection[str] = (),
) -> Listing:
    """List the photographs of a folder.

    Hidden files and folders and those of machines are passed over; see `find_files`.

    Args:
        folder: The folder.
        recursive: Whether to look into the folders below.
        suffix: Text that is put behind each restored file's name.
        target: Format of the restored files, which decides their extension.
        apart_from: A folder not to look into, with the restored files of an earlier run.
        results: Names of files in the folder that an earlier run wrote, which are passed over.

    Raises:
        ConfigError: If there is no such folder, nothing to restore in it, or two photographs would
            go to one place.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    listing = look_into(
        folder,
        recursive=recursive,
        suffix=suffix,
        target=target,
        apart_from=apart_from,
        results=results,
        max_opened=_MAX_OPENED,
    )
    if not listing.items:
        for name, why in listing.unreadable:
            raise ConfigError(f"{folder / name} cannot be looked into: {why}")
        what = f" (other files: {', '.join(listing.others)})" if listing.others else ""
        below = "" if recursive else "; -r looks into the folders below"
        raise ConfigError(f"{folder} holds no photograph that can be read{what}{below}")
    refuse_collisions(listing.items)
    return listing


def look_into(
    folder: Path,
    *,
    recursive: bool,
    suffix: str = "",
    target: PhotoFormat | None = None,
    apart_from: Path | None = None,
    results: Collection[str] = (),
    max_opened: int = 0,
) -> Listing:
    """List what is in a folder now, whatever it is: nothing, or two of one output.

    Args:
        folder: See `list_photographs`.
        recursive: See there.
        suffix: See there.
        target: See there.
        apart_from: See there.
        results: See there.
        max_opened: Most photographs with which each is opened to learn its pixels.
    """
    found = find_files(folder, recursive=recursive, apart_from=apart_from)
    paths, others = [], collections.Counter[str]()
    for path in found.files:
        if results and path.relative_to(folder).as_posix() in results:
            others[_RESULTS] += 1
        elif path.suffix.lower() in SUFFIXES:
            paths.append(path)
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    if found.num_odd:
        others["pipes or devices"] = found.num_odd
    is_opened = len(paths) <= max_opened
    return Listing(
        items=tuple(
            _listed(folder, path.relative_to(folder), suffix, target, is_opened=is_opened)
            for path in paths
        ),
        others=dict(sorted(others.items())),
        unreadable=tuple(
            (path.relative_to(folder).as_posix(), why) for path, why in found.unreadable
        ),
    )


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


def named_format(output: str, wanted: PhotoFormat | None) -> PhotoFormat | None:
    """Return the format that an output's name stands for; None if it names a folder.

    A folder is one that exists, ends with a slash or has no suffix.

    Args:
        output: The output as it was given.
        wanted: The format that was asked for.

    Raises:
        ConfigError: If its suffix is no format's, or another one's than is asked for.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if path.is_dir() or output.endswith("/") or not suffix:
        return None
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{output}: {path.suffix} is no format that is written; give a name for "
            f"{', '.join(PHOTO_FORMATS)}, or {output}/ for a folder of that name"
        )
    if wanted not in {None, SUFFIXES[suffix]}:
        raise ConfigError(f"--format {wanted} and {path.name} do not go together")
    return SUFFIXES[suffix]


def refuse_suffix(suffix: str) -> None:
    """Raise if text cannot stand behind a file's name.

    Raises:
        ConfigError: If it would lead into a folder.
    """
    if "/" in suffix or "\0" in suffix:
        raise ConfigError(f"--suffix {suffix!r} cannot be part of a file's name; leave out the /")


def refuse_collisions(items: Iterable[PhotoItem], *, ignores_case: bool = False) -> None:
    """Raise if two photographs would be written to one place.

    Args:
        items: The photographs.
        ignores_case: Whether names that differ in case alone are one; so are then two ways to
            encode a letter with an accent.

    Raises:
        ConfigError: If two would; names them.
    """
    taken: dict[str, str] = {}
    for item in items:
        other = taken.setdefault(place_of(item.output, ignores_case=ignores_case), item.name)
        if other != item.name:
            raise ConfigError(
                f"{other} and {item.name} would both be written to {item.output}; leave --format "
                "out, or restore them apart"
            )


def place_of(output: str, *, ignores_case: bool) -> str:
    """Return what is equal for two outputs that are one file; see `refuse_collisions`."""
    return unicodedata.normalize("NFC", output).casefold() if ignores_case else output


def ignores_case(folder: Path) -> bool:
    """Return whether the filesystem of a folder takes `a.jpg` and `A.JPG` for one file.

    Raises:
        StorageError: If nothing can be written there.
    """
    name, storage = f".partial-probe-{uuid.uuid4().hex}", Storage.open(folder)
    storage.write_bytes(name, b"")
    try:
        return (folder / name.upper()).exists()
    finally:
        storage.delete(name)


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


def _claimed_pixels(path: Path) -> int | None:
    """Return the pixels that a file's header claims; None if it cannot be read.

    The reason is told later, when the whole file is read.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            header = read_header(stream.read(_HEADER_BYTES))
    except Exception:  # noqa: BLE001 - see above
        return None
    return header.width_px * header.height_px
