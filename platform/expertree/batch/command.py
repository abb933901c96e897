"""Run `expertree restore`: command line, one file or many, summary and exit code."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from rich.console import Console

from expertree.batch.listing import (
    PhotoItem,
    ignores_case,
    list_photographs,
    make_item,
    named_format,
    refuse_collisions,
    refuse_own_input,
    refuse_suffix,
)
from expertree.batch.manifest import MANIFEST, BatchManifest, History, PhotoRecord, read_history
from expertree.batch.page import write_page
from expertree.batch.planning import BatchPlan, plan_batch
from expertree.batch.restoring import (
    BatchTask,
    OnItemTile,
    check_options,
    describe_error,
    open_restorer,
    restore_files,
    restore_photo,
    unexpected_traceback,
    write_restored,
)
from expertree.batch.settings import STANDARD, BatchConfig, RestoreOptions
from expertree.batch.streams import is_stream, read_stream, write_stream
from expertree.batch.summary import plan_text, summarise, summary_json, summary_text
from expertree.batch.view import BatchView, choice_text, printable
from expertree.errors import ConfigError, ExpertreeError
from expertree.images.photo_file import read_photo
from expertree.restorer import find_bundle, read_outline
from expertree.storage import Storage

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 130

RunTask: TypeAlias = Callable[[BatchTask, OnItemTile], Iterator[PhotoRecord]]
"""Function that restores the files of a task, in this process or elsewhere."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _BatchFiles:
    """The files of a batch, their folders, whether a manifest is kept, and what cannot be read."""

    items: tuple[PhotoItem, ...]
    others: dict[str, int]
    source: Path
    target: Path
    options: RestoreOptions
    has_manifest: bool
    unreadable: tuple[tuple[str, str], ...] = ()


def in_this_process(task: BatchTask, on_tile: OnItemTile) -> Iterator[PhotoRecord]:
    """Open the bundle, and restore the files of a task one after the other."""
    return restore_files(open_restorer(task.config), task, on_tile=on_tile)


def run(config: BatchConfig, work: RunTask) -> int:
    """Restore what was asked for, and print a summary.

    Returns:
        The exit code: 0 if all was restored, 1 if some failed, 2 if nothing could begin, 130 if it
        was interrupted.
    """
    try:
        if is_stream(config.input) or is_stream(config.output):
            return _run_stream(config)
        return _run_files(config, work)
    except ExpertreeError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on where it was\n")
        return EXIT_STOPPED


def _run_stream(config: BatchConfig) -> int:
    """Restore one photograph from or to a stream; return the exit code."""
    for name, is_given in {
        "--cluster": config.cluster is not None,
        "--report": config.report is not None,
        "--dry-run": config.dry_run,
        "--json": config.as_json,
    }.items():
        if is_given:
            raise ConfigError(f"{name} does not go with - or a pipe for a file")
    if not is_stream(config.input) and not Path(config.input).is_file():
        raise ConfigError(f"{config.input} is no file")
    config = dataclasses.replace(config, options=_named(config))
    _, options = _check(config)
    restorer = open_restorer(config)
    try:
        data = read_stream(config.input)
        photo = read_photo(data, max_pixels=None)
        restored = restore_photo(restorer, photo, options)
        write_stream(config.output, write_restored(photo, data, restored, options))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - told, with its traceback where it is our fault
        name = "the photograph" if config.input == STANDARD else config.input
        told = f"{unexpected_traceback(error)}failed: {name} {describe_error(error)}\n"
        sys.stderr.write(printable(told))
        return EXIT_FAILED
    what = choice_text(restored.expert, restored.route.level)
    sys.stderr.write(f"{what}, {restored.route.confidence:.0%} sure\n")
    return EXIT_DONE


def _named(config: BatchConfig) -> RestoreOptions:
    """Return the options of a stream's photograph, with the format that its output's name has."""
    if is_stream(config.output):
        return config.options
    path = Path(config.output)
    if path.is_dir() or config.output.endswith("/"):
        raise ConfigError(f"{config.output} is a folder; what comes from a stream needs a file")
    named = named_format(config.output, config.options.format)
    if path.exists() and config.existing != "overwrite":
        raise ConfigError(f"{path} exists; --overwrite replaces it")
    return dataclasses.replace(config.options, format=named or config.options.format)


def _run_files(config: BatchConfig, work: RunTask) -> int:
    files = _find(config)
    config = dataclasses.replace(config, options=files.options)
    refuse_own_input(files.items, files.source, files.target)
    model, options = _check(config)
    config = dataclasses.replace(config, options=options)
    path = files.target / MANIFEST
    history = read_history(path) if files.has_manifest else History(records={}, written={})
    plan = plan_batch(
        files.items,
        files.target,
        history,
        model=model,
        options=options.digest,
        existing=config.existing,
    )
    if config.dry_run:
        _say(plan_text(files.items, plan, files.others, files.unreadable))
        return EXIT_DONE
    _check_report(config)
    task = BatchTask(
        config=config,
        items=plan.remaining,
        source=files.source,
        target=files.target,
        has_manifest=files.has_manifest,
    )
    with contextlib.ExitStack() as stack:
        manifest = None
        if files.has_manifest and plan.remaining:
            manifest = stack.enter_context(BatchManifest(path))
            if ignores_case(files.target):
                refuse_collisions(files.items, ignores_case=True)
        records, seconds = _restore(task, work, manifest)
    return _report(files, config, plan, records, seconds, model)


def _restore(
    task: BatchTask, work: RunTask, manifest: BatchManifest | None
) -> tuple[list[PhotoRecord], float]:
    """Return the record of each file, and the seconds that all of them took."""
    records = []
    with BatchView(task.items, Console(stderr=True)) as view:
        done = work(task, view.tile) if task.items else iter(())
        begin = time.monotonic()
        for record in done:
            if manifest is not None:
                manifest.append(record)
            else:
                sys.stderr.write(printable(record.traceback))
            records.append(dataclasses.replace(record, traceback=""))
            view.done(record)
    return records, time.monotonic() - begin


def _report(
    files: _BatchFiles,
    config: BatchConfig,
    plan: BatchPlan,
    records: Sequence[PhotoRecord],
    seconds: float,
    model: str,
) -> int:
    summary = summarise(
        model, plan, records, seconds, others=files.others, unreadable=files.unreadable
    )
    _say((summary_json if config.as_json else summary_text)(summary))
    is_whole = not summary.failures
    if config.report is not None:
        everything = sorted([*plan.earlier, *records], key=lambda record: record.name)
        try:
            write_page(Path(config.report), summary, everything, files.source, files.target)
        except OSError as error:
            sys.stderr.write(printable(f"{config.report} cannot be written: {error.strerror}\n"))
            is_whole = False
    return EXIT_DONE if is_whole else EXIT_FAILED


def _say(text: str) -> None:
    """Write to standard output, whose reader may be gone."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(printable(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nor may Python fail when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _find(config: BatchConfig) -> _BatchFiles:
    """Find the files of a batch and where they go.

    Raises:
        ConfigError: If there are none, or where they would go makes no sense.
    """
    source, target, options = Path(config.input), Path(config.output), config.options
    refuse_suffix(config.suffix)
    if source.is_dir():
        if target.is_file():
            raise ConfigError(f"{target} is a file; a folder of photographs needs a folder")
        listing = list_photographs(
            source,
            recursive=config.recursive,
            suffix=config.suffix,
            target=options.format,
            apart_from=target,
        )
        return _BatchFiles(
            items=listing.items,
            others=dict(listing.others),
            source=source,
            target=target,
            options=options,
            has_manifest=True,
            unreadable=listing.unreadable,
        )
    item = make_item(source.parent, Path(source.name), config.suffix, options.format)
    named = named_format(config.output, options.format)
    is_file = named is not None
    if is_file:
        options = dataclasses.replace(options, format=named)
        item = dataclasses.replace(item, output=target.name)
    elif target.is_file():
        raise ConfigError(f"{target} is a file, and its name says no format; give a name that does")
    return _BatchFiles(
        items=(item,),
        others={},
        source=source.parent,
        target=target.parent if is_file else target,
        options=options,
        has_manifest=not is_file,
    )


def _check(config: BatchConfig) -> tuple[str, RestoreOptions]:
    """Check that the bundle can do what is asked; experts stay closed.

    Returns:
        The bundle's digest, and the options with their words understood.

    Raises:
        ArtefactError: If the bundle's small files are damaged.
        ConfigError: If the options ask for what it has not, or there is no such kind of device.
    """
    if config.device is not None:
        try:
            device = torch.device(config.device)
            if config.cluster is None:  # whose workers may have what this machine lacks
                torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"--device {config.device} cannot be used here: {reason}") from error
    outline = read_outline(find_bundle(config.bundle))
    return outline.manifest.digest, check_options(outline, config.options)


def _check_report(config: BatchConfig) -> None:
    """Raise StorageError, or ConfigError for a folder, if the report could not be written."""
    if config.report is None:
        return
    path = Path(config.report)
    if path.is_dir():
        raise ConfigError(f"--report {path} is a folder; give a file, such as {path}/report.html")
    if not path.exists():
        Storage.open(path.parent).check_writable()
    elif not os.access(path, os.W_OK):
        raise ConfigError(f"--report {path} cannot be written over")
