"""Build a tree of restoration experts from clean photographs, and report on it.

    python jobs/build_tree.py experiment=demo --dry-run
    python jobs/build_tree.py experiment=demo
    python jobs/build_tree.py photographs.source=/data/photos hierarchy.groups=[1,7,19] \
        experts.num_samples=[400000,100000,100000] output=runs/mine
    ray job submit --working-dir . -- python jobs/build_tree.py experiment=demo
    python jobs/build_tree.py grow.build=runs/mine photographs.source=/data/new output=runs/grown

Results are stored by the hash of what made them: run it again after any interruption.
"""

import sys

import hydra
from omegaconf import DictConfig

from expertree.orchestration.command import prepare_hydra, run_job
from expertree.orchestration.plan import describe_plan
from expertree.orchestration.run import run_build
from expertree.orchestration.settings import BuildConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="build_tree")
def main(config: DictConfig) -> None:
    """Compose the configuration, build, print the results."""
    run_job(config, BuildConfig, build_or_plan)


def build_or_plan(config: BuildConfig) -> int:
    """Build, or with `--dry-run` say what a build would do."""
    if not config.dry_run:
        return run_build(config)
    sys.stdout.write(describe_plan(config) + "\n")
    return 0


if __name__ == "__main__":
    prepare_hydra(BuildConfig(), "build_defaults")
    main()
