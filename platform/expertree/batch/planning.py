"""Plan what is left to do of a batch, and refuse to replace files unasked."""

import dataclasses
from pathlib import Path

from expertree.batch.listing import Item
from expertree.batch.manifest import History, Record
from expertree.batch.settings import Existing
from expertree.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The photographs of a batch, divided by what is left to do.

    Attributes:
        left: Photographs to be restored.
        earlier: Records of those that an earlier run has done, or that failed for good in one.
        skipped: Names of those that are left alone, since something lies where they would go.
    """

    left: tuple[Item, ...]
    earlier: tuple[Record, ...]
    skipped: tuple[str, ...]


def plan_batch(
    items: tuple[Item, ...],
    folder: Path,
    history: History,
    *,
    model: str,
    options: str,
    existing: Existing,
) -> Plan:
    """Divide a batch into what is done and what is left.

    Args:
        items: All photographs.
        folder: Folder for the restored ones.
        history: History of the batches before this one into that folder.
        model: Digest of the model.
        options: Digest of the options.
        existing: What to do where something lies that no batch of this model and options wrote.

    Raises:
        ConfigError: If something does, and `existing` is `refuse`.
    """
    left, earlier, skipped, foreign = [], [], [], []
    for item in items:
        place = folder / item.output
        record, is_there = history.find(item, model, options), place.exists()
        if record is not None and (record.is_lasting or (record.state == "done" and is_there)):
            earlier.append(record)
        elif is_there and existing == "skip":
            skipped.append(item.name)
        else:
            left.append(item)
            if is_there and not _is_own(place, history.begun_ns.get((model, options))):
                foreign.append(place)
    if foreign and existing == "refuse":
        raise ConfigError(
            f"{len(foreign):,} of {len(items):,} restored photographs would replace files, such as "
            f"{foreign[0]}; --overwrite replaces them, --skip-existing leaves them alone"
        )
    return Plan(left=tuple(left), earlier=tuple(earlier), skipped=tuple(skipped))


def _is_own(place: Path, begun_ns: int | None) -> bool:
    """Return whether an earlier such batch wrote a file, but was killed before it recorded it."""
    return begun_ns is not None and place.stat().st_mtime_ns >= begun_ns
