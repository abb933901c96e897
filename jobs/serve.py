"""Serve a bundle over HTTP on this machine, or on a cluster that is running.

python jobs/serve.py bundle=runs/demo/bundle
python jobs/serve.py bundle=runs/other/bundle update=true address=127.0.0.1:6379
python jobs/serve.py bundle=s3://models/bundle address=auto gateway.max_replicas=4 \
    'pools=[{max_replicas: 8, num_cpus: 2}]'
"""

import contextlib
import signal
import sys
import threading

import hydra
from omegaconf import DictConfig

from expertree.orchestration.command import prepare_hydra, run_job
from expertree.orchestration.serving import serving, update_running
from expertree.orchestration.serving_settings import ServeConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="serve")
def main(config: DictConfig) -> None:
    """Compose the configuration, serve until interrupted."""
    run_job(config, ServeConfig, run)


def run(config: ServeConfig) -> int:
    """Serve, or with `update=true` hand a bundle to what is served already."""
    if config.update:
        status = update_running(config)
        sys.stdout.write(f"{status.problem or f'{status.serving} is served'}\n")
        return 0 if status.problem is None else 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(config) as running:
        sys.stdout.write(
            f"{config.bundle} is served at {running.url}; Ctrl-C ends it\n"
            f"another one: make serve BUNDLE=... SERVE='update=true address={running.address}'\n"
        )
        sys.stdout.flush()
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    prepare_hydra(ServeConfig(), "serve_defaults")
    main()
