"""Search over trees, and never train the same expert twice.

    python jobs/search.py search_space=granularity photographs.source=/data/photos \
        output=runs/search/granularity --dry-run
    python jobs/search.py search_space=paper_table8 search.searcher=grid 'search.fractions=[1.0]' \
        experiment=photos output=runs/search/table8
    python jobs/search.py search_space=my_space.yaml output=runs/search/mine --budget 20
    python jobs/build_tree.py --config-dir runs/search/mine --config-name best

What all trials have in common is given as for `build_tree.py`. The same command goes on with a
search that was cut off; `optuna-dashboard runs/search/mine/study.journal` looks on while it runs.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from expertree.orchestration.command import prepare_hydra, run_job
from expertree.orchestration.search_estimate import describe_search
from expertree.orchestration.search_run import run_search
from expertree.orchestration.search_settings import SearchConfig
from expertree.report.search_terminal import search_summary

SPACES = Path(__file__).resolve().parents[1] / "search_spaces"


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(config: DictConfig) -> None:
    """Compose the configuration, search, print what came of it."""
    run_job(config, SearchConfig, search_or_plan)


def search_or_plan(config: SearchConfig) -> int:
    """Search, or with `--dry-run` say what a search would train."""
    if config.dry_run:
        sys.stdout.write(describe_search(config, SPACES) + "\n")
        return 0
    record = run_search(config, SPACES)
    sys.stdout.write(search_summary(record, colour=sys.stdout.isatty()) + "\n")
    return 0


if __name__ == "__main__":
    prepare_hydra(SearchConfig(), "search_defaults")
    main()
