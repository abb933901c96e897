"""Write a bundle's experts as files that other tools read, or all of it at half size.

    expertree export runs/demo/bundle -o exported
    expertree export photo-1 -o exported --to onnx --expert 0 --expert 5
    expertree export photo-1 -o ~/.local/share/darktable/models --to darktable --all
    expertree export photo-1 -o exported --to routed
    expertree export runs/demo/bundle -o small --to bundle

Forms of an expert: `safetensors` (weights under the published names), `spandrel` (the same, once
spandrel has opened it: for chaiNNer, ComfyUI and others), `onnx`, `darktable` (a folder that
darktable 5.6 finds) and `torchscript`. What computes is compared with torch before it is written.
An adapter is merged into the root's network. An expert restores what it was trained for; which one
fits a picture is what the routers choose. `routed` is all of it in one ONNX graph, the choice
included; `bundle` is a bundle like the given one, with weights of 16 bits. Ends with 0 if all was
written, 2 if it could not be.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from expertree.cli.codes import EXIT_DONE, EXIT_USAGE
from expertree.errors import ExpertreeError, OptionError
from expertree.restorer import Bundle, find_bundle, open_bundle
from expertree.restorer.compact import write_compact
from expertree.restorer.exports import FORMS, export_expert
from expertree.restorer.exports.routed import export_routed
from expertree.storage import Storage

_WHOLE = ("routed", "bundle")


def main(arguments: Sequence[str]) -> int:
    """Read the command line, write the experts, print their files and return the exit code."""
    given = parser().parse_args(arguments)
    try:
        target = Storage.open(given.output)
        bundle = open_bundle(find_bundle(given.bundle))
        for name, note in _written(bundle, target, given.to, given.expert):
            sys.stdout.write(f"{target.where(name)}  {note}\n")
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    return EXIT_DONE


def _written(
    bundle: Bundle, target: Storage, form: str, chosen: Sequence[int]
) -> Iterator[tuple[str, str]]:
    """Write what is asked for, and yield the name of each file with a note on it."""
    if form in _WHOLE and chosen:
        raise OptionError(f"--to {form} writes all experts; leave --expert out")
    if form == "bundle":
        manifest = write_compact(bundle, target)
        size_mb = sum(entry.num_bytes for entry in manifest.files.values()) / 1e6
        yield "", f"{len(manifest.experts)} experts, {size_mb:.1f} MB"
        return
    if form == "routed":
        yield export_routed(bundle, target)
        return
    experts = bundle.tree.experts()
    if strange := sorted(set(chosen) - set(experts)):
        known = ", ".join(map(str, experts))
        raise OptionError(f"there is no expert {strange[0]}; there are {known}")
    for node in chosen or experts:
        yield export_expert(bundle, node, target, form)


def parser() -> argparse.ArgumentParser:
    """Return the parser of its command line."""
    own = argparse.ArgumentParser(
        prog="expertree export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("bundle", help="a directory, the URI of one, or photo-1")
    own.add_argument(
        "-o", "--output", required=True, metavar="PATH", help="a folder, or the URI of one"
    )
    own.add_argument(
        "--to",
        choices=(*FORMS, *_WHOLE),
        default="safetensors",
        help="the form; safetensors, a file of weights for each expert, is the default",
    )
    which = own.add_mutually_exclusive_group()
    which.add_argument(
        "--expert",
        type=int,
        action="append",
        default=[],
        metavar="NODE",
        help="an expert by its node; may be given several times",
    )
    which.add_argument("--all", action="store_true", help="every expert, which is the default")
    return own
