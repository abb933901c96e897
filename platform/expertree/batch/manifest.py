"""The log of a batch, which gets a line for each photograph and lets a stopped batch go on.

A restored photograph is identified by its path, size and time of change, the model and the options:
the same command after a kill, or after new photographs came, does what is left and nothing twice.
It is done for as long as nothing else was written to its place by such a command.

What a batch has written it knows by its hash, so that it never writes over what somebody has made
of it since, nor over what was made of a photograph of another folder. The hash stands in a journal
before the file is there, and in the photograph's line afterwards: a batch that is killed in between
still knows its own.
"""

import dataclasses
import errno
import fcntl
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from expertree.batch.listing import PhotoItem
from expertree.config import canonical_json, fingerprint
from expertree.errors import StorageError

MANIFEST = "manifest.jsonl"

Key: TypeAlias = tuple[str, str, int, int, str, str]

_JOURNAL = ".partial-journal-"
_WRITING = "writing"
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})
"""Errors of a lock that another process holds; others say that the filesystem has no locks."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhotoRecord:
    """The outcome for one photograph.

    Attributes:
        state: `done`, or `failed`.
        name: Its path below the input folder.
        num_bytes: Bytes of its file.
        mtime_ns: Time of the file's last change.
        model: Digest of the model.
        options: Digest of the options.
        output: Path of the restored one below the output folder.
        sha256: SHA-256 of the restored file.
        origin: Digest of the input folder; see `origin_of`. Lines of old manifests have none.
        error: Reason for which it failed, as a clause that can follow its name.
        is_lasting: Whether it would fail again: the file is at fault and not the circumstances.
        decoders: What could not read it, if it would fail again; lines of old manifests have none.
        num_pixels: Pixels of the photograph.
        expert: The expert that restored it, by its node; None if it is left as it is.
        level: That expert's level; where there is none, that of the one that would serve.
        confidence: How sure the choice was, in [0, 1].
        num_tiles: Tiles it was restored in.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Seconds for reading, restoring and writing it.
        notes: Notes on what could not be kept as it was.
        traceback: Traceback of an unexpected error. It is in the manifest only: a history has none.
    """

    state: Literal["done", "failed"]
    name: str
    num_bytes: int
    mtime_ns: int
    model: str
    options: str
    output: str
    sha256: str = ""
    origin: str = ""
    error: str = ""
    is_lasting: bool = False
    decoders: str = ""
    num_pixels: int = 0
    expert: int | None = None
    level: int | None = None
    confidence: float | None = None
    num_tiles: int = 0
    num_retries: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    traceback: str = ""

    @property
    def is_as_is(self) -> bool:
        """Whether it is done and left as it is: its pixels are its own."""
        return self.state == "done" and self.expert is None

    @property
    def key(self) -> Key:
        """The photograph, place, model and options that it is the outcome for."""
        photograph = self.name, self.output, self.num_bytes, self.mtime_ns
        return *photograph, self.model, self.options


class Writing(NamedTuple):
    """A file that was written, or was about to be, and what it was made of.

    Attributes:
        output: Path of the restored photograph below the output folder.
        model: Digest of the model.
        options: Digest of the options.
        sha256: SHA-256 of the file.
        origin: Digest of the input folder; empty where that is not known.
        name: The photograph's path below the input folder.
    """

    output: str
    model: str
    options: str
    sha256: str
    origin: str = ""
    name: str = ""

    @classmethod
    def of(cls, record: PhotoRecord) -> Self:
        """Return what a record says was written."""
        return cls(*(getattr(record, field) for field in cls._fields))

    @property
    def maker(self) -> "_Maker":
        """What may write over the file: the photograph as far as it is known, model and options."""
        name = self.name if self.origin else ""
        return self.output, self.model, self.options, self.origin, name


_Maker: TypeAlias = tuple[str, str, str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The content of a manifest.

    Attributes:
        records: The last record of each key.
        written: SHA-256 of what was written, or was about to be, by what may write over it.
        latest: SHA-256 of what was written last, or was about to be, by output.
    """

    records: Mapping[Key, PhotoRecord]
    written: Mapping[_Maker, frozenset[str]]
    latest: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def find(self, item: PhotoItem, model: str, options: str) -> PhotoRecord | None:
        """Return the record of a photograph whose file has not changed since; None without one."""
        photograph = item.name, item.output, item.num_bytes, item.mtime_ns
        return self.records.get((*photograph, model, options))

    def is_latest(self, record: PhotoRecord) -> bool:
        """Return whether no batch has written anything else to a record's place since."""
        return self.latest.get(record.output, record.sha256) == record.sha256

    def own_hashes(self, item: PhotoItem, model: str, options: str, origin: str) -> frozenset[str]:
        """Return the hashes of what may be replaced by what is made of a photograph again.

        Files of which no line says from which folder they came are among them.
        """
        own = Writing(item.output, model, options, "", origin, item.name)
        makers = own.maker, own._replace(origin="").maker
        return frozenset().union(*(self.written.get(maker, frozenset()) for maker in makers))

    @property
    def outputs(self) -> frozenset[str]:
        """The names of all files that a batch wrote there, whatever became of them since."""
        return frozenset(self.latest)

    def with_records(self, records: Iterable[PhotoRecord | Writing]) -> "History":
        """Return the history with what came after it, records or lines of journals."""
        everything, written, latest = dict(self.records), dict(self.written), dict(self.latest)
        for record in records:
            if isinstance(record, PhotoRecord):
                everything[record.key] = record
                if record.state == "failed":
                    continue
            writing = record if isinstance(record, Writing) else Writing.of(record)
            latest[writing.output] = writing.sha256
            if writing.sha256:
                before = written.get(writing.maker, frozenset())
                written[writing.maker] = before | {writing.sha256}
        return History(records=everything, written=written, latest=latest)


def read_history(path: Path) -> History:
    """Read a manifest and the journals beside it; without any, nothing is known.

    A line cut off by a kill is passed over.
    """
    lines = (line for file in (path, *_journals(path.parent)) for line in _lines(file))
    return History(records={}, written={}).with_records(filter(None, map(_entry, lines)))


def origin_of(source: Path) -> str:
    """Return a digest of an input folder, by which photographs of one name are told apart."""
    return fingerprint(os.path.realpath(source))


class WriteJournal:
    """The journal of one process: a line for each file that it is about to write."""

    def __init__(self, folder: Path) -> None:
        """Name a journal of its own in the folder of a manifest; it is made with its first line."""
        self._path = folder / f"{_JOURNAL}{uuid.uuid4().hex}"

    def about_to_write(self, record: PhotoRecord) -> None:
        """Note the output and the hash of a file that will be there next.

        Raises:
            OSError: If that cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = {"state": _WRITING, **Writing.of(record)._asdict()}
        with self._path.open("ab") as stream:
            stream.write(canonical_json(line).encode() + b"\n")


class BatchManifest:
    """A manifest that is open for appending; of one batch at a time."""

    def __init__(self, path: Path) -> None:
        """Open a manifest and lock it against other batches, where the filesystem has locks.

        Raises:
            StorageError: If another batch writes to this folder, or it cannot be written to.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                self._stream.close()
                raise StorageError(f"another batch is writing to {path.parent}") from error
        self._path, self._folder, self._unwritten = path, path.parent, b""
        if self._stream.seek(0, io.SEEK_END):
            self._stream.seek(-1, io.SEEK_END)
            if self._stream.read(1) != b"\n":  # the last line was cut off by a kill
                self._unwritten = b"\n"
        for journal in _journals(self._folder):  # of batches that were stopped
            for line in _lines(journal):
                self._write(line)
            journal.unlink()

    def append(self, record: PhotoRecord) -> None:
        """Append the record of a photograph.

        Raises:
            StorageError: If it cannot be written, as on a full disk; it then goes with the next.
        """
        self._write(record)

    def forget_journals(self) -> None:
        """Delete the journals; for when the manifest's lines say all that stands in them.

        Raises:
            StorageError: If lines are left that cannot be written.
        """
        self._write_rest()
        for journal in _journals(self._folder):
            journal.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the manifest, which is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close and unlock the manifest; after a whole batch, its lines say all of the journals."""
        try:
            if kind is None:
                self.forget_journals()
        finally:
            self._stream.close()

    def _write(self, entry: object) -> None:
        self._unwritten += canonical_json(entry).encode() + b"\n"
        self._write_rest()

    def _write_rest(self) -> None:
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._stream.write(self._unwritten) :]
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_JOURNAL}*"))


def _entry(line: Mapping[str, Any]) -> PhotoRecord | Writing | None:
    """Return what a line says; None if it lacks something, or is of a later version."""
    try:
        if line.get("state") == _WRITING:
            return Writing(**{name: line[name] for name in Writing._fields if name in line})
        return PhotoRecord(**{**line, "notes": tuple(line.get("notes", ())), "traceback": ""})
    except TypeError:
        return None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry
