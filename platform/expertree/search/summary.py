"""Makes the record of a search from its trials and experts, with pure functions."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from expertree.search.importance import differing, importances
from expertree.search.pareto import DIRECTIONS, by_name, front
from expertree.search.record import VERSION, Best, Cost, Expert, Objectives, Search, Trial
from expertree.search.rungs import value_of

SearchStatus = Literal["running", "done", "stopped", "interrupted"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchFacts:
    """The part of a record that does not come from trials; see `record.Search` for each."""

    title: str
    space: str
    searcher: str
    created: str
    commit: str | None
    num_starts: int
    size: int | None
    num_trials: int
    fractions: Sequence[float]
    budget_hours: float | None
    best_command: str
    unit: str


def summarise(
    about: SearchFacts,
    trials: Sequence[Trial],
    experts: Sequence[Expert],
    *,
    status: SearchStatus,
    seconds: float,
) -> Search:
    """Return the record of a search, as far as it has come."""
    completed = {
        trial["number"]: trial["objectives"]
        for trial in trials
        if trial["status"] == "completed" and trial["objectives"] is not None
    }
    parameters = [t["parameters"] for t in trials if t["number"] in completed]
    values = {name: [by_name(own)[name] for own in completed.values()] for name in DIRECTIONS}
    hours = {expert["key"]: expert["hours"] for expert in experts}
    owned = _owned(trials)
    return Search(
        version=VERSION,
        title=about.title,
        space=about.space,
        searcher=about.searcher,
        created=about.created,
        commit=about.commit,
        status=status,
        seconds=round(seconds, 1),
        num_starts=about.num_starts,
        size=about.size,
        num_trials=about.num_trials,
        parameters=differing([trial["parameters"] for trial in trials]),
        fractions=list(about.fractions),
        trials=[
            {
                **trial,
                "trained_hours": round(sum(hours.get(k, 0.0) for k in owned[trial["number"]]), 6),
            }
            for trial in trials
        ],
        experts=list(experts),
        cost=cost(trials, experts, budget_hours=about.budget_hours),
        pareto=front(completed),
        importance=importances(parameters, values),
        best=best(completed),
        best_command=about.best_command if completed else None,
        unit=about.unit,
    )


def cost(trials: Sequence[Trial], experts: Sequence[Expert], *, budget_hours: float | None) -> Cost:
    """Return the cost with and without sharing; experts made before the search do not count."""
    by_key = {expert["key"]: expert for expert in experts if not expert["in_store"]}
    naive_trainings, naive_hours, naive_full_hours = 0, 0.0, 0.0
    for trial in trials:
        fraction = trial["reached"][-1]["fraction"] if trial["reached"] else 0.0
        for key in trial["experts"]:
            expert = by_key.get(key)
            if expert is None:
                continue
            full = _hours_in_full(expert)
            naive_trainings += fraction > 0.0
            naive_hours += full * fraction
            naive_full_hours += full
    return Cost(
        shared_trainings=sum(expert["samples"] > 0 for expert in by_key.values()),
        naive_trainings=naive_trainings,
        shared_hours=round(sum(expert["hours"] for expert in by_key.values()), 6),
        naive_hours=round(naive_hours, 6),
        naive_full_hours=round(naive_full_hours, 6),
        duplicates=sum(expert["repeated"] for expert in experts),
        budget_hours=budget_hours,
    )


def best(completed: Mapping[int, Objectives]) -> list[Best]:
    """Return the best completed trial by the mean of both PSNRs, and by each objective."""
    if not completed:
        return []
    found = [_best(completed, "mean", {n: value_of(own) for n, own in completed.items()})]
    for name, direction in DIRECTIONS.items():
        sign = 1.0 if direction == "maximize" else -1.0
        found.append(
            _best(completed, name, {n: sign * by_name(own)[name] for n, own in completed.items()})
        )
    return found


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial to build: the best completed one by the mean of both PSNRs."""
    completed = [t for t in trials if t["status"] == "completed" and t["objectives"] is not None]
    return max(completed, key=_mean_of, default=None)


def _mean_of(trial: Trial) -> tuple[float, int]:
    """Return the mean PSNR and the negated number to sort by, so that the first of equals wins."""
    value = value_of(trial["objectives"]) if trial["objectives"] is not None else float("-inf")
    return value, -trial["number"]


def _best(completed: Mapping[int, Objectives], name: str, gains: Mapping[int, float]) -> Best:
    number = max(sorted(gains), key=lambda own: gains[own])
    own = completed[number]
    value = value_of(own) if name == "mean" else by_name(own)[name]
    return Best(objective=name, trial=number, value=value)


def _hours_in_full(expert: Expert) -> float:
    """Return the hours of training an expert to its end, by how long it took so far."""
    return expert["hours"] / expert["samples"] * expert["num_samples"] if expert["samples"] else 0.0


def _owned(trials: Sequence[Trial]) -> dict[int, list[str]]:
    """Return the experts that each trial was the first to need."""
    seen: set[str] = set()
    owned: dict[int, list[str]] = {}
    for trial in sorted(trials, key=lambda own: own["begin_s"]):
        owned[trial["number"]] = [key for key in trial["experts"] if key not in seen]
        seen.update(trial["experts"])
    return owned
