"""The log of a batch, which gets a line for each photograph and lets a stopped batch go on.

A restored photograph is identified by its path, size and time of change, the model and the options:
the same command after a kill, or after new photographs came, does what is left and nothing twice.
"""

import dataclasses
import fcntl
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from expertree.batch.listing import PhotoItem
from expertree.config import canonical_json
from expertree.errors import StorageError

MANIFEST = "manifest.jsonl"

Key: TypeAlias = tuple[str, int, int, str, str]


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
        error: Reason for which it failed, as a clause that can follow its name.
        is_lasting: Whether it would fail again: the file is at fault and not the circumstances.
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
    error: str = ""
    is_lasting: bool = False
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
        """The photograph, model and options that it is the outcome for."""
        return self.name, self.num_bytes, self.mtime_ns, self.model, self.options


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The content of a manifest.

    Attributes:
        records: The last record of each key.
        begun_ns: Time at which a batch first began here, by the digests of its model and options.
            A younger file where it would write one is its own, though it was killed before it
            recorded that.
    """

    records: dict[Key, PhotoRecord]
    begun_ns: dict[tuple[str, str], int]

    def find(self, item: PhotoItem, model: str, options: str) -> PhotoRecord | None:
        """Return the record of a photograph whose file has not changed since; None without one."""
        return self.records.get((item.name, item.num_bytes, item.mtime_ns, model, options))


def read_history(path: Path) -> History:
    """Read a manifest; one that is not there is empty. A line cut off by a kill is passed over."""
    records: dict[Key, PhotoRecord] = {}
    begun_ns: dict[tuple[str, str], int] = {}
    for line in _lines(path):
        if line.get("state") == "begun":
            begun_ns.setdefault((line["model"], line["options"]), line["time_ns"])
            continue
        try:
            record = PhotoRecord(**{**line, "notes": tuple(line.get("notes", ())), "traceback": ""})
        except TypeError:
            continue
        records[record.key] = record
    return History(records=records, begun_ns=begun_ns)


class BatchManifest:
    """A manifest that is open for appending; of one batch at a time."""

    def __init__(self, path: Path) -> None:
        """Open a manifest and lock it against other batches.

        Raises:
            StorageError: If another batch writes to this folder, or it cannot be written to.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b")
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise StorageError(f"another batch is writing to {path.parent}") from error
        if self._stream.seek(0, io.SEEK_END):
            self._stream.seek(-1, io.SEEK_END)
            if self._stream.read(1) != b"\n":  # the last line was cut off by a kill
                self._stream.write(b"\n")

    def begin(self, model: str, options: str) -> None:
        """Record that a batch begins."""
        self._write(
            {"state": "begun", "model": model, "options": options, "time_ns": time.time_ns()}
        )

    def append(self, record: PhotoRecord) -> None:
        """Append the record of a photograph."""
        self._write(record)

    def __enter__(self) -> Self:
        """Return the manifest, which is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close and unlock the manifest."""
        self._stream.close()

    def _write(self, entry: object) -> None:
        self._stream.write(canonical_json(entry).encode() + b"\n")
        self._stream.flush()


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
