"""What gateways and replicas count, exported by Ray; `serve/grafana.json` shows it."""

from typing import Any

from ray.serve import metrics

from expertree.serving.http.responses import AS_IS
from expertree.serving.metrics import Measurement

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of buckets of time."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Upper bounds of buckets of sizes of batches."""


class Count:
    """A number that grows."""

    def __init__(self, name: str, description: str, *tags: str) -> None:
        """Register it with Ray.

        Args:
            name: Of the metric.
            description: What is counted.
            tags: Names of what tells counts apart.
        """
        keys: Any = tags  # Ray's annotation allows a single one
        self._tags = tags
        self._counter = metrics.Counter(name, description=description, tag_keys=keys)

    def add(self, value: float, *tags: object) -> None:
        """Count, under a value for each tag."""
        self._counter.inc(value, tags=_named(self._tags, tags))


class Distribution:
    """Values in buckets."""

    def __init__(
        self, name: str, description: str, *tags: str, buckets: tuple[float, ...] = SECONDS
    ) -> None:
        """Register it with Ray.

        Args:
            name: Of the metric.
            description: What is measured.
            tags: Names of what tells measurements apart.
            buckets: Their upper bounds.
        """
        keys: Any = tags
        self._tags = tags
        self._histogram = metrics.Histogram(
            name, description=description, boundaries=list(buckets), tag_keys=keys
        )

    def add(self, value: float, *tags: object) -> None:
        """Measure, under a value for each tag."""
        self._histogram.observe(value, tags=_named(self._tags, tags))


class RayMetrics:
    """The `Metrics` of gateways."""

    def __init__(self) -> None:
        """Register them with Ray."""
        self._requests = Count(
            "expertree_requests", "Requests answered, and jobs done.", "endpoint", "code"
        )
        self._seconds = Distribution(
            "expertree_request_seconds",
            "Time of a request, from its first byte to the last of its answer.",
            "endpoint",
        )
        self._images = Count("expertree_images", "Images by expert, or `as-is`.", "expert", "level")
        self._pixels = Count("expertree_pixels", "Pixels of images.")
        self._retries = Count(
            "expertree_image_memory_retries",
            "Times that an image was tried again in smaller tiles.",
        )
        self._stages = Distribution(
            "expertree_stage_seconds", "Time of an image by stage.", "stage"
        )

    def record(self, measurement: Measurement) -> None:
        """See `Metrics`."""
        endpoint = measurement.endpoint or "none"
        self._requests.add(1, endpoint, measurement.code)
        self._seconds.add(measurement.seconds, endpoint)
        if measurement.level is not None:
            expert = AS_IS if measurement.expert is None else measurement.expert
            self._images.add(1, expert, measurement.level)
        if measurement.num_pixels:
            self._pixels.add(measurement.num_pixels)
        if measurement.num_retries:
            self._retries.add(measurement.num_retries)
        for stage, seconds in measurement.stages.items():
            self._stages.add(seconds, stage)


def _named(names: tuple[str, ...], values: tuple[object, ...]) -> dict[str, str]:
    return {name: str(value) for name, value in zip(names, values, strict=True)}
