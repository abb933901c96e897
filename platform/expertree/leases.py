"""Leases on results: of two jobs on one store, one makes a result and the other waits for it.

The lease of a result is the newest of some numbered files beside it. A file is made by one caller
alone, and is never changed by another: whoever takes over makes the next. So two cannot take over
at once, and whoever held it before sees that it is lost. A lease holds as long as the job in whose
name it was taken gives signs of life, or until it is ended.
"""

import contextlib
import dataclasses
import json
import time
import uuid
from typing import Any

from expertree.errors import ArtefactError, HeldError, StorageError
from expertree.owners import Owner, is_alive, owner_of
from expertree.storage import Storage
from expertree.uris import with_keys_of

CHECK_S = 10.0
"""Seconds between two looks at whether a lease is still held."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A lease that was taken.

    Attributes:
        place: Directory of its files.
        number: Number of its file.
        token: Id of this taking of it.
        owner: Job in whose name it was taken.
    """

    place: Storage
    number: int
    token: str
    owner: Owner

    @property
    def file(self) -> str:
        """The name of its file."""
        return _name(self.number)

    def is_held(self) -> bool:
        """Return whether nobody else has taken it meanwhile."""
        newest = _newest(self.place)
        return newest is not None and newest[1].get("token") == self.token

    def end(self) -> None:
        """Let others take it."""
        self.place.write_json(self.file, {"token": self.token, "ended": True})


def lease_of(result: Storage) -> Storage:
    """Return the directory of the lease on a result, which lies in `<store>/<stage>/<key>`."""
    return result.above(2).sub("leases", result.above().name, result.name)


def take(place: Storage, owner: Owner, *, what: str) -> Lease:
    """Take a lease.

    It is taken over from a job that has ended, that gives no sign of life, or that is an earlier
    start of the same; and from the same start, where another of its workers had it.

    Args:
        place: Directory of the lease.
        owner: Job in whose name it is taken.
        what: What it is for, for the message.

    Raises:
        HeldError: If a living job holds it, or one of which nobody here can tell whether it lives.
        StorageError: If the storage fails.
    """
    while True:
        newest = _newest(place)
        if newest is not None:
            _check_free(newest[1], owner, what, file=place.where(_name(newest[0])))
        number = 1 if newest is None else newest[0] + 1
        lease = Lease(place=place, number=number, token=uuid.uuid4().hex, owner=owner)
        record = {"token": lease.token, "owner": owner.record()}
        if place.create(lease.file, (json.dumps(record) + "\n").encode()):
            if newest is not None:
                with contextlib.suppress(StorageError, ArtefactError):
                    place.delete(_name(newest[0]))
            return lease


def release(lease: Lease, result: Storage) -> None:
    """End a lease; where its result is done, nobody needs it any more, and it is deleted.

    A storage that fails here is let pass: the lease then ends with its job.
    """
    with contextlib.suppress(StorageError, ArtefactError):
        if result.is_done():
            lease.place.delete(lease.file)
        elif lease.is_held():
            lease.end()


class Watch:
    """Looks now and then, while a result is made, whether its lease is still held.

    Args:
        lease: The lease; None for no lease, which is never lost.
    """

    def __init__(self, lease: Lease | None) -> None:
        self._lease = lease
        self._due_s = time.monotonic() + CHECK_S

    def check(self) -> None:
        """Raise an error if the lease was lost; looks every `CHECK_S` at most.

        Raises:
            HeldError: If another job has taken it, as after a long silence of this one.
        """
        if self._lease is None or time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + CHECK_S
        with contextlib.suppress(StorageError):
            if not self._lease.is_held():
                raise HeldError(f"{self._lease.place.where()} was taken over by another job")


def _check_free(record: dict[str, Any], owner: Owner, what: str, *, file: str) -> None:
    """Raise HeldError if a lease is another job's that lives, or may live.

    Args:
        record: What the lease's file says.
        owner: Job that would take it.
        what: What it is for, for the message.
        file: Where its file is, for the message.
    """
    if record.get("ended"):
        return
    try:
        other = owner_of(record["owner"])
    except (KeyError, TypeError):
        return  # nobody's: such a file was not written here
    if other.start == owner.start:
        return
    if other.name == owner.name and other.number < owner.number:
        return
    # The same store may have another path on the other's machine.
    near = dataclasses.replace(other, signs=owner.signs)
    other = dataclasses.replace(
        other, signs=Storage(with_keys_of(other.signs.uri, [owner.signs.uri]))
    )
    if is_alive(near) or (near != other and _may_live(other, what, file)):
        raise HeldError(f"{what} is being made by {other}")


def _may_live(other: Owner, what: str, file: str) -> bool:
    """Return whether a job goes on whose signs of life may be in a storage that is closed to us.

    Raises:
        HeldError: If they cannot be read.
    """
    try:
        return is_alive(other)
    except StorageError as error:
        raise HeldError(
            f"{what} was being made by {other}, whose sign of life cannot be read here ({error}); "
            f"once that job has ended, delete {file}"
        ) from error


def _newest(place: Storage) -> tuple[int, dict[str, Any]] | None:
    """Return the number and the content of the newest file of a lease; None if there is none."""
    names = [name for name in place.list_files(".json") if name.removesuffix(".json").isdigit()]
    if not names:
        return None
    number = int(names[-1].removesuffix(".json"))
    try:
        record = place.read_json(names[-1])
    except ArtefactError:  # deleted meanwhile, or not written here
        record = {}
    return number, record if isinstance(record, dict) else {}


def _name(number: int) -> str:
    return f"{number:08d}.json"
