"""Results on disk or in a bucket: a directory on any filesystem that pyarrow can address.

A result is a directory whose files are written first and whose `DONE.json` is written last, with
the hash of each file. So a reader either sees a whole result or none, on filesystems with and
without an atomic rename, and whatever was killed half-way is simply not done.
"""

import dataclasses
import functools
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeAlias, TypedDict, TypeVar, cast

from pyarrow import ArrowInvalid, fs

from expertree.errors import ArtefactError, StorageError
from expertree.faults import BRIEF, attempt, check_length, patience, storage_errors
from expertree.local_files import PARTIAL, create_local, write_local
from expertree.traffic import count_traffic
from expertree.uris import public

DONE = "DONE.json"

_MOST_READERS = 16


class FileRecord(TypedDict):
    """Hash and length of a file."""

    sha256: str
    num_bytes: int


Written: TypeAlias = Mapping[str, FileRecord]
"""Hash and length of files that were written, by name."""

NOTHING_WRITTEN: Written = {}

T = TypeVar("T")
U = TypeVar("U")

SETTLE_S = 1.0
"""Seconds in which callers that found a new file missing at the same time have all written it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A directory on a filesystem, named by its URI. Cheap to make, compare and pickle.

    Attributes:
        uri: A local path, or a URI such as `s3://bucket/folder`.
    """

    uri: str

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> Self:
        """Return the directory at a URI or path, made absolute; nothing is created.

        Raises:
            StorageError: If pyarrow knows no filesystem for the URI, or the path is no UTF-8.
        """
        text = os.fspath(uri)
        storage = cls(text if "://" in text else str(Path(text).expanduser().absolute()))
        _resolve(storage.uri)
        return storage

    @property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow filesystem on which `path()` is valid."""
        return _resolve(self.uri)[0]

    def path(self, name: str = "") -> str:
        """Return the path of a file (or of this directory) on `filesystem`."""
        base = _resolve(self.uri)[1].rstrip("/")
        return f"{base}/{name}" if name else base

    def sub(self, *parts: str) -> "Storage":
        """Return a directory below this one."""
        place, query = self._split()
        return Storage("/".join((place, *parts)) + query)

    def above(self, levels: int = 1) -> "Storage":
        """Return the directory `levels` above this one; 1 above a file's URI is its directory."""
        place, query = self._split()
        return Storage((place.rsplit("/", levels)[0] or "/") + query)

    @property
    def name(self) -> str:
        """The last part of the path; for a file's URI, the file's name."""
        return self._split()[0].rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Whether it is named by a URI, and not by a path of this machine."""
        return "://" in self.uri

    def is_same_place(self, other: "Storage") -> bool:
        """Return whether another directory is this one, by whatever paths both are reached."""
        if isinstance(self.filesystem, fs.LocalFileSystem) and isinstance(
            other.filesystem, fs.LocalFileSystem
        ):
            there = Path(other.path())
            return there.exists() and there.samefile(self.path())
        return self.path() == other.path() and bool(self.filesystem == other.filesystem)

    def where(self, name: str = "") -> str:
        """Return the path or whole URI of a file (or of this directory), for messages.

        Keys that a URI may hold are left out.
        """
        found = self.sub(*name.split("/")) if name else self
        return str(public(found.uri))

    def _split(self) -> tuple[str, str]:
        """Split the URI into path and query (`?endpoint_override=http://...` may hold slashes)."""
        place, query = self.uri, ""
        if "://" in self.uri:
            place, mark, tail = self.uri.partition("?")
            query = mark + tail
        return place.rstrip("/"), query

    def exists(self, name: str) -> bool:
        """Return whether a file of that name is there.

        Raises:
            StorageError: If the storage cannot be read.
        """
        info = self._info(name)
        return bool(info.type == fs.FileType.File)

    def changed_s(self, name: str) -> float | None:
        """Return when a file was last written, in seconds since 1970; None if it is not there.

        Raises:
            StorageError: If the storage cannot be read.
        """
        info = self._info(name)
        is_file = info.type == fs.FileType.File and info.mtime_ns is not None
        return info.mtime_ns / 1e9 if is_file else None

    def _info(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        path = self.path(name)
        return attempt(self.where(name), "read", lambda: self.filesystem.get_file_info(path))

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            ArtefactError: If it is not there.
            StorageError: If it cannot be read.
        """

        def read() -> bytes:
            with self.filesystem.open_input_file(self.path(name)) as stream:
                data = cast("bytes", stream.read())
                check_length(len(data), stream.size())
                count_traffic(read=len(data))
                return data

        return attempt(self.where(name), "read", read)

    def write_bytes(self, name: str, data: bytes, *, like: Path | None = None) -> None:
        """Write a file so that a reader sees the old content or the new, never a part.

        Args:
            name: Name of the file.
            data: Its bytes.
            like: A file whose permissions and times it gets, as far as the filesystem has them.

        Raises:
            StorageError: If it cannot be written (permissions, a full disk).
        """

        def write() -> None:
            filesystem, path = self.filesystem, self.path(name)
            if isinstance(filesystem, fs.LocalFileSystem):
                write_local(Path(path), data, like)
                return
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)

        attempt(self.where(name), "written", write)
        count_traffic(written=len(data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; of several callers at once, one does it.

        Where the storage has no such call (pyarrow offers none for buckets), the file is written
        and, after `SETTLE_S`, read back: whoever wrote it last has made it.

        Returns:
            Whether this call made the file; if not, there is another's.

        Raises:
            StorageError: If it cannot be written.
        """
        if isinstance(self.filesystem, fs.LocalFileSystem):
            path = Path(self.path(name))
            made = attempt(self.where(name), "written", lambda: create_local(path, data))
            if made is not None:
                return made
        if self.exists(name):
            return False
        self.write_bytes(name, data)
        time.sleep(SETTLE_S)
        return self.read_bytes(name) == data

    def read_json(self, name: str) -> Any:  # noqa: ANN401 - JSON has no narrower type
        """Read a JSON file.

        Raises:
            ArtefactError: If it is missing or is not JSON.
        """
        data = self.read_bytes(name)
        try:
            return json.loads(data)
        except ValueError as error:
            raise ArtefactError(f"{self.where(name)} is not JSON: {error}") from error

    def write_json(self, name: str, value: object) -> None:
        """Write plain data as JSON, with keys in their order and one field on each line."""
        self.write_bytes(name, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())

    def list_files(self, suffix: str = "") -> list[str]:
        """Return the sorted relative names of all files below this directory, none if missing.

        Raises:
            StorageError: If they cannot be listed.
        """
        return [name for name in self._sizes() if name.endswith(suffix)]

    def _sizes(self) -> dict[str, int]:
        """Return the bytes of all files below this directory, by sorted name."""
        selector = fs.FileSelector(self.path(), allow_not_found=True, recursive=True)
        start = len(self.path()) + 1
        infos = attempt(self.where(), "listed", lambda: self.filesystem.get_file_info(selector))
        found = {
            info.path[start:]: info.size
            for info in infos
            if info.type == fs.FileType.File and PARTIAL not in info.path[start:]
        }
        return dict(sorted(found.items()))

    def delete(self, name: str = "") -> None:
        """Delete one file, or, without a name, this directory with all below it.

        Raises:
            StorageError: If the file is not there, or something cannot be deleted.
        """
        num_tries = 0

        def delete() -> None:
            nonlocal num_tries
            num_tries += 1
            if not name:
                if self.filesystem.get_file_info(self.path()).type == fs.FileType.Directory:
                    self.filesystem.delete_dir(self.path())
                return
            try:
                self.filesystem.delete_file(self.path(name))
            except FileNotFoundError:
                if num_tries == 1:  # else the try before did it, and its answer was lost
                    raise

        attempt(self.where(name), "deleted", delete)

    def commit(
        self, spec: object, *, written: Written = NOTHING_WRITTEN, without: str | None = None
    ) -> None:
        """Mark this directory as a finished result, by writing `DONE.json` after all other files.

        Args:
            spec: What the result was made from, as plain data.
            written: Files whose hashes are known from writing them; the others are read again.
            without: Folder below this directory whose files are no part of the result.

        Raises:
            StorageError: If a file is not as long as what was written, or is not there.
        """

        def belongs(name: str) -> bool:
            return name != DONE and name.partition("/")[0] != without

        sizes = {name: size for name, size in self._sizes().items() if belongs(name)}
        gone = sorted(filter(belongs, written.keys() - sizes.keys()))
        if gone:
            raise StorageError(
                f"{self.where(gone[0])} was written, but is not listed there, nor are "
                f"{len(gone) - 1} others of {len(written)}; run this again, and delete the "
                "directory before if it happens once more"
            )
        for name in sizes.keys() & written.keys():
            if sizes[name] != written[name]["num_bytes"]:
                raise StorageError(
                    f"{self.where(name)} has {sizes[name]} bytes, but "
                    f"{written[name]['num_bytes']} were written; delete it and run this again"
                )
        rest = [name for name in sizes if name not in written]
        read = read_together(lambda name: describe(self.read_bytes(name)), rest)
        files = {**written, **dict(zip(rest, read, strict=True))}
        self.write_json(DONE, {"spec": spec, "files": {name: files[name] for name in sizes}})

    def is_done(self) -> bool:
        """Return whether `commit` has marked this directory as finished."""
        return self.exists(DONE)

    def done(self) -> dict[str, Any]:
        """Return what `commit` wrote: `{"spec": ..., "files": {name: {"sha256", "num_bytes"}}}`."""
        return cast("dict[str, Any]", self.read_json(DONE))

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Raise ArtefactError unless files of a finished result have their committed hashes.

        Args:
            names: Names of the files; all by default.

        Raises:
            ArtefactError: If a file is missing or differs from what was committed.
        """
        files = self.done()["files"]
        for name in files if names is None else names:
            if name not in files:
                raise ArtefactError(f"{self.where(name)} is not part of the committed result")
            found = describe(self.read_bytes(name))
            if found != files[name]:
                raise ArtefactError(
                    f"{self.where(name)} has sha256 {found['sha256'][:12]}, but "
                    f"{files[name]['sha256'][:12]} was committed; delete the directory to make it "
                    "again"
                )

    def check_writable(self) -> None:
        """Raise StorageError unless a small file can be written and deleted.

        Raises:
            StorageError: If that fails; says where and why.
        """
        name = f"{PARTIAL}probe-{uuid.uuid4().hex}"
        with patience(BRIEF):
            self.write_bytes(name, b"expertree")
            self.delete(name)


def read_together(read: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Return a function's results for several items, called in threads; its errors are raised here.

    For reading, which waits for storage, and decoding, which does not hold the interpreter's lock.
    The function must not call this one.
    """
    if len(items) < 2:
        return [read(item) for item in items]
    return list(_readers().map(read, items))


@functools.cache
def _readers() -> ThreadPoolExecutor:
    most = min(_MOST_READERS, os.cpu_count() or 1)
    return ThreadPoolExecutor(max_workers=most, thread_name_prefix="readers")


os.register_at_fork(after_in_child=_readers.cache_clear)  # threads are not forked


@functools.lru_cache(maxsize=256)  # a client of a bucket keeps its connections
def _resolve(uri: str) -> tuple[fs.FileSystem, str]:
    with storage_errors(f"storage '{Storage(uri).where()}'", "opened"):
        try:
            filesystem, path = fs.FileSystem.from_uri(uri)
        except ArrowInvalid as error:
            raise StorageError(
                f"storage '{Storage(uri).where()}' cannot be opened: {error}"
            ) from error
        except UnicodeError as error:
            raise StorageError(
                f"storage '{Storage(uri).where()}' cannot be opened: its name is no UTF-8; give "
                "another one"
            ) from error
    return filesystem, path


def describe(data: bytes) -> FileRecord:
    """Return the hash and length of a file's bytes, as `commit` keeps them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
