"""Writes what a search has found while it goes on, and keeps its lanes running."""

import sys
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from expertree.errors import TrainingError
from expertree.orchestration.lanes import LanePool
from expertree.scheduling.states import State
from expertree.search.followed import TrackedSearch
from expertree.search.record import Search, Trial
from expertree.search.summary import SearchFacts, SearchStatus, summarise
from expertree.search.write import write_search
from expertree.storage import Storage

RECORD = "search.json"
ABOUT = "about.json"

_SECONDS_BETWEEN_PAGES = 30.0

OnRecord = Callable[[Search], None]


class SearchWriter:
    """Writes a search's record and page, and prints what has changed since the last record."""

    def __init__(
        self, about: SearchFacts, output: Storage, *, begin_s: float, on_record: OnRecord
    ) -> None:
        self.begin_s = begin_s
        self.tracked: TrackedSearch | None = None
        self._about, self._output, self._on_record = about, output, on_record
        self._said: dict[int, tuple[str, int]] = {}
        self._page_is_due_s = 0.0

    def write(self, trials: list[Trial], experts: list[Any], status: SearchStatus) -> Search:
        """Write the record as it is now, and return it."""
        record = summarise(
            self._about, trials, experts, status=status, seconds=time.time() - self.begin_s
        )
        self._output.write_json(RECORD, record)
        about = self._output.read_json(ABOUT)
        self._output.write_json(ABOUT, {**about, "seconds": record["seconds"]})
        for trial in trials:
            now = trial["status"], len(trial["reached"])
            if self._said.get(trial["number"]) != now:
                self._said[trial["number"]] = now
                sys.stderr.write(line_of(trial) + "\n")
        if status != "running" or time.time() >= self._page_is_due_s:
            self._page_is_due_s = time.time() + _SECONDS_BETWEEN_PAGES
            write_search(record, self._output)
        if self.tracked is not None:
            self.tracked.update(record)
        self._on_record(record)
        return record


class Upkeep:
    """Writes the record while trials run, and keeps lanes running."""

    def __init__(self, registry: Any, pool: LanePool, writer: SearchWriter) -> None:  # noqa: ANN401
        self._registry, self._pool, self._writer = registry, pool, writer
        self._said = ""

    def look(self) -> None:
        """Write the record, and start lanes in place of those that ended.

        If none is left, the trials that wait now fail, and at the next look those that have asked
        since.
        """
        self._write()
        try:
            self._pool.wait(0.0)
            tasks = self._pool.status().tasks
            wanted = self._pool.wanted(tasks, more_may_come=True)
            num_done = sum(task.state is State.DONE for task in tasks)
            self._pool.start_missing_lanes(wanted, num_done=num_done)
        except TrainingError as error:
            self._registry.give_up.remote(str(error))

    def _write(self) -> None:
        """Write the current record; a disk or a tracker that fails does not stop the search."""
        try:
            now = ray.get(self._registry.state.remote(), timeout=60)
            self._writer.write(now["trials"], now["experts"], "running")
        except RayError:
            pass  # Ray starts a registry that has died again; until then nobody answers.
        except Exception as error:  # noqa: BLE001 - said, and raised at the end if it still holds
            line = f"the record could not be written, the search goes on: {error}"
            if line != self._said:
                self._said = line
                sys.stderr.write(line + "\n")


def line_of(trial: Trial) -> str:
    """Return a trial as one line for the terminal."""
    words = [f"trial {trial['number']:>3}", trial["shape"], trial["status"]]
    if trial["objectives"] is not None:
        own = trial["objectives"]
        share = trial["reached"][-1]["fraction"]
        words.append(f"{own['psnr_in']:.2f} / {own['psnr_out']:.2f} dB at {share:g}")
    if trial["reason"]:
        words.append(trial["reason"])
    return "  ".join(words)
