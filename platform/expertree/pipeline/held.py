"""Makes results that other jobs may be making too: each is made by one, and others wait for it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from expertree.errors import HeldError
from expertree.leases import Lease, Watch, lease_of, release, take
from expertree.owners import Owner
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage, read_together

if TYPE_CHECKING:
    from expertree.training import Workers

K = TypeVar("K")

WAIT_S = 2.0
"""Seconds between two looks at what other jobs are making."""


def make_held(
    missing: Mapping[K, Storage],
    owner: Owner | None,
    make: Callable[[Mapping[K, Storage]], None],
    on_wait: Callable[[str], None],
) -> None:
    """Make results that are missing, and wait for those that other jobs are making.

    What another job gives up, or what it held when it died, is made here after all.

    Args:
        missing: Results that are not done, by name.
        owner: Job in whose name they are held; None where no other job uses the store.
        make: Makes and commits some of them; called with those that are held.
        on_wait: Called with a sentence when there is nothing to do but to wait.
    """
    if owner is None:
        make(missing)
        return
    while missing:
        leases, others = _take_all(missing, owner)
        try:
            mine = {name: missing[name] for name in leases if not missing[name].is_done()}
            if mine:
                make(mine)
        finally:
            held = [(lease, missing[name]) for name, lease in leases.items()]
            read_together(lambda pair: release(*pair), held)
        missing = {name: missing[name] for name in others if not missing[name].is_done()}
        if missing and not mine:
            on_wait(next(iter(others.values())))
            time.sleep(WAIT_S)


@contextlib.contextmanager
def held_by_all(
    result: Storage, owner: Owner | None, on_progress: OnProgress, workers: "Workers"
) -> Iterator[OnProgress]:
    """Hold a result for the block, in which several workers make it together; the first takes it.

    Args:
        result: The result. It may be done by the time that it is held: look again.
        owner: Job in whose name it is held; None where no other job uses the store.
        on_progress: Called with the work's progress.
        workers: This worker among all.

    Yields:
        A function like `on_progress`, which raises HeldError when the lease is lost.

    Raises:
        HeldError: If another job makes it; in all workers.
    """
    if owner is None:
        yield on_progress
        return
    lease, reason = _take(result, owner) if workers.is_first else (None, None)
    reason = workers.agree_on(reason)
    if reason is not None:
        raise HeldError(reason)
    # The others would wait for the first one in the middle of a step: they go on to the end.
    watch = Watch(lease if workers.count == 1 else None)

    def watched(progress: Mapping[str, Any]) -> None:
        watch.check()
        on_progress(progress)

    try:
        yield watched
    finally:
        if lease is not None:
            release(lease, result)


def _take(result: Storage, owner: Owner) -> tuple[Lease | None, str | None]:
    """Return the lease, or who holds it."""
    try:
        return take(lease_of(result), owner, what=result.where()), None
    except HeldError as error:
        return None, str(error)


def _take_all(missing: Mapping[K, Storage], owner: Owner) -> tuple[dict[K, Lease], dict[K, str]]:
    """Return the leases that could be taken, and who holds the others."""
    taken = read_together(lambda result: _take(result, owner), list(missing.values()))
    found = dict(zip(missing, taken, strict=True))
    leases = {name: lease for name, (lease, _) in found.items() if lease is not None}
    return leases, {name: reason for name, (_, reason) in found.items() if reason is not None}
