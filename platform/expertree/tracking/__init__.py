"""Tracking of a run's scalars and images: not at all, in a file, or at Weights & Biases."""

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
