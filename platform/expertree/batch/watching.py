"""Restore what is in a folder and then what comes into it, until a signal ends it.

The folder is looked at again and again, since network mounts tell nobody of new files. What is due
goes through the loop, the plan and the manifest of every batch, with the bundle kept open.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from expertree.batch.arrivals import Arrivals
from expertree.batch.checking import check_model, check_report
from expertree.batch.listing import (
    Listing,
    PhotoItem,
    ignores_case,
    look_into,
    make_item,
    place_of,
    refuse_collisions,
    refuse_own_input,
    refuse_suffix,
)
from expertree.batch.manifest import (
    MANIFEST,
    BatchManifest,
    History,
    PhotoRecord,
    origin_of,
    read_history,
)
from expertree.batch.planning import BatchPlan, plan_batch, refuse_foreign
from expertree.batch.restoring import BatchTask, OnItemTile, open_restorer, restore_files
from expertree.batch.running import restore_task
from expertree.batch.settings import BatchConfig
from expertree.batch.summary import plan_text, summarise
from expertree.batch.telling import say, tell_summary
from expertree.batch.view import BatchView
from expertree.errors import ConfigError, StorageError
from expertree.restorer import Restorer

_POLL_S = 1.0
"""Least seconds between two looks at the folder."""

_LOOKS_SHARE = 0.1
"""Largest share of the time that looks take, where one of them is slow: a network, many files."""

_NAP_S = 0.1
"""Seconds after which a signal is noticed between two looks."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ENDING = b"\nends after the photograph at hand; once more ends it at once\n"


def watch(config: BatchConfig) -> None:
    """Restore what is in a folder and what comes into it; print a summary at the end.

    The first SIGINT or SIGTERM ends it after the photograph at hand, a second one at once.

    Args:
        config: Settings of the batch, whose input is the folder.

    Raises:
        ConfigError: If it could not begin; see also `check_model`.
        KeyboardInterrupt: At the second signal.
        StorageError: If the output cannot be written, or another batch writes there.
    """
    source, target = Path(config.input), Path(config.output)
    _check_folders(config, source, target)
    model, options = check_model(config)
    config = dataclasses.replace(config, options=options)
    listing = _look(config)
    refuse_collisions(listing.items)
    refuse_own_input(listing.items, source, target)
    history = read_history(target / MANIFEST)
    plan = _plan(config, model, history, listing.items)
    refuse_foreign(plan, target)
    if config.dry_run:
        say(plan_text(listing.items, plan, listing.others, listing.unreadable))
        return
    check_report(config)
    with (
        _stopping() as is_stopped,
        BatchManifest(target / MANIFEST) as manifest,
        BatchView((), Console(stderr=True)) as view,
    ):
        watched = _Watch(config, model, history, manifest, view, is_stopped)
        watched.pass_over(listing.items, plan.earlier)
        watched.run()
    watched.tell()


def _check_folders(config: BatchConfig, source: Path, target: Path) -> None:
    """Raise ConfigError if a folder cannot be watched, or what is written would come into it."""
    refuse_suffix(config.suffix)
    if config.cluster is not None:
        raise ConfigError("--cluster does not go with --watch, which restores in this process")
    if not source.is_dir():
        raise ConfigError(f"--watch {source} is no folder")
    if target.is_file():
        raise ConfigError(f"{target} is a file; a folder of photographs needs a folder")
    if target.resolve() == source.resolve():
        raise ConfigError(
            f"--watch {source} would restore what it writes there; choose another folder for "
            "--output, such as one in it"
        )


def _look(config: BatchConfig) -> Listing:
    return look_into(
        Path(config.input),
        recursive=config.recursive,
        suffix=config.suffix,
        target=config.options.format,
        apart_from=Path(config.output),
    )


def _plan(
    config: BatchConfig, model: str, history: History, items: tuple[PhotoItem, ...]
) -> BatchPlan:
    return plan_batch(
        items,
        Path(config.output),
        history,
        model=model,
        options=config.options.digest,
        existing=config.existing,
        origin=origin_of(Path(config.input)),
    )


class _Watch:
    """A folder that is watched, and what has become of each of its photographs."""

    def __init__(
        self,
        config: BatchConfig,
        model: str,
        history: History,
        manifest: BatchManifest,
        view: BatchView,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._config, self._model, self._history = config, model, history
        self._manifest, self._view, self._is_stopped = manifest, view, is_stopped
        self._source, self._target = Path(config.input), Path(config.output)
        self._ignores_case = ignores_case(self._target)
        self._arrivals = Arrivals()
        self._listing = Listing(items=(), others={})
        self._taken = self._places_of_earlier_runs()
        self._earlier: dict[str, PhotoRecord] = {}
        self._skipped: set[str] = set()
        self._records: dict[str, PhotoRecord] = {}
        self._seconds, self._num_left = 0.0, 0

    def _places_of_earlier_runs(self) -> dict[str, str]:
        """Return what was written before and is there, and of which photograph each is."""
        model, options = self._model, self._config.options.digest
        return {
            place_of(record.output, ignores_case=self._ignores_case): record.name
            for record in self._history.records.values()
            if record.state == "done" and (record.model, record.options) == (model, options)
            if self._history.is_latest(record) and (self._target / record.output).exists()
        }

    def pass_over(self, items: Sequence[PhotoItem], earlier: Sequence[PhotoRecord]) -> None:
        """Leave out the photographs that an earlier run has done."""
        self._earlier = {record.name: record for record in earlier}
        self._arrivals.pass_over(item for item in items if item.name in self._earlier)

    def run(self) -> None:
        """Look and restore until a signal comes."""
        self._take()
        restorer = open_restorer(self._config)
        self._view.say(f"watching {self._source}; Ctrl-C ends it")
        self._view.wait()
        while not self._is_stopped():
            begin = time.monotonic()
            due = self._take()
            pause_s = max(_POLL_S, (time.monotonic() - begin) / _LOOKS_SHARE)
            if due:
                self._restore(restorer, due)
            else:
                self._nap(pause_s)

    def tell(self) -> None:
        """Print the summary, and write the page if one is wanted."""
        if num_left := self._num_left + self._arrivals.num_waiting:
            self._view.say(f"{num_left:,} more not begun; the same command goes on with them")
        records = list(self._records.values())
        plan = BatchPlan(
            remaining=(),
            earlier=tuple(self._earlier.values()),
            skipped=tuple(self._skipped),
        )
        summary = summarise(
            self._model,
            plan,
            records,
            self._seconds,
            others=self._listing.others,
            unreadable=self._listing.unreadable,
        )
        everything = [*plan.earlier, *records]
        tell_summary(self._config, summary, everything, self._source, self._target)

    def _take(self) -> tuple[PhotoItem, ...]:
        """Return the photographs of the folder that are due."""
        listing = _look(self._config)
        if listing.unreadable != self._listing.unreadable:
            for name, why in listing.unreadable:
                self._view.say(f"{self._source / name} cannot be looked into: {why}")
        self._listing = listing
        return self._arrivals.take(listing.items, time.monotonic())

    def _restore(self, restorer: Restorer, due: tuple[PhotoItem, ...]) -> None:
        free = tuple(item for item in due if not self._refused(item))
        plan = _plan(self._config, self._model, self._history, free)
        for item in plan.foreign:
            self._fail(item, "would replace a file; --overwrite and --skip-existing say what to do")
        self._skipped |= set(plan.skipped)
        known = {record.key for record in self._records.values()}
        self._earlier |= {record.name: record for record in plan.earlier if record.key not in known}
        items = tuple(filter(None, map(self._opened, plan.remaining)))
        self._view.add(items)
        task = BatchTask(
            config=self._config,
            items=items,
            source=self._source,
            target=self._target,
            has_manifest=True,
            origin=origin_of(self._source),
        )

        def work(task: BatchTask, on_tile: OnItemTile) -> Iterator[PhotoRecord]:
            return restore_files(restorer, task, on_tile=on_tile, is_stopped=self._is_stopped)

        records, seconds = restore_task(task, work, self._manifest, self._view)
        with contextlib.suppress(StorageError):  # which was said; they are needed still
            self._manifest.forget_journals()
        self._num_left += len(items) - len(records)
        self._note(records, seconds)

    def _note(self, records: Sequence[PhotoRecord], seconds: float) -> None:
        self._history = self._history.with_records(records)
        self._seconds += seconds
        for record in records:
            self._earlier.pop(record.name, None)
            self._skipped.discard(record.name)
            self._records[record.name] = record
            if record.state == "failed" and not record.is_lasting:
                self._arrivals.try_again(record.name, time.monotonic())

    def _refused(self, item: PhotoItem) -> bool:
        """Fail a photograph that would be written to another one's place, or over itself."""
        place = place_of(item.output, ignores_case=self._ignores_case)
        other = self._taken.setdefault(place, item.name)
        if other != item.name:
            self._fail(item, f"would be written to {item.output}, which is of {other}")
            return True
        try:
            refuse_own_input([item], self._source, self._target)
        except ConfigError as error:
            self._fail(item, f"is left alone: {error}")
            return True
        return False

    def _fail(self, item: PhotoItem, why: str) -> None:
        self._view.say(f"failed: {item.name} {why}")
        self._earlier.pop(item.name, None)
        self._records[item.name] = PhotoRecord(
            state="failed",
            name=item.name,
            num_bytes=item.num_bytes,
            mtime_ns=item.mtime_ns,
            model=self._model,
            options=self._config.options.digest,
            output=item.output,
            error=why,
        )

    def _opened(self, item: PhotoItem) -> PhotoItem | None:
        """Return a photograph with its pixels known; None if it has changed or gone meanwhile."""
        options = self._config.options
        with contextlib.suppress(ConfigError):
            opened = make_item(self._source, Path(item.name), self._config.suffix, options.format)
            if (opened.num_bytes, opened.mtime_ns) == (item.num_bytes, item.mtime_ns):
                return opened
        return None

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopped() and time.monotonic() < until:
            time.sleep(_NAP_S)


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a signal has asked to end; the second one interrupts."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        asked.append(number)
        for each in _SIGNALS:
            signal.signal(each, signal.default_int_handler)
        with contextlib.suppress(OSError):
            os.write(2, _ENDING)  # what Python buffers may be in the middle of a line

    before = {each: signal.signal(each, ask) for each in _SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
