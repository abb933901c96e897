r"""Search over trees, and never train the same expert twice.

    expertree search search_space=granularity photographs.source=/data/photos \
        output=runs/search/granularity --dry-run
    expertree search search_space=paper_table8 search.searcher=grid 'search.fractions=[1.0]' \
        experiment=photos output=runs/search/table8
    expertree search search_space=my_space.yaml output=runs/search/mine --budget 20
    expertree build --config-dir runs/search/mine --config-name best

What all trials have in common is given as for `expertree build`. The same command goes on with a
search that was cut off; `optuna-dashboard runs/search/mine/study.journal` looks on while it runs.
"""

import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE, EXIT_INTERRUPTED
from expertree.cli.running import SettingsVerb, run_verb
from expertree.orchestration.search.run import run_search
from expertree.search.estimate import describe_search
from expertree.search.settings import SearchConfig
from expertree.search.space import SPACES
from expertree.search.terminal import search_summary

VERB = SettingsVerb(
    name="search",
    text=__doc__ or "",
    cls=SearchConfig,
    config_name="search",
    values={"search_space": sorted(path.stem for path in SPACES.glob("*.yaml"))},
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, search, print a summary and return the exit code."""
    return run_verb(arguments, VERB, _search_or_plan)


def _search_or_plan(config: SearchConfig) -> int:
    if config.dry_run:
        sys.stdout.write(describe_search(config, SPACES) + "\n")
        return EXIT_DONE
    try:
        record = run_search(config, SPACES)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the search\n")
        return EXIT_INTERRUPTED
    sys.stdout.write(search_summary(record, colour=sys.stdout.isatty()) + "\n")
    return EXIT_DONE
