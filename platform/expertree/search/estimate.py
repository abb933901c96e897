"""Estimates what a search would take, for `--dry-run` and to refuse a budget that is too small."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError
from expertree.experts.backbones import build_backbone
from expertree.pipeline.build import prepare
from expertree.pipeline.dry_run import lanes_of
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import NotMadeError
from expertree.report import formatting
from expertree.scheduling.budget import device_hours
from expertree.search.draws import random_trials
from expertree.search.planning import plan_stored, quiet_bench
from expertree.search.settings import (
    SearchConfig,
    base_of,
    demands,
    open_space,
    trial_config,
)
from expertree.search.setup import check_space, make_setup
from expertree.search.sharing import TotalNeeded, add_up
from expertree.search.space import Space
from expertree.search.state import SearchState
from expertree.storage import Storage
from expertree.threads import torch_threads
from expertree.training import LOG
from expertree.uris import public

_MOST_LISTED = 10_000
_SECONDS_AN_HOUR = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """The speed of training an expert.

    Attributes:
        samples_per_s: Samples a second on one lane.
        source: How the speed is known, in words.
    """

    samples_per_s: float
    source: str

    def hours(self, num_samples: int, *, devices: float) -> float:
        """Return the hours of training on some samples, summed over a lane's devices."""
        return device_hours(num_samples / self.samples_per_s, devices)


def describe_search(config: SearchConfig, spaces: Path) -> str:
    """Say what a search would train, and start nothing.

    Raises:
        ExpertreeError: If the search itself would refuse to run.
    """
    space = open_space(config.search_space, spaces)
    check_space(config, space)
    trials, are_all = likely_trials(config, space)
    needed = add_up(demands(trial_config(config, own)) for own in trials)
    base = trial_config(config, space.overrides({}))
    rate = rate_of(base)
    check_budget(config, space, rate)
    return "\n".join(_lines(config, space, needed, rate, num_trials=len(trials), are_all=are_all))


def likely_trials(config: SearchConfig, space: Space) -> tuple[list[dict[str, Any]], bool]:
    """Return the trials of a search, or random ones in their place.

    Returns:
        Their overrides, and whether they are the search's own. What Optuna proposes depends on what
        trials reach, so as many random ones stand in.
    """
    settings, size = config.search, space.size()
    most = settings.most_trials(size)
    if settings.searcher == "grid" or (size is not None and size <= most):
        values = itertools.islice(space.grid(), most)
        return [space.overrides(own) for own in values], True
    drawn = random_trials(space, min(most, _MOST_LISTED), seed=settings.seed)
    return [space.overrides(own) for own in drawn], settings.searcher == "random"


def check_budget(config: SearchConfig, space: Space, rate: Rate | None) -> None:
    """Check that the budget is enough to train one expert.

    Raises:
        ConfigError: If it is not.
    """
    budget = config.search.budget_hours
    if budget is None or rate is None:
        return
    first = min(
        (own for trial in likely_trials(config, space)[0] for own in _of(config, trial)),
        key=lambda own: own.num_samples,
    )
    hours = rate.hours(first.num_samples, devices=config.cluster.devices_per_lane)
    if budget < hours:
        raise ConfigError(
            f"search.budget_hours={budget:g} is less than the root alone takes, {hours:.3g} hours: "
            f"{first.num_samples:,} samples at {rate.samples_per_s:.3g} a second ({rate.source}); "
            "give a larger one, or fewer samples"
        )


def _of(config: SearchConfig, overrides: Mapping[str, Any]) -> Sequence[Any]:
    return demands(trial_config(config, overrides))


def rate_of(config: BuildConfig) -> Rate | None:
    """Return the speed of stored experts, else one timed here; None if training is elsewhere."""
    stored = list(_stored_rates(config))
    if stored:
        mean = sum(stored) / len(stored)
        return Rate(samples_per_s=mean, source="the speed of experts in the store")
    if config.cluster.use_gpu or config.cluster.address is not None:
        return None
    return Rate(samples_per_s=_timed(config), source="one step was timed here")


def _stored_rates(config: BuildConfig) -> Iterator[float]:
    experts = Storage.open(config.store).sub("expert")
    wanted = {
        "backbone": to_dict(config.experts.backbone),
        "recipe": to_dict(config.experts.recipe),
    }
    for name in experts.list_files("DONE.json"):
        expert = experts.sub(name.rpartition("/")[0])
        try:
            spec = expert.done()["spec"]
            if all(spec.get(key) == own for key, own in wanted.items()):
                yield float(expert.read_json(LOG)["samples_per_s"])
        except ArtefactError:  # One that another job deletes or writes just now.
            continue


def _timed(config: BuildConfig) -> float:
    """Return the samples a second of a step on random images, after one step to warm up."""
    recipe = config.experts.recipe
    network = build_backbone(config.experts.backbone, fast=config.experts.adapter is None).train()
    images = torch.rand(recipe.batch_size, 3, recipe.patch_px, recipe.patch_px)
    seconds = 0.0
    with torch_threads(recipe.num_threads):
        for _ in range(2):
            begin = time.perf_counter()
            torch.autograd.backward((network(images) - images).abs().mean())
            seconds = time.perf_counter() - begin
    return recipe.batch_size / max(seconds, 1e-9)


def _lines(
    config: SearchConfig,
    space: Space,
    needed: TotalNeeded,
    rate: Rate | None,
    *,
    num_trials: int,
    are_all: bool,
) -> Iterator[str]:
    size = space.size()
    yield f"plan     {public(config.output)}, nothing is started"
    yield (
        f"space    {space.name}: "
        + ("infinitely many trials" if size is None else f"{size:,} trials")
        + f", {num_trials} of them by search.searcher={config.search.searcher}"
    )
    if config.search.searcher == "grid" and size is not None and num_trials < size:
        yield (
            f"         search.num_trials={num_trials} leaves the last {size - num_trials:,} out; "
            "null takes all"
        )
    kind = "" if are_all else "about, for as many random trials: "
    yield (
        f"experts  {kind}{needed.shared_experts} distinct at most, {needed.naive_experts} if each "
        "trial trained its own"
    )
    yield f"samples  {needed.shared_samples:,} at most, {needed.naive_samples:,} without sharing"
    if rate is None:
        yield "hours    not known: no expert of this network and recipe has been trained yet"
    else:
        devices = config.cluster.devices_per_lane
        shared, naive = (
            rate.hours(samples, devices=devices)
            for samples in (needed.shared_samples, needed.naive_samples)
        )
        wall = formatting.duration(shared * _SECONDS_AN_HOUR / devices / lanes_of(config.cluster))
        unit = "GPU" if config.cluster.use_gpu else "CPU"
        yield (
            f"hours    {shared:.3g} {unit}-hours at most, {naive:.3g} without sharing "
            f"({rate.source}); about {wall} on {lanes_of(config.cluster)} lanes"
        )
        yield "         trials that are stopped at a rung, and experts in the store, make it less"
    yield from _stored(config, space)


def _stored(config: SearchConfig, space: Space) -> Iterator[str]:
    """Yield lines on what is stored already, of the search and of what it needs."""
    state = SearchState(Storage.open(config.output))
    if state.trials:
        ended = sum(trial["end_s"] is not None for trial in state.trials.values())
        yield f"search   {ended} of {len(state.trials)} trials have ended; it would go on"
    base = load(BuildConfig, base_of(config))
    with quiet_bench(base, None) as bench:
        try:
            setup = make_setup(config, space, prepare(base, is_dry=True), bench, state.notes)
        except NotMadeError as missing:
            found = ", ".join(own.name for own in bench.times) or "nothing"
            yield f"stored   {found}; to make: {missing.stage}, and what follows from it"
            return
    trials = likely_trials(config, space)[0]
    done, known = plan_stored(setup, trials)
    yield f"stored   images, embeddings, and {done} of the {known} experts of trees that are known"
