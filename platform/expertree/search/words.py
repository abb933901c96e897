"""The words for a search on its page and in the terminal."""

from collections.abc import Mapping

from expertree.report import formatting
from expertree.search.record import Objectives, Scalar, Search, Trial

OBJECTIVES: Mapping[str, str] = {
    "psnr_in": "PSNR in distribution",
    "psnr_out": "PSNR out of distribution",
    "gpu_hours": "cost of training",
}

STATUSES: Mapping[str, str] = {
    "completed": "completed",
    "stopped": "stopped early",
    "failed": "failed",
    "running": "running",
    "waiting": "waiting",
}
"""The statuses in words, in the order in which they are counted."""

_ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}
_PARAMETERS: Mapping[str, str] = {
    "tree.levels": "levels",
    "tree.num_experts": "experts",
    "hierarchy.method": "clustering",
    "router.alpha": "alpha",
    "router.beta": "beta",
}


def parameter_name(key: str) -> str:
    """Return a flattened parameter's name in words, by default the last two of its key."""
    place = key.removeprefix("tree.k")
    if place != key and place.isdigit():
        return f"groups, {_ORDINALS.get(int(place), f'{place}th')} level"
    return _PARAMETERS.get(key, " ".join(key.split(".")[-2:]).replace("_", " "))


def scalar(value: Scalar) -> str:
    """Return a parameter's value in words, fractions to three digits."""
    if value is None:
        return formatting.NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}".replace("-", formatting.MINUS)
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def hours(value: float | None) -> str:
    """Return hours of training as a time in words."""
    return formatting.duration(None if value is None else 3600 * value)


def mean_psnr(objectives: Objectives) -> float:
    """Return the mean of PSNR in and out of distribution (dB), which `best` calls `mean`."""
    return (objectives["psnr_in"] + objectives["psnr_out"]) / 2


def trials_by_number(record: Search) -> dict[int, Trial]:
    """Return the trials of a search by their numbers."""
    return {trial["number"]: trial for trial in record["trials"]}


def best_trial(record: Search) -> Trial | None:
    """Return the trial to build: the best by the mean of both PSNRs."""
    found = [best["trial"] for best in record["best"] if best["objective"] == "mean"]
    return trials_by_number(record)[found[0]] if found else None


def status_counts(record: Search) -> list[tuple[str, int]]:
    """Return each status that trials have, in words, and the number of those trials."""
    states = [trial["status"] for trial in record["trials"]]
    return [(words, states.count(key)) for key, words in STATUSES.items() if key in states]


def times_fewer(record: Search) -> float | None:
    """Return how many times as many trainings it takes without sharing; None before the first."""
    cost = record["cost"]
    shared = cost["shared_trainings"]
    return cost["naive_trainings"] / shared if shared else None
