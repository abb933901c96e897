"""Functions that choose the tracking backend that a configuration names."""

from pathlib import Path

from expertree.tracking import jsonl
from expertree.tracking.jsonl import JsonlTracker
from expertree.tracking.tracker import NullTracker, RunIdentity, Tracker, TrackingConfig

# wandb takes a second to import, and most runs do not use it: it is imported where it is used.


def open_tracker(config: TrackingConfig, identity: RunIdentity, directory: Path) -> Tracker:
    """Begin a run on the configured backend.

    Args:
        config: The backend and its settings.
        identity: Name, id, group and config of the run.
        directory: A local directory of the run's own; made when it is missing.
    """
    if config.backend == "wandb":
        from expertree.tracking.wandb import WandbTracker  # noqa: PLC0415 - see above

        return WandbTracker(identity, directory, config)
    if config.backend == "jsonl":
        return JsonlTracker(identity, directory)
    return NullTracker(identity)


def is_finished(config: TrackingConfig, directory: Path) -> bool:
    """Return whether the run in a directory is complete on disk, up to its end.

    Args:
        config: The backend that wrote it; for `null`, which keeps nothing, the answer is True.
        directory: The run's directory.
    """
    if config.backend == "wandb":
        from expertree.tracking import wandb  # noqa: PLC0415 - see above

        return wandb.is_finished(directory)
    return config.backend == "null" or jsonl.is_finished(directory)


def check_tracking(config: TrackingConfig) -> None:
    """Raise an error, before any work starts, if runs could not be tracked.

    Raises:
        ConfigError: If W&B is to be used online and there is no key for it.
    """
    if config.backend == "wandb" and config.mode == "online":
        from expertree.tracking.wandb import check_key  # noqa: PLC0415 - see above

        check_key()
