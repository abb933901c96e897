"""A run's scalars and images, for whoever watches: nothing, a file, or Weights & Biases."""

from pathlib import Path

from expertree.tracking.jsonl import JsonlTracker
from expertree.tracking.tracker import NullTracker, RunIdentity, Tracker, TrackingConfig

__all__ = ["RunIdentity", "Tracker", "TrackingConfig", "open_tracker"]


def open_tracker(config: TrackingConfig, identity: RunIdentity, directory: Path) -> Tracker:
    """Begin a run on the configured backend.

    Args:
        config: Which backend, and how.
        identity: What to call the run.
        directory: A local directory of the run's own; made when it is missing.
    """
    if config.backend == "wandb":
        # wandb takes a second to import, and most runs do not use it.
        from expertree.tracking.wandb import WandbTracker  # noqa: PLC0415

        return WandbTracker(identity, directory, config)
    if config.backend == "jsonl":
        return JsonlTracker(identity, directory)
    return NullTracker(identity)
