"""Writes a search's record as tracked runs, one for each trial, while the search goes on."""

from collections.abc import Mapping
from typing import Any

from expertree.config import fingerprint
from expertree.errors import ArtefactError
from expertree.search.record import Objectives, RungResult, Search, Trial
from expertree.search.tree_picture import tree_png
from expertree.tracking.sweep import Sweep, SweepIdentity
from expertree.tracking.tracker import Tracker

ENDED = ("completed", "stopped", "failed")
"""The statuses of a trial that has ended."""


class TrackedSearch:
    """The tracked runs of a search: `update` takes its record whenever something has changed.

    The search's own process writes all runs, so none is lost with the worker of a trial. A trial
    whose run is whole on disk is not written again. One that was cut off is written again from its
    beginning, as the record has all of it.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Begin to follow a search, or go on.

        Args:
            sweep: Sweep that the runs belong to.
        """
        self._sweep = sweep
        self._open: dict[int, _TrialRun] = {}
        self._done: set[int] | None = None

    def update(self, record: Search) -> None:
        """Write what is new in the record of the search.

        Args:
            record: The search as it is now.
        """
        if self._done is None:
            ended = {trial["number"] for trial in _ended(record)}
            self._done = ended - set(self._sweep.unfinished(sorted(ended)))
        for trial in record["trials"]:
            number, is_over = trial["number"], trial["status"] in ENDED
            # What a trial is, is known when its tree was cut.
            if number in self._done or not (is_over or trial["tree"]):
                continue
            if number not in self._open:
                self._open[number] = _TrialRun(self._sweep, record, trial)
            self._open[number].follow(trial)
            if is_over:
                self._open.pop(number)
                self._done.add(number)

    def close(self, record: Search) -> None:
        """Write what is left, end all runs, and check that each is on disk.

        Raises:
            ArtefactError: If trials have no whole run file.
        """
        self.update(record)
        for run in self._open.values():
            run.cut_off(f"the search ended before this trial, {record['status']}")
        ended = [trial["number"] for trial in _ended(record)]
        missing = self._sweep.unfinished(ended)
        if missing:
            raise ArtefactError(
                f"tracking: {len(missing)} of {len(ended)} trials have no whole run file in "
                f"{self._sweep.directory}: {', '.join(map(str, missing))}; the same command again "
                "writes them"
            )


class _TrialRun:
    """The tracked run of one trial."""

    def __init__(self, sweep: Sweep, record: Search, trial: Trial) -> None:
        name = f"{trial['number']:03d} {trial['shape']}"
        self._num_logged = 0
        self._tracker: Tracker = sweep.trial(trial["number"], name, trial_config(record, trial))
        self._tracker.log(0, tree_scalars(trial))
        if trial["tree"]:
            self._tracker.image(0, "tree", tree_png(trial["tree"]))

    def follow(self, trial: Trial) -> None:
        """Write the rungs that are new, and finish the run if the trial has ended."""
        for reached in trial["reached"][self._num_logged :]:
            self._tracker.log(reached["rung"], rung_scalars(reached))
            self._num_logged += 1
        if trial["status"] in ENDED:
            self._tracker.log(max(self._num_logged - 1, 0), end_scalars(trial))
            failed = trial["status"] == "failed"
            self._tracker.finish(error=(trial["reason"] or "no reason is known") if failed else "")

    def cut_off(self, why: str) -> None:
        """End the run of a trial that has not ended."""
        self._tracker.finish(error=why)


def sweep_identity(record: Search, parameters: Mapping[str, Mapping[str, Any]]) -> SweepIdentity:
    """Return the id, name and parameters of a search, for a tracker.

    Args:
        record: Record of the search as it began.
        parameters: Searched parameters by dotted key: `values`, or `min` and `max`.
    """
    origin = {name: record[name] for name in ("space", "created")}
    name = f"{record['space']}-{fingerprint(origin)[:8]}"
    return SweepIdentity(search=name, name=record["title"], parameters=parameters)


def trial_config(record: Search, trial: Trial) -> dict[str, Any]:
    """Return the values chosen for a trial, as scalars by dotted key."""
    return {
        "search.space": record["space"],
        "search.searcher": record["searcher"],
        "search.commit": record["commit"],
        "tree.shape": trial["shape"],
        **trial["parameters"],
    }


def tree_scalars(trial: Trial) -> dict[str, float]:
    """Return a trial's numeric parameters, and the smallest group of each level of its tree.

    W&B's panels read a run's summary by its plain dotted names, and its configuration by a path in
    which dots part sections: so the numbers stand in both.
    """
    found = {
        key: float(value)
        for key, value in trial["parameters"].items()
        if isinstance(value, int | float)
    }
    for level in sorted({node["level"] for node in trial["tree"]}):
        sizes = [node["num_samples"] for node in trial["tree"] if node["level"] == level]
        found[f"tree.smallest_group.{level}"] = float(min(sizes))
    return found


def rung_scalars(reached: RungResult) -> dict[str, float]:
    """Return what a trial reached at a rung, as scalars by dotted key."""
    objectives = reached["objectives"]
    return {
        "rung.fraction": reached["fraction"],
        **objective_scalars(objectives),
        "best_level_gap.in": reached["best_level_in"] - objectives["psnr_in"],
        "best_level_gap.out": reached["best_level_out"] - objectives["psnr_out"],
    }


def objective_scalars(objectives: Objectives) -> dict[str, float]:
    """Return the objectives as scalars by dotted key; `psnr.mean` is the mean of both PSNRs."""
    return {
        "psnr.in": objectives["psnr_in"],
        "psnr.out": objectives["psnr_out"],
        "psnr.mean": (objectives["psnr_in"] + objectives["psnr_out"]) / 2,
        "gpu_hours": objectives["gpu_hours"],
    }


def end_scalars(trial: Trial) -> dict[str, float]:
    """Return how a trial ended and what it took, as scalars by dotted key."""
    return {
        **trial.get("measured", {}),
        **{f"trial.{status}": float(trial["status"] == status) for status in ENDED},
        "trial.trained_hours": trial["trained_hours"],
        "trial.seconds": (trial["end_s"] or trial["begin_s"]) - trial["begin_s"],
    }


def _ended(record: Search) -> list[Trial]:
    return [trial for trial in record["trials"] if trial["status"] in ENDED]
