r"""Measure a bundle on a data set, under the set's protocol.

expertree evaluate bundle=runs/demo/bundle dataset=rain100l root=/data/Rain100L
expertree evaluate bundle=runs/demo/bundle dataset=cbsd68 root=/data/CBSD68 split=noise50 \
    output=runs/demo/cbsd68_noise50.json
"""

import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import run_verb
from expertree.datasets import table_of
from expertree.restorer.on_dataset import EvaluateConfig, evaluate_bundle


def main(arguments: Sequence[str]) -> int:
    """Read the settings, measure, print the table and return the exit code."""
    return run_verb(
        arguments, verb="evaluate", text=__doc__ or "", cls=EvaluateConfig, run=_evaluate
    )


def _evaluate(config: EvaluateConfig) -> int:
    result = evaluate_bundle(config, on_image=_say)
    sys.stdout.write(table_of(result) + "\n")
    return EXIT_DONE


def _say(number: int, total: int, name: str) -> None:
    sys.stderr.write(f"{number}/{total} {name}\n")
