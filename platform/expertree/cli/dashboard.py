"""Make the dashboard of searches at Weights & Biases.

    expertree dashboard --dry-run
    expertree dashboard project=expertree
    wandb sync runs/search/granularity/tracking/trial-*/wandb/offline-run-*
    expertree dashboard search=runs/search/granularity/tracking

The first prints the dashboard's JSON and needs no account. The others need `wandb login`; the last
makes a sweep of runs that were sent later.
"""

import json
import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb
from expertree.tracking.dashboard import DashboardConfig, dashboard_json, publish

VERB = SettingsVerb(
    name="dashboard",
    text=__doc__ or "",
    cls=DashboardConfig,
    config_name="dashboard",
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, publish, print the addresses and return the exit code."""
    return run_verb(arguments, VERB, _publish)


def _publish(config: DashboardConfig) -> int:
    """Publish the dashboard, or with `--dry-run` print its JSON."""
    if config.dry_run:
        sys.stdout.write(json.dumps(dashboard_json(config), indent=1) + "\n")
        return EXIT_DONE
    dashboard, sweep = publish(config)
    sys.stdout.write(f"dashboard  {dashboard}\n" + (f"sweep      {sweep}\n" if sweep else ""))
    return EXIT_DONE
