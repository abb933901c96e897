"""The measurement of each request, and the interface of whatever records it."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One answered request, or one finished job.

    Attributes:
        endpoint: Path of the route, with its parameters' names in place of their values; `job` for
            the work of a job; empty where nothing matched.
        method: The HTTP method.
        code: The HTTP status; 499 where the caller left.
        seconds: Seconds from the first byte of the request to the last of the answer.
        level: The level that was chosen; None where nothing was routed.
        expert: The expert that was chosen; None, with a level, where the image was left as it is.
        num_pixels: Pixels of the image; 0 without one.
        num_retries: Times that memory ran out and tiles were halved.
        stages: Seconds by stage: `decode`, `queue`, `route`, `restore`, `encode`.
    """

    endpoint: str
    method: str
    code: int
    seconds: float
    level: int | None = None
    expert: int | None = None
    num_pixels: int = 0
    num_retries: int = 0
    stages: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Metrics(Protocol):
    """Interface of whatever records measurements."""

    def record(self, measurement: Measurement) -> None:
        """Record a request or job. Called on the event loop, so it must not wait for anything."""
        ...
