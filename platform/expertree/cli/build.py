r"""Build a tree of restoration experts from clean photographs, and report on it.

    expertree build experiment=demo --dry-run
    expertree build experiment=demo
    expertree build photographs.source=/data/photos hierarchy.groups=[1,7,19] \
        experts.num_samples=[400000,100000,100000] output=runs/mine
    expertree build grow.build=runs/mine photographs.source=/data/new output=runs/grown
    expertree build finetune.bundle=photo-1 photographs.source=/data/photos output=runs/ours

Results are stored by the hash of what made them: run it again after any interruption.
"""

import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb
from expertree.orchestration.run import run_build
from expertree.pipeline.dry_run import describe_plan
from expertree.pipeline.settings import BuildConfig

VERB = SettingsVerb(
    name="build",
    text=__doc__ or "",
    cls=BuildConfig,
    config_name="build_tree",
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, build, print the results and return the exit code."""
    return run_verb(arguments, VERB, _build_or_plan)


def _build_or_plan(config: BuildConfig) -> int:
    if not config.dry_run:
        return run_build(config)
    sys.stdout.write(describe_plan(config) + "\n")
    return EXIT_DONE
