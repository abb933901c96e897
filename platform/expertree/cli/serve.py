r"""Serve a bundle over HTTP on this machine, or on a cluster that is running.

expertree serve
expertree serve bundle=runs/demo/bundle
expertree serve bundle=runs/other/bundle update=true address=127.0.0.1:6379
expertree serve bundle=s3://models/bundle address=auto gateway.max_replicas=4 \
    'pools=[{max_replicas: 8, num_cpus: 2}]'
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE, EXIT_FAILED
from expertree.cli.running import SettingsVerb, run_verb
from expertree.orchestration.cluster import token_settings
from expertree.orchestration.serving.app import serving, update_running
from expertree.serving.deployments import ServeConfig

VERB = SettingsVerb(
    name="serve",
    text=__doc__ or "",
    cls=ServeConfig,
    config_name="serve",
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, serve until SIGINT or SIGTERM, and return the exit code."""
    return run_verb(arguments, VERB, _serve)


def _serve(config: ServeConfig) -> int:
    """Serve a bundle, or with `update=true` give it to the application that runs already."""
    if config.update:
        status = update_running(config)
        sys.stdout.write(f"{status.problem or f'{status.serving} is served'}\n")
        return EXIT_DONE if status.problem is None else EXIT_FAILED
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(config) as running:
        command = f"expertree serve bundle=... update=true address={running.address}"
        sys.stdout.write(
            f"{config.bundle} is served at {running.url}; Ctrl-C ends it\n"
            f"another one: {f'{token_settings()} {command}'.lstrip()}\n"
        )
        sys.stdout.flush()
        threading.Event().wait()
    return EXIT_DONE
