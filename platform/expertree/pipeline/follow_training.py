"""Reports an expert's training to a tracker: scalars, pictures and what it was made from."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from expertree.errors import ConfigError
from expertree.experts import PairedPatches
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png, to_float, to_u8
from expertree.storage import Storage
from expertree.tracking import RunIdentity, Tracker, TrackingConfig, check_tracking, open_tracker

FOLDER = "tracking"

SCALARS = ("loss", "learning_rate", "samples_per_s", "waited_share")
"""The values of a training's progress that are recorded."""

_NUM_PICTURED = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """The description of an expert's tracked run, which a lane opens.

    Attributes:
        config: Settings of tracking, such as the backend.
        identity: Name, id and group of the run.
        directory: Folder of this run alone, which every node can write.
    """

    config: TrackingConfig
    identity: RunIdentity
    directory: str

    def open(self) -> Tracker:
        """Begin the run, or go on with it."""
        return open_tracker(self.config, self.identity, Path(self.directory))


class Follower:
    """Passes an expert's training on to a tracker.

    Args:
        run: The run; it is opened here.
        patches: Some of them are restored and pictured.
        tell: Gives a network as one that is told of the images that go through it.
    """

    def __init__(
        self,
        run: TrackedRun,
        patches: PairedPatches,
        tell: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> None:
        self._tell = tell
        self._every = run.config.images_every_samples
        self._patches = patches
        self._pictured = self._seen = 0
        self._begin = time.perf_counter()
        self._tracker = run.open()

    def on_progress(self, progress: Mapping[str, Any]) -> None:
        """Record the newest scalars."""
        scalars = {name: progress[name] for name in SCALARS if progress.get(name) is not None}
        self._seen = int(progress["samples"])
        self._tracker.log(self._seen, scalars)

    def on_checkpoint(self, num_seen: int, network: nn.Module) -> None:
        """TrainingStatus some patches, if enough samples have passed."""
        if self._every and num_seen - self._pictured >= self._every:
            self._pictured = num_seen
            shown = picture(self._tell(network), self._patches)
            self._tracker.image(num_seen, "patches", encode_png(shown))

    def __enter__(self) -> Self:
        """Return the follower; its run is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record the seconds it took, and close the run, however the training ended."""
        self._tracker.log(self._seen, {"cost.seconds": time.perf_counter() - self._begin})
        self._tracker.finish(error="" if kind is None else f"{kind.__name__}: {error}")


def picture(network: nn.Module, patches: PairedPatches) -> ImageU8:
    """Return a picture of up to four patches, a row each: degraded, restored, clean."""
    indices = np.linspace(0, len(patches) - 1, min(_NUM_PICTURED, len(patches))).astype(int)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    rows = []
    with torch.inference_mode():
        for index in indices.tolist():
            (lq,), (gt,) = patches.images("lq", [index]), patches.images("gt", [index])
            restored = network(to_float(lq)[None].to(device))[0].float().cpu()
            rows.append(np.concatenate([lq, to_u8(restored), gt], axis=1))
    network.train(was_training)
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def prepare_tracking(config: TrackingConfig, output: str) -> None:
    """Check the settings of tracking before any work starts.

    Raises:
        ConfigError: If runs could not be kept or not be sent.
    """
    tracking_folder(config, output)
    check_tracking(config)


def tracking_folder(config: TrackingConfig, output: str) -> str | None:
    """Return the folder where runs keep their files; None if nothing is tracked.

    Raises:
        ConfigError: If it is a URI and not a folder.
    """
    if config.backend == "null":
        return None
    folder = config.directory
    if folder is None:
        folder = Storage(output).sub(FOLDER).uri
    if "://" in folder:
        raise ConfigError(
            "tracking.directory: runs keep their files in a folder, which "
            f"{Storage(folder).where()} is not; give one that every node can write"
        )
    return str(Path(folder).absolute())
