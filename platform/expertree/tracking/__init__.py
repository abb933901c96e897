"""A run's scalars and images, for whoever watches: nothing, a file, or Weights & Biases."""

from expertree.tracking.backends import check_tracking, open_tracker
from expertree.tracking.sweep import Sweep, SweepIdentity, open_sweep
from expertree.tracking.tracker import RunIdentity, Tracker, TrackingConfig

__all__ = [
    "RunIdentity",
    "Sweep",
    "SweepIdentity",
    "Tracker",
    "TrackingConfig",
    "check_tracking",
    "open_sweep",
    "open_tracker",
]
