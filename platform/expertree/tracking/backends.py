"""Which backend a configuration names."""

from pathlib import Path

from expertree.tracking import jsonl
from expertree.tracking.jsonl import JsonlTracker
from expertree.tracking.tracker import NullTracker, RunIdentity, Tracker, TrackingConfig

# wandb takes a second to import, and most runs do not use it: it is imported where it is used.


def open_tracker(config: TrackingConfig, identity: RunIdentity, directory: Path) -> Tracker:
    """Begin a run on the configured backend.

    Args:
        config: Which backend, and how.
        identity: What to call the run.
        directory: A local directory of the run's own; made when it is missing.
    """
    if config.backend == "wandb":
        from expertree.tracking.wandb import WandbTracker  # noqa: PLC0415 - see above

        return WandbTracker(identity, directory, config)
    if config.backend == "jsonl":
        return JsonlTracker(identity, directory)
    return NullTracker(identity)


def is_finished(config: TrackingConfig, directory: Path) -> bool:
    """Whether the run in a directory is whole on disk, up to its end.

    Args:
        config: Which backend wrote it; what keeps nothing lacks nothing.
        directory: The run's own.
    """
    if config.backend == "wandb":
        from expertree.tracking import wandb  # noqa: PLC0415 - see above

        return wandb.is_finished(directory)
    return config.backend == "null" or jsonl.is_finished(directory)


def check_tracking(config: TrackingConfig) -> None:
    """Refuse what could not be tracked, before any work starts.

    Raises:
        ConfigError: W&B is wanted online, and there is no key for it.
    """
    if config.backend == "wandb" and config.mode == "online":
        from expertree.tracking.wandb import check_key  # noqa: PLC0415 - see above

        check_key()
