"""A tracker at Weights & Biases, and its sweeps; the only module that imports `wandb`."""

import contextlib
import io
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import wandb
from PIL import Image
from wandb.errors import AuthenticationError
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth
from wandb.util import get_core_path

from expertree.errors import ConfigError
from expertree.tracking.tracker import Gate, RunIdentity, TrackingConfig

STEP = "step"


class WandbTracker:
    """A tracker of one W&B run, whose axis is a metric, so that steps may repeat or come late."""

    def __init__(self, identity: RunIdentity, directory: Path, config: TrackingConfig) -> None:
        """Begin a run.

        Args:
            identity: Name, id, group, sweep and config of the run.
            directory: Gets the folder `wandb` with the run's files.
            config: Project and mode.
        """
        self._gate = Gate(identity.name)
        directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=config.project,
            name=identity.name,
            id=identity.id or None,
            # Offline W&B begins a run of the same id; `wandb sync` puts them together.
            resume="allow" if identity.id and config.mode == "online" else None,
            group=identity.group or None,
            dir=directory,
            config=dict(identity.config),
            mode=cast("Literal['offline', 'online']", config.mode),
            # Several runs in one process do not end one another.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, sweep_id=identity.sweep or None
            ),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars of a step to the W&B run."""
        self._run.log({STEP: step, **self._gate.scalars(step, scalars)})

    def image(self, step: int, name: str, png: bytes) -> None:
        """Log an image to the W&B run."""
        with Image.open(io.BytesIO(self._gate.png(step, name, png))) as picture:
            self._run.log({STEP: step, name: wandb.Image(picture, file_type="png")})

    def finish(self, error: str = "") -> None:
        """Close the W&B run, with the error as its note; later calls do nothing."""
        if self._gate.close():
            if error:
                self._run.notes = error
            self._run.finish(exit_code=int(bool(error)))


def check_key() -> None:
    """Raise `ConfigError` unless there is an API key for W&B's server.

    Without a key W&B would ask for one on a terminal, or fail much later.

    Raises:
        ConfigError: If there is no key, or the one that was found cannot be valid.
    """
    host = wandb_setup.singleton().settings.base_url
    try:
        found = wbauth.authenticate_session(
            host=host, source="expertree", prompt=False, update_session=False
        )
    except AuthenticationError as error:
        raise ConfigError(
            f"tracking.mode=online: the API key for {host} is none: {error}"
        ) from None
    if found is None:
        raise ConfigError(
            f"tracking.mode is 'online', but this machine has no API key for {host}; run `wandb "
            "login` or set WANDB_API_KEY, or leave tracking.mode=offline and send the runs later"
        )


def create_sweep(
    config: TrackingConfig,
    name: str,
    parameters: Mapping[str, Mapping[str, Any]],
    runs: Sequence[str] = (),
    *,
    entity: str | None = None,
) -> str:
    """Make a sweep at W&B's server whose trials W&B does not choose.

    Args:
        config: Settings with the project.
        name: Name for people.
        parameters: Searched parameters by name: `values`, or `min` and `max`.
        runs: Ids of runs that are at the server already and join the sweep.
        entity: User or team that owns the project; by default the one that W&B has set, or that
            the API key belongs to.

    Returns:
        The sweep's id.
    """
    sweep = {
        "name": name,
        # W&B proposes nothing: the search does, and W&B shows it.
        "method": "custom",
        "controller": {"type": "local"},
        "parameters": {key: dict(spread) for key, spread in parameters.items()},
    }
    # It tells of the new sweep on standard output, where our results go.
    with contextlib.redirect_stdout(io.StringIO()):
        found = wandb.sweep(sweep, entity=entity, project=config.project, prior_runs=list(runs))
        return str(found)


def default_entity() -> str:
    """Return the user or team that the API key belongs to."""
    return str(wandb.Api().default_entity)


def is_finished(directory: Path) -> bool:
    """Return whether the newest file of the run in a directory is complete, up to the run's end."""
    files = directory.glob("wandb/*run-*/*.wandb")
    # Folders are called offline-run-<time>-<id> and run-<time>-<id>.
    newest = max(files, key=lambda file: file.parent.name.removeprefix("offline-"), default=None)
    return newest is not None and _has_end(newest)


def _has_end(file: Path) -> bool:
    # What `wandb leet inspect` calls, without the second that it takes to start.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    told = subprocess.run(  # noqa: S603 - W&B's own program and our own path
        [*command, "--run-file", str(file), str(file.parent.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    return any('"type":"exit"' in line for line in told.stdout.splitlines())
