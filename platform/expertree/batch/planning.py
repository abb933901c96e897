"""Plan what is left to do of a batch, and refuse to replace files unasked."""

import dataclasses
import hashlib
from collections.abc import Collection
from pathlib import Path

from expertree.batch.decoders import decoders
from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import History, PhotoRecord
from expertree.batch.settings import ExistingPolicy
from expertree.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """The photographs of a batch, divided by what is left to do.

    Attributes:
        remaining: Photographs to be restored.
        earlier: Records of those that an earlier run has done, or that failed for good in one.
        skipped: Names of those that are left alone, since something lies where they would go.
        foreign: Those that would replace what no such batch wrote, and nobody said that they may.
    """

    remaining: tuple[PhotoItem, ...]
    earlier: tuple[PhotoRecord, ...]
    skipped: tuple[str, ...]
    foreign: tuple[PhotoItem, ...] = ()


def plan_batch(
    items: tuple[PhotoItem, ...],
    folder: Path,
    history: History,
    *,
    model: str,
    options: str,
    existing: ExistingPolicy,
    origin: str = "",
) -> BatchPlan:
    """Divide a batch into what is done and what is left.

    Args:
        items: All photographs.
        folder: Folder for the restored ones.
        history: History of the batches before this one into that folder.
        model: Digest of the model.
        options: Digest of the options.
        existing: What to do where something lies that no batch of this model, options and origin
            wrote, or that was changed since. If it is `overwrite`, what failed is tried again, and
            what was made of another folder's photograph of the same name, size and time is not
            taken for this one's.
        origin: Digest of the input folder.
    """
    remaining, earlier, skipped, foreign = [], [], [], []
    unread = frozenset() if existing == "overwrite" else frozenset({"", decoders()})
    for item in items:
        place = folder / item.output
        record, is_there = history.find(item, model, options), place.exists()
        written = history.own_hashes(item, model, options, origin)
        if existing == "overwrite" and record is not None and record.origin not in {"", origin}:
            record = None
        if record is not None and _still_holds(record, history, unread, is_there=is_there):
            earlier.append(record)
        elif is_there and existing == "skip":
            skipped.append(item.name)
        elif is_there and existing == "refuse" and not _is_own(place, written):
            foreign.append(item)
        else:
            remaining.append(item)
    return BatchPlan(
        remaining=tuple(remaining),
        earlier=tuple(earlier),
        skipped=tuple(skipped),
        foreign=tuple(foreign),
    )


def refuse_foreign(plan: BatchPlan, folder: Path) -> None:
    """Raise if photographs of a plan would replace files unasked.

    Raises:
        ConfigError: If some would; names the first of these files.
    """
    if plan.foreign:
        num_items = sum(map(len, (plan.remaining, plan.earlier, plan.skipped, plan.foreign)))
        raise ConfigError(
            f"{len(plan.foreign):,} of {num_items:,} restored photographs would replace files, "
            f"such as {folder / plan.foreign[0].output}; --overwrite replaces them, "
            "--skip-existing leaves them alone"
        )


def _still_holds(
    record: PhotoRecord, history: History, unread: Collection[str], *, is_there: bool
) -> bool:
    """Return whether nothing is to be done again.

    Args:
        record: A photograph's record.
        history: The history that it is of.
        unread: Decoders that need not try again what they could not read.
        is_there: Whether something lies at its place.
    """
    if record.state == "done":
        return is_there and history.is_latest(record)
    return record.is_lasting and record.decoders in unread


def _is_own(place: Path, written: Collection[str]) -> bool:
    """Return whether a file is as an earlier such batch wrote it, by its hash."""
    if not written:
        return False
    try:
        with place.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() in written
    except OSError:
        return False
