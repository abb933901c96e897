"""The cap on what a group of trainings may cost, and the message when it is too small."""

import dataclasses
from collections.abc import Mapping

_SECONDS_AN_HOUR = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A cap on device hours: of GPUs, or of CPUs where no GPU is used.

    Attributes:
        device_hours: The cap, in device hours.
        devices_per_lane: Number of devices that a lane holds, or its fraction of one.
        rates: Samples per second of a lane by kind of task, for the kinds whose speed is known.
    """

    device_hours: float
    devices_per_lane: float
    rates: Mapping[str, float]

    @property
    def lane_s(self) -> float:
        """The cap in seconds of lane time."""
        return self.device_hours * _SECONDS_AN_HOUR / self.devices_per_lane

    def refuse(self, *, spent_s: float, wanted_s: float) -> str:
        """Return the message that says why a task is not trained, and what to do."""
        spent, wanted = (device_hours(s, self.devices_per_lane) for s in (spent_s, wanted_s))
        return (
            f"cluster.max_device_hours={self.device_hours:g} is not enough: {spent:.3g} are spent "
            f"or needed by others, and it needs about {wanted:.3g}; give more and run again, what "
            "is trained is kept"
        )


def device_hours(lane_s: float, devices_per_lane: float) -> float:
    """Convert seconds of lane time to device hours."""
    return lane_s * devices_per_lane / _SECONDS_AN_HOUR
