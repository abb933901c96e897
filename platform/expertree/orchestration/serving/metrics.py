"""The metrics of gateways and replicas, exported by Ray and shown by `serve/grafana.json`."""

from typing import Any

from ray.serve import metrics

from expertree.serving.http.responses import AS_IS
from expertree.serving.metrics import Measurement

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of times, in seconds."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Upper bounds of the buckets of batch sizes."""


class Counter:
    """A counter, with tags."""

    def __init__(self, name: str, description: str, *tags: str) -> None:
        """Register the counter with Ray.

        Args:
            name: Name of the metric.
            description: What is counted.
            tags: Names of the tags that tell counts apart.
        """
        keys: Any = tags  # Ray's annotation allows a single one
        self._tags = tags
        self._counter = metrics.Counter(name, description=description, tag_keys=keys)

    def add(self, value: float, *tags: object) -> None:
        """Add to the count, under a value for each tag."""
        self._counter.inc(value, tags=_named(self._tags, tags))


class Histogram:
    """A histogram, with tags."""

    def __init__(
        self, name: str, description: str, *tags: str, buckets: tuple[float, ...] = SECONDS
    ) -> None:
        """Register the histogram with Ray.

        Args:
            name: Name of the metric.
            description: What is measured.
            tags: Names of the tags that tell measurements apart.
            buckets: Upper bounds of the buckets.
        """
        keys: Any = tags
        self._tags = tags
        self._histogram = metrics.Histogram(
            name, description=description, boundaries=list(buckets), tag_keys=keys
        )

    def add(self, value: float, *tags: object) -> None:
        """Add a measurement, under a value for each tag."""
        self._histogram.observe(value, tags=_named(self._tags, tags))


class RayMetrics:
    """The `Metrics` of gateways, exported by Ray."""

    def __init__(self) -> None:
        """Register the metrics with Ray."""
        self._requests = Counter(
            "expertree_requests", "Requests answered, and jobs done.", "endpoint", "code"
        )
        self._seconds = Histogram(
            "expertree_request_seconds",
            "Time of a request, from its first byte to the last of its answer.",
            "endpoint",
        )
        self._images = Counter(
            "expertree_images", "Images by expert, or `as-is`.", "expert", "level"
        )
        self._pixels = Counter("expertree_pixels", "Pixels of images.")
        self._retries = Counter(
            "expertree_image_memory_retries",
            "Times that an image was tried again in smaller tiles.",
        )
        self._stages = Histogram("expertree_stage_seconds", "Time of an image by stage.", "stage")

    def record(self, measurement: Measurement) -> None:
        """Count a request or job, its time and its image; see `Metrics.record`."""
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
