"""What a training task carries: work that a lane can run, wherever the lane is."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from expertree.experts.workers import Workers

OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]


class Work(Protocol):
    """What a task's `work` is: a picklable value that a lane can run."""

    def run(self, on_progress: OnProgress, workers: "Workers") -> None:
        """Do all of it; call `on_progress` often, which raises when the work is to stop.

        Args:
            on_progress: Takes the newest progress.
            workers: This worker among the lane's; all of them run the same work at once.
        """
