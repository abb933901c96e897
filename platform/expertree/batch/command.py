"""Run `expertree restore`: command line, one file or many, summary and exit code."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from expertree.batch.checking import check_model, check_report, refuse_uris
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
from expertree.batch.manifest import (
    MANIFEST,
    BatchManifest,
    History,
    PhotoRecord,
    origin_of,
    read_history,
)
from expertree.batch.planning import plan_batch, refuse_foreign
from expertree.batch.restoring import (
    BatchTask,
    OnItemTile,
    describe_error,
    open_restorer,
    restore_files,
    restore_photo,
    unexpected_traceback,
    write_restored,
)
from expertree.batch.running import RunTask, restore_task
from expertree.batch.settings import STANDARD, BatchConfig, RestoreOptions
from expertree.batch.streams import is_stream, read_stream, write_stream
from expertree.batch.summary import plan_text, summarise
from expertree.batch.telling import say, tell_summary
from expertree.batch.view import BatchView, choice_text, printable
from expertree.batch.watching import watch
from expertree.errors import ConfigError, ExpertreeError
from expertree.images.photo_file import read_photo

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _BatchFiles:
    """The files of a batch, their folders, what the manifest says, and what cannot be read.

    A photograph that goes to one named file has no manifest, and hence no history.
    """

    items: tuple[PhotoItem, ...]
    others: dict[str, int]
    source: Path
    target: Path
    options: RestoreOptions
    history: History | None
    unreadable: tuple[tuple[str, str], ...] = ()


def in_this_process(task: BatchTask, on_tile: OnItemTile) -> Iterator[PhotoRecord]:
    """Open the bundle, and restore the files of a task one after the other."""
    return restore_files(open_restorer(task.config), task, on_tile=on_tile)


def run(config: BatchConfig, work: RunTask) -> int:
    """Restore what was asked for, and print a summary.

    Returns:
        The exit code: 0 if all was restored or a signal ended the watching of a folder, 1 if some
        failed, 2 if nothing could begin, 130 if it was interrupted.
    """
    try:
        refuse_uris(config)
        if is_stream(config.input) or is_stream(config.output):
            return _run_stream(config)
        if config.watch:
            watch(config)
            return EXIT_DONE
        return _run_files(config, work)
    except BrokenPipeError:  # nobody reads what is said
        raise
    except (ExpertreeError, OSError) as error:
        sys.stderr.write(f"error: {printable(_sentence(error))}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on where it was\n")
        return EXIT_STOPPED


def _sentence(error: ExpertreeError | OSError) -> str:
    """Return an error's message; of what the system says of a path, that path and the reason."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read: {error.strerror}"
    return str(error)


def _run_stream(config: BatchConfig) -> int:
    """Restore one photograph from or to a stream; return the exit code."""
    for name, is_given in {
        "--cluster": config.cluster is not None,
        "--report": config.report is not None,
        "--dry-run": config.dry_run,
        "--json": config.as_json,
        "--watch": config.watch,
    }.items():
        if is_given:
            raise ConfigError(f"{name} does not go with - or a pipe for a file")
    if not is_stream(config.input) and not Path(config.input).is_file():
        raise ConfigError(f"{config.input} is no file")
    config = dataclasses.replace(config, options=_named(config))
    _, options = check_model(config)
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
    model, options = check_model(config)
    config = dataclasses.replace(config, options=options)
    plan = plan_batch(
        files.items,
        files.target,
        files.history or History(records={}, written={}),
        model=model,
        options=options.digest,
        existing=config.existing,
        origin=origin_of(files.source),
    )
    refuse_foreign(plan, files.target)
    if config.dry_run:
        say(plan_text(files.items, plan, files.others, files.unreadable))
        return EXIT_DONE
    check_report(config)
    task = BatchTask(
        config=config,
        items=plan.remaining,
        source=files.source,
        target=files.target,
        has_manifest=files.history is not None,
        origin=origin_of(files.source),
    )
    with contextlib.ExitStack() as stack:
        manifest = None
        if task.has_manifest and plan.remaining:
            manifest = stack.enter_context(BatchManifest(files.target / MANIFEST))
            if ignores_case(files.target):
                refuse_collisions(files.items, ignores_case=True)
        view = stack.enter_context(BatchView(task.items, Console(stderr=True)))
        records, seconds = restore_task(task, work, manifest, view)
    summary = summarise(
        model, plan, records, seconds, others=files.others, unreadable=files.unreadable
    )
    everything = [*plan.earlier, *records]
    is_whole = tell_summary(config, summary, everything, files.source, files.target)
    return EXIT_DONE if is_whole else EXIT_FAILED


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
        history = read_history(target / MANIFEST)
        listing = list_photographs(
            source,
            recursive=config.recursive,
            suffix=config.suffix,
            target=options.format,
            apart_from=target,
            results=history.outputs if target.resolve() == source.resolve() else (),
        )
        return _BatchFiles(
            items=listing.items,
            others=dict(listing.others),
            source=source,
            target=target,
            options=options,
            history=history,
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
        history=None if is_file else read_history(target / MANIFEST),
    )
