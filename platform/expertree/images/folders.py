"""Finding the files of a folder of pictures, as people and their machines leave it."""

import dataclasses
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from expertree.images.containers import PhotoFormat
from expertree.images.heic import has_heic

HEIC_SUFFIXES: Mapping[str, PhotoFormat] = {".heic": "heic", ".heif": "heic", ".hif": "heic"}
"""Suffixes of photographs of telephones and cameras, which need pillow-heif."""

SUFFIXES: Mapping[str, PhotoFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".jif": "jpeg",
    ".jfi": "jpeg",
    ".pjpeg": "jpeg",
    ".pjp": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    **(HEIC_SUFFIXES if has_heic() else {}),
}
"""Suffixes of files that are taken for photographs, in upper or lower case."""

_OF_MACHINES = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "__macosx"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)
"""Folders that servers and file managers keep, in lower case: thumbnails, bins, snapshots."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FolderFiles:
    """The files below a folder.

    Attributes:
        files: The files; of each folder its own before those of the folders in it, by name. A link
            that leads nowhere is among them.
        unreadable: Folders that cannot be looked into, each with the reason.
        num_odd: Number of pipes, sockets and devices, which are not among the files.
    """

    files: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...] = ()
    num_odd: int = 0


def is_passed_over(name: str) -> bool:
    """Return whether a folder's name says that it is hidden, or kept by a server."""
    return name.startswith(".") or name.lower() in _OF_MACHINES


def find_files(
    folder: Path, *, recursive: bool = True, apart_from: Path | None = None
) -> FolderFiles:
    """Find the files of a folder.

    Hidden files and folders (`._x.jpg`, `.thumbnails`) are passed over, and so are folders that
    servers and file managers keep. Links to folders are followed, but not back to where one is.

    Args:
        folder: The folder.
        recursive: Whether to look into the folders below.
        apart_from: A folder not to look into.
    """
    walk = _Walk(recursive=recursive, avoided=None if apart_from is None else apart_from.resolve())
    files = tuple(walk.below(folder, ()))
    return FolderFiles(files=files, unreadable=tuple(walk.unreadable), num_odd=walk.num_odd)


class _Walk:
    """One walk through a folder, which notes what it passes over."""

    def __init__(self, *, recursive: bool, avoided: Path | None) -> None:
        self._recursive, self._avoided = recursive, avoided
        self.unreadable: list[tuple[Path, str]] = []
        self.num_odd = 0

    def below(self, folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
        """Yield the files of a folder; `above` are the folders on the way to it, resolved."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(
                    (entry for entry in found if not entry.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except OSError as error:
            self.unreadable.append((folder, error.strerror or type(error).__name__))
            return
        folders = []
        for entry in entries:
            path = folder / entry.name
            if _is_folder(entry):
                folders.append(path)
            elif _is_odd(path):
                self.num_odd += 1
            else:
                yield path
        way = (*above, folder.resolve())
        for path in folders if self._recursive else ():
            place = path.resolve()
            if not is_passed_over(path.name) and place not in {*way, self._avoided}:
                yield from self.below(path, way)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_odd(path: Path) -> bool:
    """Return whether this is neither a file nor absent: reading it could wait for ever."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
