r"""Compare methods at equal cost: trees, one network, networks of other papers.

    expertree compare experiment=compare_demo --dry-run
    expertree compare experiment=compare_demo
    expertree compare experiment=compare_demo 'methods=[tree,one_network,moce_ir,adair]'
    expertree compare photographs.source=/data/photos match=seconds samples=20000 'seeds=[0,1,2]' \
        'methods=[tree,{name: MoCE-IR, backbone: {name: moce_ir_s}}]' output=runs/mine

All networks are trained in one go. Results are stored by the hash of what made them: run it again
after any interruption, or with one method more.
"""

import shlex
import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb
from expertree.comparison.dry_run import describe_comparison
from expertree.comparison.settings import CompareConfig
from expertree.orchestration.compare import run_compare
from expertree.orchestration.compare_on_sets import check

VERB = SettingsVerb(
    name="compare",
    text=__doc__ or "",
    cls=CompareConfig,
    config_name="compare",
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, compare, print the tables and return the exit code."""
    command = f"expertree compare {shlex.join(arguments)}"

    def run(config: CompareConfig) -> int:
        if not config.dry_run:
            return run_compare(config, command)
        check(config)
        sys.stdout.write(describe_comparison(config) + "\n")
        return EXIT_DONE

    return run_verb(arguments, VERB, run)
