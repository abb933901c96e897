"""Write a bundle's experts as files that other tools read, or all of it at half size.

    expertree export runs/demo/bundle -o exported
    expertree export runs/demo/bundle -o exported --expert 0 --expert 5
    expertree export runs/demo/bundle -o small --to bundle

Each expert becomes a file of safetensors under the names of its network's published weights; an
adapter is merged into the root's network. Tools that load models through spandrel (chaiNNer,
ComfyUI and others) take NAFNet, Restormer and Retinexformer from it. An expert restores what it was
trained for: which one fits a picture is what `expertree restore` chooses. `--to bundle` writes a
bundle like the given one, with weights of 16 bits. Ends with 0 if all was written, 2 if nothing
could begin.
"""

import argparse
import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE, EXIT_USAGE
from expertree.errors import ExpertreeError
from expertree.restorer import Bundle, find_bundle, open_bundle
from expertree.restorer.compact import write_compact
from expertree.restorer.export import export_expert
from expertree.storage import Storage


def main(arguments: Sequence[str]) -> int:
    """Read the command line, write the experts, print their files and return the exit code."""
    given = _parser().parse_args(arguments)
    target = Storage.open(given.output)
    try:
        bundle = open_bundle(find_bundle(given.bundle))
        if given.to == "bundle":
            return _compact(bundle, target, alone=bool(given.expert))
        experts = bundle.tree.experts()
        if strange := sorted(set(given.expert) - set(experts)):
            known = ", ".join(map(str, experts))
            sys.stderr.write(f"error: there is no expert {strange[0]}; there are {known}\n")
            return EXIT_USAGE
        for node in given.expert or experts:
            name = export_expert(bundle, node, target)
            sys.stdout.write(f"{target.where(name)}  {bundle.entry(node).backbone}\n")
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    return EXIT_DONE


def _compact(bundle: Bundle, target: Storage, *, alone: bool) -> int:
    if alone:
        sys.stderr.write("error: --to bundle writes all experts; leave --expert out\n")
        return EXIT_USAGE
    manifest = write_compact(bundle, target)
    size_mb = sum(entry.num_bytes for entry in manifest.files.values()) / 1e6
    sys.stdout.write(f"{target.where()}  {len(manifest.experts)} experts, {size_mb:.1f} MB\n")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="expertree export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", help="a directory, or the URI of one")
    parser.add_argument("-o", "--output", required=True, help="a folder, or the URI of one")
    parser.add_argument(
        "--to",
        choices=("safetensors", "bundle"),
        default="safetensors",
        help="a file of weights for each expert, which is the default, or a bundle of 16 bits",
    )
    parser.add_argument(
        "--expert",
        type=int,
        action="append",
        default=[],
        metavar="NODE",
        help="an expert by its node; may be given several times; all of them by default",
    )
    return parser
