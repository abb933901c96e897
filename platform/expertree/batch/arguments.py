"""Read the command line of `expertree restore`."""

import argparse
from collections.abc import Sequence
from typing import get_args

from expertree.batch.settings import BatchConfig, Dtype, RestoreOptions
from expertree.images.containers import PHOTO_FORMATS
from expertree.restorer.engines import EngineName
from expertree.routing import AUTOMATIC, TilePx, Wish

_INSTRUCTION = "what is wrong, by names (rain,noise), or in words if the model takes them"

_INPUT = "a photograph, a folder, or - for standard input"
_OUTPUT = "a file, a folder, or - for standard output"
_WATCH = "restore what is in a folder and then what comes into it, until Ctrl-C"

_ALIASES = {"jpg": "jpeg", "tif": "tiff", "heif": "heic"}


def parse(arguments: Sequence[str], *, program: str, description: str) -> BatchConfig:
    """Read a command line; a wrong one ends the process with code 2.

    Args:
        arguments: Arguments, without the program's name.
        program: Name of the program, for `--help` and errors.
        description: What the program does, for `--help`.
    """
    parser = make_parser(program, description)
    given = parser.parse_args(arguments)
    try:
        wish = Wish(
            level=given.level,
            expert=given.expert,
            words=", ".join(given.instruction),
            confidence=given.confidence,
            insist=given.insist,
            strength=given.strength,
            tile_px=given.tile,
        )
    except ValueError as error:
        parser.error(str(error))
    return BatchConfig(
        input=given.input if given.watch is None else given.watch,
        output=given.output,
        watch=given.watch is not None,
        recursive=given.recursive,
        suffix=given.suffix,
        existing=given.existing,
        bundle=given.bundle,
        device=given.device,
        engine=given.engine,
        cluster=given.cluster,
        report=given.report,
        as_json=given.json,
        dry_run=given.dry_run,
        preserve=not given.no_preserve,
        options=RestoreOptions(
            wish=wish,
            overlap_px=given.overlap,
            route_tiles=given.route_tiles,
            dtype=given.dtype,
            format=given.format,
            quality=given.quality,
        ),
    )


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of the command line; see `parse`."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options, batch = RestoreOptions(), BatchConfig(input="", output="")
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-i", "--input", metavar="PATH", help=_INPUT)
    source.add_argument("--watch", metavar="FOLDER", help=_WATCH)
    add("-o", "--output", required=True, metavar="PATH", help=_OUTPUT)
    add("-r", "--recursive", action="store_true", help="folders in the folder too, mirrored")
    add("--bundle", default=batch.bundle, metavar="PATH", help="the model (default: %(default)s)")
    add("--device", help="where it runs (default: a GPU if there is one)")
    add("--engine", choices=get_args(EngineName), default=batch.engine, help="what computes")
    add("--cluster", nargs="?", const="auto", metavar="ADDRESS", help="restore on a Ray cluster")
    add("--level", type=int, help="take this level of the tree; 0 is the root's")
    add("--expert", type=int, help="take this expert, by its node")
    add("--instruction", action="append", default=[], metavar="TEXT", help=_INSTRUCTION)
    add("--confidence", type=int, choices=(0, 1, 2), help="how sure that is; picks the level")
    add("--insist", action="store_true", help="restore even what is better left as it is")
    add("--strength", type=float, default=AUTOMATIC.strength, help="of restoring, 0 to 1")
    add("-t", "--tile", type=_tile, default=AUTOMATIC.tile_px, help="auto, a size in pixels, or 0")
    add("--overlap", type=int, default=options.overlap_px, metavar="PX", help="of tiles")
    add("--route-tiles", action="store_true", help="an expert for each tile; writes the map too")
    add("--dtype", choices=get_args(Dtype), default=options.dtype, help="what experts compute in")
    add("--format", type=_format, choices=PHOTO_FORMATS, help="of the output")
    add("--quality", type=int, help="of JPEG, WebP, AVIF and HEIC, 1 to 100")
    add("--suffix", default=batch.suffix, help="put behind each name")
    add(
        "--no-preserve", action="store_true", help="new times and permissions, not the photograph's"
    )
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


def _format(text: str) -> str:
    """Return the name of a format that people call by one of its suffixes."""
    return _ALIASES.get(text.lower(), text.lower())
