"""Jobs that share a store, each under a name; a sign of life says that a job still goes on.

The sign of life is a file that its job writes again every few seconds, and deletes when it ends.
Whether a job lives is judged by that file's changing while one looks on, never by comparing clocks.
"""

import contextlib
import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, cast

from expertree.errors import ArtefactError, TakenOverError
from expertree.faults import BRIEF, patience
from expertree.process import Process
from expertree.repeating import repeating
from expertree.storage import Storage
from expertree.uris import public

logger = logging.getLogger(__name__)

BEAT_S = 5.0
"""Seconds between two signs of life."""

SILENT_S = 40.0
"""Seconds of looking on without a sign of life after which a job is taken for dead."""

LOOK_S = 1.0
"""Seconds between two looks. A look that takes much longer, as when the storage is away, counts as
two: then the job could not give a sign either."""

SAID_AFTER_S = 2 * BEAT_S
"""Seconds of silence after which it is said that one looks on."""

_FOLDER = "owners"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """One start of a job, in whose name results are made.

    Attributes:
        name: Name of the job; a later start with the same name takes over from this one.
        start: Id of this start.
        number: Number of this start among those with the name.
        process: Process that gives the signs of life.
        what: What the job makes, for people: its output.
        signs: Directory with its sign of life.
    """

    name: str
    start: str
    number: int
    process: Process
    what: str
    signs: Storage

    @property
    def file(self) -> str:
        """The name of the file with its sign of life."""
        return f"{self.name}.json"

    def record(self) -> dict[str, Any]:
        """Return this as plain data without keys; see `owner_of`."""
        return {**dataclasses.asdict(self), "signs": public(self.signs.uri)}

    def __str__(self) -> str:
        return f"the job that makes {self.what} ({self.process})"


def owner_of(record: Mapping[str, Any]) -> Owner:
    """Return the owner of what `Owner.record` returned.

    Raises:
        KeyError: If a field is missing.
    """
    own = {field.name: record[field.name] for field in dataclasses.fields(Owner)}
    own |= {"process": Process.of(own["process"]), "signs": Storage(own["signs"])}
    return Owner(**own)


class Keeper:
    """Gives the signs of life of a job.

    Attributes:
        owner: The job, for whoever works for it; picklable.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._lost = threading.Event()

    def check(self) -> None:
        """Raise an error if another start of this job has taken over.

        Raises:
            TakenOverError: If so.
        """
        if self._lost.is_set():
            raise TakenOverError(
                f"another start of '{self.owner.name}' has taken over {self.owner.what}; this one "
                "ends"
            )

    def give_sign(self) -> None:
        """Write the sign of life, unless another start has taken over."""
        own = self.owner
        if self._lost.is_set():
            return
        with patience(BRIEF):
            found = _sign_of(own)
            if found and found["start"] != own.start and found["number"] >= own.number:
                self._lost.set()
                logger.warning("another start of '%s' has taken over", own.name)
                return
            own.signs.write_json(own.file, {**own.record(), "sign": time.time()})

    def end(self) -> None:
        """Delete the sign of life: what is held in this job's name is free."""
        found = _sign_of(self.owner)
        if found and found["start"] == self.owner.start:
            self.owner.signs.delete(self.owner.file)


@contextlib.contextmanager
def keep(store: Storage, *, what: str, name: str | None = None) -> Iterator[Keeper]:
    """Give signs of life of a job for the block.

    Args:
        store: Store that the job makes results in.
        what: What the job makes, for people.
        name: Name of the job; None for one that no other has.
    """
    start = uuid.uuid4().hex
    owner = Owner(
        name=name or start,
        start=start,
        number=1,
        process=Process.here(),
        what=what,
        signs=store.sub(_FOLDER),
    )
    before = _sign_of(owner)
    if before is not None:
        owner = dataclasses.replace(owner, number=before["number"] + 1)
    keeper = Keeper(owner)
    keeper.give_sign()
    try:
        with repeating(keeper.give_sign, BEAT_S):
            yield keeper
    finally:
        with contextlib.suppress(Exception):  # whoever waits for it then waits a little longer
            keeper.end()


_alive_until_s: dict[str, float] = {}
"""Starts that were seen to live, and until when nobody looks again (`time.monotonic`)."""

_last_sign: dict[str, float] = {}
"""Starts that were silent for too long, and their last sign: a newer one shows that they live."""


def is_alive(owner: Owner) -> bool:
    """Return whether a start of a job goes on; looks on for up to `SILENT_S` to find out.

    Raises:
        StorageError: If its sign of life cannot be read.
    """
    if owner.process.is_gone:
        return False
    if time.monotonic() < _alive_until_s.get(owner.start, 0.0):
        return True
    found = _sign_of(owner)
    if found is None or found["start"] != owner.start:
        return False
    if found["sign"] == _last_sign.get(owner.start):
        return False
    if _gives_another_sign(owner, found["sign"]):
        _alive_until_s[owner.start] = time.monotonic() + 2 * BEAT_S
        return True
    _last_sign[owner.start] = found["sign"]
    return False


def _gives_another_sign(owner: Owner, last: float) -> bool:
    """Look on until a start gives another sign than its last; False if it ends, or is silent."""
    silent_s, looked_s, is_said = 0.0, time.monotonic(), False
    while silent_s <= SILENT_S and not owner.process.is_gone:
        time.sleep(LOOK_S)
        found = _sign_of(owner)
        if found is None or found["start"] != owner.start:
            return False
        if found["sign"] != last:
            return True
        now_s = time.monotonic()
        silent_s += min(now_s - looked_s, 2 * LOOK_S)
        looked_s = now_s
        if silent_s > SAID_AFTER_S and not is_said:
            is_said = True
            logger.warning("%s gives no sign of life; looking on for %g s", owner, SILENT_S)
    return False


def _sign_of(owner: Owner) -> dict[str, Any] | None:
    """Return the newest sign of life under an owner's name; None if there is none."""
    try:
        return cast("dict[str, Any]", owner.signs.read_json(owner.file))
    except ArtefactError:
        return None
