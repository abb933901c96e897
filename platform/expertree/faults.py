"""What goes wrong with a storage: which errors pass, and how long to try again until they have."""

import contextlib
import dataclasses
import errno
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Literal, TypeAlias, TypeVar

from expertree.errors import ArtefactError, StorageError, TransientStorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

Deed: TypeAlias = Literal["read", "written", "listed", "deleted", "opened"]

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
    r"|INVALID_CLIENT_TOKEN_ID|OPT_IN_REQUIRED|INVALID_OBJECT_STATE"
    r"|UNRECOGNIZED_CLIENT|AUTHENTICATION|PERMISSION_DENIED|UNAUTHENTICATED"
    r"|HTTP status (3|4(?!08|29))"
)
"""Words in pyarrow's errors about buckets, which have no number: those that will not pass."""

_SAID_AFTER_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long something that fails for a passing reason is tried again.

    Attributes:
        for_s: Seconds after which it has failed.
        first_s: Seconds before the second try, on average three quarters of it; each pause is
            twice as long as the one before.
        most_s: The longest pause in seconds.
    """

    for_s: float = 300.0
    first_s: float = 0.25
    most_s: float = 10.0


PATIENCE = Patience()
"""The patience of jobs: a storage may be away for some minutes and cost only those."""

BRIEF = Patience(for_s=10.0)
"""The patience where somebody waits to be told that an address is wrong, and for signs of life."""

_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patience(given: Patience) -> Iterator[None]:
    """Have what this thread does in the block tried again for so long."""
    token = _patience.set(given)
    try:
        yield
    finally:
        _patience.reset(token)


def retried(call: Callable[[], T]) -> T:
    """Return what a function returns; call it again while the storage fails for a passing reason.

    Pauses are drawn at random below a bound that doubles, so that lanes which failed together do
    not ask together again.

    Args:
        call: The function; it must be harmless to repeat.

    Raises:
        TransientStorageError: If it still fails after `PATIENCE`, or what `patience` says.
    """
    given = _patience.get() or PATIENCE
    begin_s, pause_s, is_said = time.monotonic(), given.first_s, False
    while True:
        try:
            return call()
        except TransientStorageError as error:
            spent_s = time.monotonic() - begin_s
            left_s = given.for_s - spent_s
            if left_s <= 0:
                raise
            if spent_s > _SAID_AFTER_S and not is_said:
                is_said = True
                logger.warning("%s; trying again for up to %.0f s", error, left_s)
        time.sleep(min(pause_s * random.uniform(0.5, 1.0), left_s))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, given.most_s)


def attempt(path: str, deed: Deed, call: Callable[[], T]) -> T:
    """Do something with a file or folder, again while that fails for a passing reason.

    Args:
        path: Where, for the message.
        deed: What is done there, for the message.
        call: Does it; must be harmless to repeat.

    Raises:
        ArtefactError: If what is to be read is missing or damaged.
        TransientStorageError: If it failed to the end for reasons that may pass.
        StorageError: If it will fail until somebody acts.
    """

    def once() -> T:
        with storage_errors(path, deed):
            return call()

    return retried(once)


@contextlib.contextmanager
def storage_errors(path: str, deed: Deed) -> Iterator[None]:
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


def check_length(found: int, wanted: int) -> None:
    """Raise an error that passes unless all bytes came that were asked for.

    Raises:
        OSError: If a connection was cut; some clients give what came until then.
    """
    if found != wanted:
        raise OSError(errno.ECONNRESET, f"{found} bytes came of {wanted}")


def _as_ours(message: str, deed: Deed, error: OSError) -> ArtefactError | StorageError:
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
