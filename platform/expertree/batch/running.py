"""Run a batch's work: each record into the manifest and before people's eyes."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from expertree.batch.manifest import BatchManifest, PhotoRecord
from expertree.batch.restoring import BatchTask, OnItemTile
from expertree.batch.view import BatchView, printable
from expertree.errors import StorageError

RunTask: TypeAlias = Callable[[BatchTask, OnItemTile], Iterator[PhotoRecord]]
"""Function that restores the files of a task, in this process or elsewhere."""


def restore_task(
    task: BatchTask, work: RunTask, manifest: BatchManifest | None, view: BatchView
) -> tuple[list[PhotoRecord], float]:
    """Restore the files of a task.

    Args:
        task: The files, which the view knows of.
        work: What restores them.
        manifest: The manifest that gets a line for each; without one, tracebacks are printed.
        view: What shows how far it is.

    Returns:
        The record of each file, and the seconds that all of them took.
    """
    records = []
    done = work(task, view.tile) if task.items else iter(())
    begin = time.monotonic()
    for record in done:
        if manifest is not None:
            try:
                manifest.append(record)
            except StorageError as error:  # the photographs will say so too; it may pass
                view.say(str(error))
        else:
            sys.stderr.write(printable(record.traceback))
        records.append(dataclasses.replace(record, traceback=""))
        view.done(record)
    return records, time.monotonic() - begin
