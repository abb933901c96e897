"""The dashboard of searches at Weights & Biases, and a sweep of runs that were sent there later.

    python jobs/dashboard.py --dry-run
    python jobs/dashboard.py project=expertree
    wandb sync runs/search/granularity/tracking/trial-*/wandb/offline-run-*
    python jobs/dashboard.py search=runs/search/granularity/tracking

The first prints the dashboard's JSON and needs no account. The others need `wandb login`.
"""

import json
import sys

import hydra
from omegaconf import DictConfig

from expertree.orchestration.command import prepare_hydra, run_job
from expertree.tracking.dashboard import DashboardConfig, dashboard_json, publish


@hydra.main(version_base="1.3", config_path="conf", config_name="dashboard")
def main(config: DictConfig) -> None:
    """Compose the configuration, publish, print the addresses."""
    run_job(config, DashboardConfig, run)


def run(config: DashboardConfig) -> int:
    """Publish, or with `--dry-run` print what would be."""
    if config.dry_run:
        sys.stdout.write(json.dumps(dashboard_json(config), indent=1) + "\n")
        return 0
    dashboard, sweep = publish(config)
    sys.stdout.write(f"dashboard  {dashboard}\n" + (f"sweep      {sweep}\n" if sweep else ""))
    return 0


if __name__ == "__main__":
    prepare_hydra(DashboardConfig(), "dashboard_defaults")
    main()
