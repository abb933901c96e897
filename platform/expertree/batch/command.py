"""Run `expertree restore`: command line, one file or many, summary and exit code."""

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, get_args

import torch
from rich.console import Console

from expertree.batch.listing import (
    SUFFIXES,
    PhotoItem,
    list_photographs,
    make_item,
    refuse_own_input,
)
from expertree.batch.manifest import MANIFEST, BatchManifest, History, PhotoRecord, read_history
from expertree.batch.page import write_page
from expertree.batch.planning import BatchPlan, plan_batch
from expertree.batch.restoring import (
    OnItemTile,
    check_options,
    describe_error,
    open_restorer,
    restore_files,
    restore_photo,
    unexpected_traceback,
    write_restored,
)
from expertree.batch.settings import STANDARD, BatchConfig, Dtype, ExistingPolicy, RestoreOptions
from expertree.batch.summary import plan_text, summarise, summary_json, summary_text
from expertree.batch.view import BatchView, choice_text, printable
from expertree.errors import ConfigError, ExpertreeError
from expertree.images.containers import PHOTO_FORMATS, PhotoFormat
from expertree.images.photo_file import read_photo
from expertree.restorer import find_bundle, read_outline
from expertree.routing import AUTOMATIC, TilePx, Wish
from expertree.storage import Storage

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 130

_ALIASES = {"jpg": "jpeg", "tif": "tiff"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchTask:
    """The files of a batch that are left to restore.

    Attributes:
        config: Settings of the batch, the bundle's place among them.
        items: The files.
        source: The folder that their names are relative to.
        target: The folder that their outputs are relative to.
    """

    config: BatchConfig
    items: tuple[PhotoItem, ...]
    source: Path
    target: Path


RunTask: TypeAlias = Callable[[BatchTask, OnItemTile], Iterator[PhotoRecord]]
"""Function that restores the files of a task, in this process or elsewhere."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _BatchFiles:
    """The files of a batch, their folders, and whether a manifest is kept."""

    items: tuple[PhotoItem, ...]
    others: dict[str, int]
    source: Path
    target: Path
    options: RestoreOptions
    has_manifest: bool


def in_this_process(task: BatchTask, on_tile: OnItemTile) -> Iterator[PhotoRecord]:
    """Open the bundle, and restore the files of a task one after the other."""
    return restore_files(
        open_restorer(task.config),
        task.items,
        task.source,
        task.target,
        task.config.options,
        on_tile=on_tile,
    )


def run(config: BatchConfig, work: RunTask) -> int:
    """Restore what was asked for, and print a summary.

    Returns:
        The exit code: 0 if all was restored, 1 if some failed, 2 if nothing could begin, 130 if it
        was interrupted.
    """
    try:
        if STANDARD in {config.input, config.output}:
            return _run_stream(config)
        return _run_files(config, work)
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on where it was\n")
        return EXIT_STOPPED


def parse(arguments: Sequence[str], *, program: str, description: str) -> BatchConfig:
    """Read a command line; a wrong one ends the process with code 2.

    Args:
        arguments: Arguments, without the program's name.
        program: Name of the program, for `--help` and errors.
        description: What the program does, for `--help`.
    """
    parser = _parser(program, description)
    given = parser.parse_args(arguments)
    names = [name.strip() for text in given.instruction for name in text.split(",")]
    try:
        wish = Wish(
            level=given.level,
            expert=given.expert,
            instruction=tuple(name for name in names if name),
            confidence=given.confidence,
            insist=given.insist,
            strength=given.strength,
            tile_px=given.tile,
        )
    except ValueError as error:
        parser.error(str(error))
    return BatchConfig(
        input=given.input,
        output=given.output,
        recursive=given.recursive,
        suffix=given.suffix,
        existing=given.existing,
        bundle=given.bundle,
        device=given.device,
        cluster=given.cluster,
        report=given.report,
        as_json=given.json,
        dry_run=given.dry_run,
        options=RestoreOptions(
            wish=wish,
            overlap_px=given.overlap,
            route_tiles=given.route_tiles,
            dtype=given.dtype,
            format=given.format,
            quality=given.quality,
        ),
    )


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options, batch = RestoreOptions(), BatchConfig(input="", output="")
    add = parser.add_argument
    add("-i", "--input", required=True, help="a photograph, a folder, or - for standard input")
    add("-o", "--output", required=True, help="a file, a folder, or - for standard output")
    add("-r", "--recursive", action="store_true", help="folders in the folder too, mirrored")
    add("--bundle", default=batch.bundle, help="the model (default: %(default)s)")
    add("--device", help="where it runs (default: a GPU if there is one)")
    add("--cluster", nargs="?", const="auto", metavar="ADDRESS", help="restore on a Ray cluster")
    add("--level", type=int, help="take this level of the tree; 0 is the root's")
    add("--expert", type=int, help="take this expert, by its node")
    add("--instruction", action="append", default=[], metavar="NAMES", help="what is wrong: rain,…")
    add("--confidence", type=int, choices=(0, 1, 2), help="how sure that is; picks the level")
    add("--insist", action="store_true", help="restore even what is better left as it is")
    add("--strength", type=float, default=AUTOMATIC.strength, help="of restoring, 0 to 1")
    add("-t", "--tile", type=_tile, default=AUTOMATIC.tile_px, help="auto, a size in pixels, or 0")
    add("--overlap", type=int, default=options.overlap_px, metavar="PX", help="of tiles")
    add("--route-tiles", action="store_true", help="an expert for each tile; writes the map too")
    add("--dtype", choices=get_args(Dtype), default=options.dtype, help="what experts compute in")
    add("--format", type=_format, metavar="KIND", help=f"output: {', '.join(PHOTO_FORMATS)}")
    add("--quality", type=int, help="of JPEG, WebP and AVIF, 1 to 100")
    add("--suffix", default=batch.suffix, help="put behind each name")
    existing = parser.add_mutually_exclusive_group()
    for flag, value, meaning in (
        ("--skip-existing", "skip", "leave alone what is there already"),
        ("--overwrite", "overwrite", "replace what is there already"),
    ):
        existing.add_argument(
            flag, dest="existing", action="store_const", const=value, help=meaning
        )
    parser.set_defaults(existing=batch.existing)
    add("--dry-run", action="store_true", help="say what would be done")
    add("--json", action="store_true", help="the summary as JSON")
    add("--report", metavar="FILE", help="an HTML page with photographs before and after")
    return parser


def _tile(text: str) -> TilePx:
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is neither auto nor a number of pixels")
    return int(text)


def _format(text: str) -> PhotoFormat:
    name = _ALIASES.get(text.lower(), text.lower())
    for known in PHOTO_FORMATS:
        if name == known:
            return known
    raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(PHOTO_FORMATS)}")


def _run_stream(config: BatchConfig) -> int:
    """Restore one photograph from or to a standard stream; return the exit code."""
    for name, is_given in {
        "--cluster": config.cluster is not None,
        "--report": config.report is not None,
        "--dry-run": config.dry_run,
        "--json": config.as_json,
    }.items():
        if is_given:
            raise ConfigError(f"{name} does not go with - for a file")
    if config.input != STANDARD and not Path(config.input).is_file():
        raise ConfigError(f"{config.input} is no file")
    if config.output != STANDARD:
        _refuse_existing(Path(config.output), config.existing)
    options = config.options
    _check(config)
    restorer = open_restorer(config)
    if config.output != STANDARD and options.format is None:
        options = dataclasses.replace(options, format=SUFFIXES.get(Path(config.output).suffix))
    try:
        is_standard = config.input == STANDARD
        data = sys.stdin.buffer.read() if is_standard else Path(config.input).read_bytes()
        photo = read_photo(data, max_pixels=None)
        restored = restore_photo(restorer, photo, options)
        written = write_restored(photo, data, restored, options)
        if config.output == STANDARD:
            sys.stdout.buffer.write(written)
            sys.stdout.buffer.flush()
        else:
            path = Path(config.output).absolute()
            Storage.open(path.parent).write_bytes(path.name, written)
    except Exception as error:  # noqa: BLE001 - told, with its traceback where it is our fault
        name = "the photograph" if config.input == STANDARD else config.input
        sys.stderr.write(f"{unexpected_traceback(error)}failed: {name} {describe_error(error)}\n")
        return EXIT_FAILED
    what = choice_text(restored.expert, restored.route.level)
    sys.stderr.write(f"{what}, {restored.route.confidence:.0%} sure\n")
    return EXIT_DONE


def _run_files(config: BatchConfig, work: RunTask) -> int:
    files = _find(config)
    config = dataclasses.replace(config, options=files.options)
    refuse_own_input(files.items, files.source, files.target)
    model, options = _check(config), config.options.digest
    path = files.target / MANIFEST
    history = read_history(path) if files.has_manifest else History(records={}, begun_ns={})
    plan = plan_batch(
        files.items,
        files.target,
        history,
        model=model,
        options=options,
        existing=config.existing,
    )
    if config.dry_run:
        _say(plan_text(files.items, plan, files.others))
        return EXIT_DONE
    task = BatchTask(
        config=config,
        items=plan.remaining,
        source=files.source,
        target=files.target,
    )
    with contextlib.ExitStack() as stack:
        manifest = None
        if files.has_manifest and plan.remaining:
            manifest = stack.enter_context(BatchManifest(path))
        records, seconds = _restore(task, work, manifest, model)
    return _report(files, config, plan, records, seconds, model)


def _restore(
    task: BatchTask, work: RunTask, manifest: BatchManifest | None, model: str
) -> tuple[list[PhotoRecord], float]:
    """Return the record of each file, and the seconds that all of them took."""
    records = []
    with BatchView(task.items, Console(stderr=True)) as view:
        done = work(task, view.tile) if task.items else iter(())
        if manifest is not None:  # only now: without a bundle that opens nothing has begun
            manifest.begin(model, task.config.options.digest)
        begin = time.monotonic()
        for record in done:
            if manifest is not None:
                manifest.append(record)
            else:
                sys.stderr.write(record.traceback)
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
    summary = summarise(model, plan, records, seconds)
    _say((summary_json if config.as_json else summary_text)(summary))
    if config.report is not None:
        everything = sorted([*plan.earlier, *records], key=lambda record: record.name)
        write_page(Path(config.report), summary, everything, files.source, files.target)
    return EXIT_FAILED if summary.failures else EXIT_DONE


def _say(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def _find(config: BatchConfig) -> _BatchFiles:
    """Find the files of a batch and where they go.

    Raises:
        ConfigError: If there are none, or where they would go makes no sense.
    """
    source, target, options = Path(config.input), Path(config.output), config.options
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
        )
    item = make_item(source.parent, Path(source.name), config.suffix, options.format)
    named = SUFFIXES.get(target.suffix.lower())
    is_file = named is not None and not target.is_dir()
    if is_file:
        if options.format not in {None, named}:
            raise ConfigError(f"--format {options.format} and {target.name} do not go together")
        options = dataclasses.replace(options, format=named)
        item = dataclasses.replace(item, output=target.name)
    return _BatchFiles(
        items=(item,),
        others={},
        source=source.parent,
        target=target.parent if is_file else target,
        options=options,
        has_manifest=not is_file,
    )


def _check(config: BatchConfig) -> str:
    """Check that the bundle can do what is asked, and return its digest; experts stay closed.

    Raises:
        ArtefactError: If the bundle's small files are damaged.
        ConfigError: If the options ask for what it has not, or there is no such kind of device.
    """
    if config.device is not None:
        try:
            torch.device(config.device)
        except RuntimeError as error:
            raise ConfigError(f"--device {config.device}: {error}") from error
    outline = read_outline(find_bundle(config.bundle))
    check_options(outline, config.options)
    return outline.manifest.digest


def _refuse_existing(path: Path, existing: ExistingPolicy) -> None:
    if path.exists() and existing != "overwrite":
        raise ConfigError(f"{path} exists; --overwrite replaces it")
