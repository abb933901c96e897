"""The interface of the work that a training task carries and a lane runs."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from expertree.training import Workers

OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]


class Work(Protocol):
    """The `work` of a training task: a picklable value that a lane can run."""

    def run(self, on_progress: OnProgress, workers: "Workers") -> None:
        """Do all of the work; call `on_progress` often, which raises when the work must stop.

        Args:
            on_progress: Called with the newest progress.
            workers: This worker among the lane's; all of them run the same work at once.
        """
