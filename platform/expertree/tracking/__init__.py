"""A run's scalars and images, for whoever watches: nothing, a file, or Weights & Biases."""

from expertree.tracking.backends import check_tracking, open_tracker
from expertree.tracking.sweep import Sweep, SweepIdentity, open_sweep
from expertree.tracking.tracker import RunIdentity, Tracker, TrackingConfig
from expertree.tracking.trials import TrackedSearch, sweep_identity

__all__ = [
    "RunIdentity",
    "Sweep",
    "SweepIdentity",
    "TrackedSearch",
    "Tracker",
    "TrackingConfig",
    "check_tracking",
    "open_sweep",
    "open_tracker",
    "sweep_identity",
]
