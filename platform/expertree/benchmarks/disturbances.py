"""Nodes that are lost, leave and join while a build runs."""

import sys
from collections import Counter
from typing import Protocol

from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.states import State

ORDER = ("kill", "join", "drain", "join")
"""What happens, one after the other, again and again."""

_FEWEST = 2
"""Nodes, beside the one that is kept, of which one may go."""

_WITHIN_S = 60.0


class Nodes(Protocol):
    """The nodes of a cluster; see `orchestration.local_nodes`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the nodes that stay, the oldest first."""
        ...

    def join(self) -> str:
        """Add a node and return its id."""
        ...

    def kill(self, name: str) -> None:
        """End a node at once and unannounced."""
        ...

    def drain(self, name: str, *, within_s: float) -> None:
        """Announce that a node will be taken away."""
        ...

    def take_drained(self) -> None:
        """Take the nodes away whose end was announced."""
        ...


class Disturbances:
    """What happens to the nodes while a build runs: one kill during its data tasks, then in turn.

    Attributes:
        happened: How often each kind has happened.
    """

    def __init__(self, nodes: Nodes, *, keep: str, count: int, every_s: float) -> None:
        """Begin the count of seconds with the first training that is seen.

        Args:
            nodes: The nodes.
            keep: Id of a node that is never taken away.
            count: Things that happen while experts train.
            every_s: Seconds between them.
        """
        self._nodes, self._keep = nodes, keep
        self._count, self._every_s = count, every_s
        self._next_s: float | None = None
        self._num_done = 0
        self.happened: dict[str, int] = Counter()

    def on_done(self, num_done: int, num_units: int) -> None:
        """Lose the newest node once a third of the data tasks is done, and have one join."""
        if self._count and num_done == -(-num_units // 3):
            self._say("kill")
            self._nodes.kill(self._can_go()[-1])
            self._say("join")
            self._nodes.join()

    def on_status(self, status: TrainingStatus, now_s: float) -> None:
        """Do what is due by now."""
        running = [task for task in status.tasks if task.state is State.RUNNING]
        if self._next_s is None and any(task.progress for task in running):
            self._next_s = now_s + self._every_s
        if self._next_s is None or now_s < self._next_s or self._num_done == self._count:
            return
        what = ORDER[self._num_done % len(ORDER)]
        if what == "join":
            self._nodes.take_drained()
            self._nodes.join()
        else:
            victim = self._victim(status)
            if victim is None:
                return  # at the next look, maybe
            if what == "kill":
                self._nodes.kill(victim)
            else:
                self._nodes.drain(victim, within_s=_WITHIN_S)
        self._say(what)
        self._num_done += 1
        self._next_s = now_s + self._every_s

    def _victim(self, status: TrainingStatus) -> str | None:
        """Return the node whose expert is the furthest; None if none can be spared that has one."""
        can_go = self._can_go()
        if len(can_go) < _FEWEST:
            return None
        at = {attempt.key: attempt.node for attempt in status.history if attempt.end is None}
        done = {
            at[task.key]: float(task.progress.get("samples", 0.0)) / max(task.cost, 1e-9)
            for task in status.tasks
            if task.state is State.RUNNING and task.key in at and task.progress
        }
        busy = [(share, name) for name in can_go if (share := done.get(name[:8])) is not None]
        return max(busy)[1] if busy else None

    def _can_go(self) -> list[str]:
        return [name for name in self._nodes.names if name != self._keep]

    def _say(self, what: str) -> None:
        self.happened[what] += 1
        sys.stderr.write(f"soak: {what}\n")
