"""Results on disk or in a bucket: a directory on any filesystem that pyarrow can address.

A result is a directory whose files are written first and whose `DONE.json` is written last, with
the hash of each file. So a reader either sees a whole result or none, on filesystems with and
without an atomic rename, and whatever was killed half-way is simply not done.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypedDict, TypeVar, cast

from pyarrow import ArrowInvalid, fs

from expertree.errors import ArtefactError, StorageError, TransientStorageError

DONE = "DONE.json"
_PARTIAL = ".partial-"

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

_PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY),
        *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE),
        *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ENOLCK),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
    }
)
"""Errors of disks, network filesystems and busy machines that may be over in a minute. A full disk,
a missing permission and a missing folder need somebody to act, so they are not among them."""

_REMOTE = re.compile(r"AWS Error|cloud::Status|Azure|HTTP|[Cc]onnection|[Tt]ime(d )?out")
_LASTING = re.compile(
    r"ACCESS_DENIED|NOT_FOUND|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH"
    r"|UNRECOGNIZED_CLIENT|AUTHENTICATION|PERMISSION_DENIED|UNAUTHENTICATED"
    r"|HTTP status (3|4(?!08|29))"
)
"""Words in pyarrow's errors about buckets, which have no number: those that will not pass."""


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
            StorageError: If pyarrow knows no filesystem for the URI.
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
        with storage_errors(self.path(name), "read"):
            info = self.filesystem.get_file_info(self.path(name))
        return bool(info.type == fs.FileType.File)

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            ArtefactError: If it is not there.
            StorageError: If it cannot be read.
        """
        path = self.path(name)
        with (
            storage_errors(path, "read"),
            self.filesystem.open_input_file(path) as stream,
        ):
            return cast("bytes", stream.read())

    def write_bytes(self, name: str, data: bytes, *, like: Path | None = None) -> None:
        """Write a file so that a reader sees the old content or the new, never a part.

        Args:
            name: Name of the file.
            data: Its bytes.
            like: A file whose permissions and times it gets, as far as the filesystem has them.

        Raises:
            StorageError: If it cannot be written (permissions, a full disk).
        """
        filesystem, path = self.filesystem, self.path(name)
        with storage_errors(path, "written"):
            if not isinstance(filesystem, fs.LocalFileSystem):
                filesystem.create_dir(path.rpartition("/")[0], recursive=True)
                with filesystem.open_output_stream(path) as stream:
                    stream.write(data)
                return
            _write_local(Path(path), data, like)

    def read_json(self, name: str) -> Any:  # noqa: ANN401 - JSON has no narrower type
        """Read a JSON file.

        Raises:
            ArtefactError: If it is missing or is not JSON.
        """
        data = self.read_bytes(name)
        try:
            return json.loads(data)
        except ValueError as error:
            raise ArtefactError(f"{self.path(name)} is not JSON: {error}") from error

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
        with storage_errors(self.path(), "listed"):
            infos = self.filesystem.get_file_info(selector)
        found = {
            info.path[start:]: info.size
            for info in infos
            if info.type == fs.FileType.File and _PARTIAL not in info.path[start:]
        }
        return dict(sorted(found.items()))

    def delete(self, name: str = "") -> None:
        """Delete one file, or, without a name, this directory with all below it.

        Raises:
            StorageError: If the file is not there, or something cannot be deleted.
        """
        with storage_errors(self.path(name), "deleted"):
            if name:
                self.filesystem.delete_file(self.path(name))
            elif self.filesystem.get_file_info(self.path()).type == fs.FileType.Directory:
                self.filesystem.delete_dir(self.path())

    def commit(self, spec: object, *, written: Written = NOTHING_WRITTEN) -> None:
        """Mark this directory as a finished result, by writing `DONE.json` after all other files.

        Args:
            spec: What the result was made from, as plain data.
            written: Files whose hashes are known from writing them; the others are read again.

        Raises:
            StorageError: If a file is not as long as what was written.
        """
        sizes = {name: size for name, size in self._sizes().items() if name != DONE}
        for name in sizes.keys() & written.keys():
            if sizes[name] != written[name]["num_bytes"]:
                raise StorageError(
                    f"{self.path(name)} has {sizes[name]} bytes, but "
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
                raise ArtefactError(f"{self.path(name)} is not part of the committed result")
            found = describe(self.read_bytes(name))
            if found != files[name]:
                raise ArtefactError(
                    f"{self.path(name)} has sha256 {found['sha256'][:12]}, but "
                    f"{files[name]['sha256'][:12]} was committed; delete the directory to make it "
                    "again"
                )

    def check_writable(self) -> None:
        """Raise StorageError unless a small file can be written and deleted.

        Raises:
            StorageError: If that fails; says where and why.
        """
        name = f"{_PARTIAL}probe-{uuid.uuid4().hex}"
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


@contextlib.contextmanager
def storage_errors(
    path: str, deed: Literal["read", "written", "listed", "deleted"]
) -> Iterator[None]:
    """Turn filesystem errors inside the block into errors of this package.

    Args:
        path: Path that the block works on, for the message.
        deed: What the block does with it.

    Raises:
        ArtefactError: If what is to be read is missing or damaged.
        TransientStorageError: If another try may succeed later.
        StorageError: If it will fail until somebody acts.
    """
    try:
        yield
    except OSError as error:
        raise _as_ours(f"{path} cannot be {deed}: {error}", deed, error) from error


def _as_ours(message: str, deed: str, error: OSError) -> ArtefactError | StorageError:
    words = str(error)
    # Without a number it is a bucket's error, or pyarrow's about what is in the file.
    is_of_content = error.errno is None and not _REMOTE.search(words)
    is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
    if deed == "read" and (is_absent or is_of_content):
        return ArtefactError(message)
    if error.errno is None:
        passes = not is_of_content and not _LASTING.search(words)
    else:
        passes = error.errno in _PASSING
    return TransientStorageError(message) if passes else StorageError(message)


@functools.lru_cache(maxsize=256)  # a client of a bucket keeps its connections
def _resolve(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except ArrowInvalid as error:
        raise StorageError(f"storage '{uri}' cannot be opened: {error}") from error
    except OSError as error:
        raise _as_ours(f"storage '{uri}' cannot be opened: {error}", "opened", error) from error
    return filesystem, path


def _write_local(path: Path, data: bytes, like: Path | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if like is not None:
            _resemble(partial, like)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _resemble(path: Path, like: Path) -> None:
    """Give a file the permissions and times of another; some filesystems have neither."""
    with contextlib.suppress(OSError):
        status = like.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.chmod(status.st_mode & 0o777)


def describe(data: bytes) -> FileRecord:
    """Return the hash and length of a file's bytes, as `commit` keeps them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
