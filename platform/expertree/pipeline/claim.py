"""Claims an output folder for one job, and the job's name in the store that it works with."""

import contextlib
from collections.abc import Iterator

from expertree.errors import HeldError
from expertree.leases import release, take
from expertree.owners import Keeper, keep
from expertree.storage import Storage

_LEASE = ".lease"


@contextlib.contextmanager
def claimed(output: Storage, store: Storage, *, name: str | None) -> Iterator[Keeper]:
    """Hold an output folder for the block, and give signs of life of its job in the store.

    Args:
        output: The job's output folder.
        store: The store in which it makes and holds results.
        name: `cluster.owner`; see there.

    Yields:
        Who gives the signs; ask it now and then whether another start has taken over.

    Raises:
        HeldError: If another job that lives writes there.
    """
    with keep(store, what=output.where(), name=name) as keeper:
        try:
            lease = take(output.sub(_LEASE), keeper.owner, what=output.where())
        except HeldError as error:
            raise HeldError(
                f"output={output.where()} is taken: {error}; wait until that has ended, or give "
                "another output (a start with its cluster.owner would take over from it)"
            ) from None
        try:
            yield keeper
        finally:
            release(lease, output)
