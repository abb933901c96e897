"""Run one benchmark; its last line is one JSON object.

expertree bench bench=overhead
expertree bench bench=degrade degrade.size_px=512
expertree bench bench=shard shard.num_patches=5000
expertree bench bench=cluster
expertree bench bench=scale scale.num_rows=[100000,1000000]
expertree bench bench=switch switch.backbone.name=litenaf
expertree bench bench=soak soak.minutes=10
"""

import json
import sys
from collections.abc import Sequence

from expertree.benchmarks.registry import BENCHMARKS, BenchConfig
from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb

VERB = SettingsVerb(
    name="bench",
    text=__doc__ or "",
    cls=BenchConfig,
    config_name="bench",
    values={"bench": tuple(BENCHMARKS)},
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, run the benchmark, print its results and return the exit code."""
    return run_verb(arguments, VERB, _bench)


def _bench(config: BenchConfig) -> int:
    sys.stdout.write(json.dumps(BENCHMARKS[config.bench](config)) + "\n")
    return EXIT_DONE
