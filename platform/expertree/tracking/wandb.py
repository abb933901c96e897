"""A tracker on Weights & Biases; the only file that knows it."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import wandb
from PIL import Image

from expertree.tracking.tracker import Gate, RunIdentity, TrackingConfig

STEP = "step"


class WandbTracker:
    """One W&B run. Its axis is a metric of ours, so that steps may repeat or come late."""

    def __init__(self, identity: RunIdentity, directory: Path, config: TrackingConfig) -> None:
        """Begin a run.

        Args:
            identity: Name, group and config.
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
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log({STEP: step, **self._gate.scalars(step, scalars)})

    def image(self, step: int, name: str, png: bytes) -> None:
        """See `Tracker`."""
        with Image.open(io.BytesIO(self._gate.png(step, name, png))) as picture:
            self._run.log({STEP: step, name: wandb.Image(picture, file_type="png")})

    def finish(self) -> None:
        """See `Tracker`."""
        if self._gate.close():
            self._run.finish()
