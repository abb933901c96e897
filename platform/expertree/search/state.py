"""Keeps a search's trials, experts and pieces between its starts, in one small file each."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from expertree.scheduling.budget import device_hours
from expertree.search.record import Expert, Trial
from expertree.storage import Storage


class SearchState:
    """The files of one search, read once and written whenever something changes.

    Args:
        output: The search's output folder.
        devices_per_lane: GPUs, or CPUs, that train one network together; hours count each of them.
    """

    def __init__(self, output: Storage, *, devices_per_lane: float = 1.0) -> None:
        self._trials = output.sub("trials")
        self._experts = output.sub("experts")
        self._notes = output.sub("pieces")
        self._devices_per_lane = devices_per_lane
        self._known_notes: dict[str, dict[str, Any]] = {}
        self.trials: dict[int, Trial] = {
            int(name.partition(".")[0]): cast("Trial", self._trials.read_json(name))
            for name in self._trials.list_files(".json")
        }
        self._about: dict[str, dict[str, Any]] = {
            name.partition(".")[0]: self._experts.read_json(name)
            for name in self._experts.list_files(".json")
        }
        self.refresh()

    @property
    def notes(self) -> Storage:
        """The directory where lanes leave a note of each piece of an expert that they trained."""
        return self._notes

    def save(self, trial: Trial) -> None:
        """Store a trial as it is now."""
        self.trials[trial["number"]] = trial
        self._trials.write_json(f"{trial['number']:05d}.json", trial)

    def plan_expert(self, key: str, *, label: str, num_samples: int, in_store: bool) -> None:
        """Store an expert's label and samples, and whether it was made before the search."""
        if key not in self._about:
            self._about[key] = {"label": label, "num_samples": num_samples, "in_store": in_store}
            self._experts.write_json(f"{key}.json", self._about[key])

    def refresh(self) -> None:
        """Read the notes that lanes left since the last time.

        May run on a thread of its own while others call `hours` and `experts`.
        """
        known = self._known_notes
        fresh = [name for name in self._notes.list_files(".json") if name not in known]
        self._known_notes = known | {name: self._notes.read_json(name) for name in fresh}

    def hours(self) -> float:
        """Return the hours of lanes spent on finished pieces, over all starts; see `refresh`."""
        return sum(self._hours_of(notes) for notes in self._by_expert().values())

    def begin_again(self) -> list[Trial]:
        """Set unfinished trials back to waiting, and return them.

        These were cut off, stopped by the budget, or failed with an error that may be gone.
        """
        found = []
        for number, trial in sorted(self.trials.items()):
            given_up = bool(trial["reached"]) and trial["reached"][-1]["goes_on"] is False
            if trial["status"] != "completed" and not given_up:
                self.save({**trial, "status": "waiting", "reason": None, "end_s": None})
                found.append(self.trials[number])
        return found

    def experts(self) -> list[Expert]:
        """Return all experts that trials need, sorted by key."""
        by_expert = self._by_expert()
        users: dict[str, list[int]] = {}
        for number, trial in sorted(self.trials.items()):
            for key in trial["experts"]:
                users.setdefault(key, []).append(number)
        found = []
        for key, about in sorted(self._about.items()):
            notes = by_expert.get(key, [])
            trained = max((int(note["samples"]) for note in notes), default=0)
            found.append(
                Expert(
                    key=key,
                    label=about["label"],
                    trials=users.get(key, []),
                    num_samples=about["num_samples"],
                    samples=about["num_samples"] if about["in_store"] else trained,
                    hours=round(self._hours_of(notes), 6),
                    in_store=about["in_store"],
                    repeated=len(notes) - len({note["samples"] for note in notes}),
                )
            )
        return found

    def _by_expert(self) -> dict[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for note in self._known_notes.values():
            found.setdefault(note["key"], []).append(note)
        return found

    def _hours_of(self, notes: Iterable[Mapping[str, Any]]) -> float:
        """Return an expert's hours: its last note has the seconds since the training began."""
        seconds = max((float(note["seconds"]) for note in notes), default=0.0)
        return device_hours(seconds, self._devices_per_lane)
