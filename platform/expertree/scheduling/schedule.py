"""The schedule of training tasks: a pure state machine, which is tested without Ray.

Lanes (workers that train one network after the other) lease tasks, report while they run, and hand
in the outcome. A lane that dies says nothing; its lease runs out, and the task goes to the next
lane that asks, which continues from the task's last checkpoint. Where lanes differ in speed, a slow
one leaves the last tasks to faster ones, and gives back what a faster one that is idle ends sooner.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from expertree.scheduling.budget import Budget
from expertree.scheduling.moves import Load, Moves
from expertree.scheduling.states import Attempt, Entry, State, TaskStatus
from expertree.scheduling.tasks import TrainingTask, critical_path

_TRIAL_S = 60.0
"""Seconds that a task of unknown speed runs before its measured speed is used."""

_REST_S, _REST_GROWTH, _LONGEST_REST_S = 10.0, 6.0, 600.0
"""Seconds before a failed task is tried again: the first pause, its growth, the longest pause.
The pauses grow, so that three attempts are not all spent within the minute that a storage or a
device is away."""


_HELD_S = 10.0
"""Seconds before a task that another job does is looked at again."""


class Schedule:
    """The queue of one group of tasks.

    Args:
        tasks: The tasks of the group. Keys in `after` that are not in the group count as done.
        lease_s: Seconds of silence after which a lane loses its task.
        max_attempts: Number of starts after which a task fails for good. An attempt does not count
            if it got further than all before it and ended with its machine or by an error that may
            pass. So long trainings survive any number of those.
        budget: A cap on what all tasks may cost. Of a kind of unknown speed, only one task runs at
            first; its first minute gives the speed.
        move_s: Seconds that moving a running task to another lane costs; None if lanes cannot give
            one back.
    """

    def __init__(
        self,
        tasks: Iterable[TrainingTask],
        *,
        lease_s: float = 30.0,
        max_attempts: int = 3,
        budget: Budget | None = None,
        move_s: float | None = None,
    ) -> None:
        self._moves = None if move_s is None else Moves(move_s)
        self._entries = {task.key: Entry(task=task) for task in tasks}
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._budget = budget
        self._rates = dict(budget.rates) if budget is not None else {}
        self._urgency = self._urgencies()
        self.history: list[Attempt] = []

    def add(self, tasks: Iterable[TrainingTask]) -> None:
        """Add tasks while lanes run; those that are known stay as they are.

        A known task that has failed for good is tried anew.
        """
        for task in tasks:
            known = self._entries.get(task.key)
            if known is None or known.state is State.FAILED:
                self._entries[task.key] = Entry(task=task)
        self._urgency = self._urgencies()

    def withdraw(self, keys: Iterable[str]) -> list[str]:
        """Forget those of the tasks that are still queued.

        This includes tasks that were taken back from a silent lane; that lane is told when it
        reports.

        Returns:
            Keys of the tasks that were forgotten.
        """
        queued = [k for k in keys if k in self._entries and self._entries[k].state is State.QUEUED]
        for key in queued:
            del self._entries[key]
        return queued

    @property
    def finished(self) -> bool:
        """Whether nothing is queued or running any more."""
        return all(e.state in (State.DONE, State.FAILED) for e in self._entries.values())

    def lease(self, lane: str, now: float, node: str = "") -> TrainingTask | None:
        """Give a lane its next task, the one that starts the longest chain; None if none is ready.

        Tasks with `is_urgent` come before all others. A lane that asks while it holds a task has
        been restarted, so that task is given up first. A slow lane gets none of the last tasks that
        faster ones will end sooner; an idle one may have to wait until another gives its task back.
        """
        for held in self._entries.values():
            if held.state is State.RUNNING and held.lane == lane:
                self._give_up(held, now, "the worker was restarted")
        self.expire(now)
        ready = [e for e in self._entries.values() if self._ready(e, now)]
        ready = self._affordable(ready, now)
        ready.sort(key=self._order, reverse=True)
        moves, first = self._moves, next(iter(ready), None)
        entry = first if moves is None else self._pick(moves, lane, ready, now)
        if entry is None:
            return None
        entry.state, entry.lane, entry.seen = State.RUNNING, lane, now
        entry.attempts += 1
        entry.first_report, entry.samples_per_s = None, 0.0
        self.history.append(
            Attempt(key=entry.task.key, lane=lane, node=node, number=entry.attempts, start=now)
        )
        return entry.task

    def heartbeat(self, lane: str, key: str, now: float, progress: Mapping[str, Any]) -> bool:
        """Note that a lane is alive, and its newest progress.

        Returns:
            False if the lane no longer holds the task (it was silent too long, or the task turns
            out to cost too much) and must stop.
        """
        entry = self._held(lane, key)
        if entry is None:
            return False
        entry.seen = now
        if progress:
            entry.progress = dict(progress)
            entry.samples_per_s = float(progress.get("samples_per_s") or 0.0)
            if self._moves is not None:
                self._moves.note(lane, entry.task.kind, entry.samples_per_s)
            self._learn_rate(entry, now)
        return entry.state is State.RUNNING

    def is_wanted(self, lane: str, key: str, now: float) -> bool:
        """Return whether a lane should give its task back, as an idle one would end it sooner."""
        if self._moves is None or self._held(lane, key) is None:
            return False
        return self._moves.wisher_of(key, now) is not None

    def forget_speed(self, lane: str) -> None:
        """Forget how fast a lane was: another process has its name now."""
        if self._moves is not None:
            self._moves.forget(lane)

    def release(self, lane: str, key: str, now: float) -> None:
        """Queue a task anew that its lane gives back; this is no failure of the task."""
        entry = self._held(lane, key)
        if entry is not None:
            entry.num_moves += self.is_wanted(lane, key, now)
            self._close(entry, now, "moved")
            entry.state, entry.lane = State.QUEUED, ""

    def postpone(self, lane: str, key: str, now: float, reason: str) -> None:
        """Queue a task anew that another job is doing; it is looked at again after a pause."""
        entry = self._held(lane, key)
        if entry is not None:
            self._close(entry, now, "held", error=reason)
            entry.state, entry.lane, entry.held = State.QUEUED, "", entry.held + 1
            entry.rests_until = now + _HELD_S

    def finish(self, lane: str, key: str, now: float) -> None:
        """Mark a task as done, whichever lane did it: the result is named by its content.

        A task that was withdrawn meanwhile stays forgotten; if it is added again, its result is
        found.
        """
        entry = self._entries.get(key)
        if entry is None or entry.state is State.DONE:
            return
        entry.state, entry.error = State.DONE, None
        self._close(entry, now, "done", lane=lane)

    def fail(self, lane: str, key: str, now: float, error: str, *, retry: bool) -> None:
        """Record a task's error: queue it anew if `retry`, else fail it and all tasks behind it.

        It is tried again after a pause, so that what was wrong has time to pass.
        """
        entry = self._held(lane, key)
        if entry is None:
            return
        self._close(entry, now, "failed", error=error)
        entry.error = error
        if not retry:
            self._fail_for_good(entry)
            return
        self._try_again(entry)
        rest_s = _REST_S * _REST_GROWTH ** max(entry.failures - 1, 0)
        entry.rests_until = now + min(rest_s, _LONGEST_REST_S)

    def expire(self, now: float) -> None:
        """Take tasks back from lanes that have been silent for longer than the lease."""
        for entry in self._entries.values():
            if entry.state is State.RUNNING and now - entry.seen > self._lease_s:
                self._give_up(entry, now, f"its lane was silent for {now - entry.seen:.0f} s")

    def status(self) -> list[TaskStatus]:
        """Return the status of all tasks, in the order in which they were added."""
        return [
            TaskStatus(
                key=e.task.key,
                label=e.task.label,
                state=e.state,
                lane=e.lane if e.state is State.RUNNING else "",
                attempts=e.attempts - e.held,
                cost=e.task.cost,
                progress=e.progress,
                error=e.error,
                kind=e.task.kind,
                after=e.task.after,
            )
            for e in self._entries.values()
        ]

    def _held(self, lane: str, key: str) -> Entry | None:
        """Return the task if this lane holds it; else None, as for one that was withdrawn."""
        entry = self._entries.get(key)
        is_held = entry is not None and entry.state is State.RUNNING and entry.lane == lane
        return entry if is_held else None

    def _urgencies(self) -> dict[str, float]:
        return critical_path([entry.task for entry in self._entries.values()])

    def _ready(self, entry: Entry, now: float) -> bool:
        if entry.state is not State.QUEUED or now < entry.rests_until:
            return False
        needed = [self._entries[key] for key in entry.task.after if key in self._entries]
        return all(other.state is State.DONE for other in needed)

    def _pick(self, moves: Moves, lane: str, ready: Sequence[Entry], now: float) -> Entry | None:
        """Return the ready task that a lane gets, if any; else it may wait for one that runs."""
        moves.asks(lane, now)
        entry = self._pick_ready(moves, lane, ready, now)
        if entry is None:
            moves.wish(lane, self._running(), now)
        else:
            moves.begins(lane)
        return entry

    def _pick_ready(
        self, moves: Moves, lane: str, ready: Sequence[Entry], now: float
    ) -> Entry | None:
        wishers = {e.task.key: moves.wisher_of(e.task.key, now) for e in ready}
        free = [e for e in ready if wishers[e.task.key] in (None, lane)]
        if not free or free[0].task.is_urgent:
            return next(iter(free), None)
        wish = next((e for e in free if wishers[e.task.key] == lane), None)
        if wish is not None:
            return wish
        running, key = self._running(), free[0].task.key
        if self._is_ending(ready):
            picked = moves.pick(lane, [self._load(e) for e in free], running, now)
            if picked is None:
                return None
            key = picked
        queued = [self._load(e) for e in self._entries.values() if e.state is State.QUEUED]
        entry = self._entries[key]
        return None if moves.swap(lane, self._load(entry), queued, running, now) else entry

    def _order(self, entry: Entry) -> tuple[bool, float, str]:
        return entry.task.is_urgent, self._urgency[entry.task.key], entry.task.key

    def _is_ending(self, ready: Sequence[Entry]) -> bool:
        """Return whether no tasks will be ready but those that are."""
        queued = sum(e.state is State.QUEUED for e in self._entries.values())
        return queued == len(ready)

    def _running(self) -> list[Load]:
        return [self._load(e) for e in self._entries.values() if e.state is State.RUNNING]

    def _load(self, entry: Entry) -> Load:
        return Load(
            key=entry.task.key,
            kind=entry.task.kind,
            samples=max(entry.task.cost - entry.samples, 0.0),
            behind=self._urgency[entry.task.key] - entry.task.cost,
            lane=entry.lane,
            samples_per_s=entry.samples_per_s,
            num_moves=entry.num_moves,
        )

    def _affordable(self, ready: list[Entry], now: float) -> list[Entry]:
        """Return the ready tasks that the budget allows.

        If it allows none, and nothing runs any more, they all fail.
        """
        if self._budget is None or not ready:
            return ready
        running = [e for e in self._entries.values() if e.state is State.RUNNING]
        taken_s = self._spent_s(now) + sum(self._left_s(e) or 0.0 for e in running)
        unknown = {e.task.kind for e in running}
        chosen = []
        for entry in ready:
            left_s = self._left_s(entry)
            if left_s is None:
                fits = entry.task.kind not in unknown
            else:
                fits = taken_s + left_s <= self._budget.lane_s
            if fits:
                chosen.append(entry)
            elif not running and left_s is not None:
                entry.error = self._budget.refuse(spent_s=taken_s, wanted_s=left_s)
        if not chosen and not running:
            for entry in ready:
                self._fail_for_good(entry)
        return chosen

    def _spent_s(self, now: float) -> float:
        return sum((now if a.end is None else a.end) - a.start for a in self.history)

    def _left_s(self, entry: Entry) -> float | None:
        """Return the expected seconds until a task is done; None if its speed is not known."""
        rate = self._rates.get(entry.task.kind)
        return None if rate is None else max(entry.task.cost - entry.samples, 0.0) / rate

    def _learn_rate(self, entry: Entry, now: float) -> None:
        """Learn a kind's speed from a running task; fail the task if its cost is too high."""
        if self._budget is None or entry.task.kind in self._rates:
            return
        if entry.first_report is None:
            entry.first_report = (now, entry.samples)
        since, samples = entry.first_report
        if now - since < _TRIAL_S or entry.samples <= samples:
            return
        self._rates[entry.task.kind] = (entry.samples - samples) / (now - since)
        left_s, spent_s = self._left_s(entry) or 0.0, self._spent_s(now)
        if spent_s + left_s > self._budget.lane_s:
            entry.error = self._budget.refuse(spent_s=spent_s, wanted_s=left_s)
            self._close(entry, now, "failed", error=entry.error)
            self._fail_for_good(entry)

    def _give_up(self, entry: Entry, now: float, reason: str) -> None:
        self._close(entry, now, "lost", error=reason)
        entry.error = reason
        self._try_again(entry)

    def _try_again(self, entry: Entry) -> None:
        """Queue a task anew, unless it has failed too often without getting any further."""
        if entry.samples > entry.furthest:
            entry.furthest = entry.samples
        else:
            entry.failures += 1
        if entry.failures < self._max_attempts:
            entry.state, entry.lane = State.QUEUED, ""
        else:
            self._fail_for_good(entry)

    def _fail_for_good(self, entry: Entry) -> None:
        entry.state = State.FAILED
        for other in self._entries.values():
            if entry.task.key in other.task.after and other.state is State.QUEUED:
                other.error = f"{entry.task.label}, which it starts from, failed"
                self._fail_for_good(other)

    def _close(
        self, entry: Entry, now: float, outcome: str, *, lane: str = "", error: str | None = None
    ) -> None:
        for index in range(len(self.history) - 1, -1, -1):
            attempt = self.history[index]
            if attempt.key == entry.task.key and attempt.end is None:
                self.history[index] = dataclasses.replace(
                    attempt, end=now, outcome=outcome, error=error, lane=lane or attempt.lane
                )
                return
