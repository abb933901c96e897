"""One run of a search: make what its trials share, run them, and write down what they found."""

import contextlib
import dataclasses
import datetime as dt
import itertools
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune

from expertree.config import fingerprint, load, to_dict
from expertree.errors import ConfigError, ExpertreeError, TrainingError
from expertree.orchestration.cluster import num_lanes
from expertree.orchestration.lanes import open_lanes
from expertree.orchestration.run import run_build
from expertree.orchestration.runner import runner_of
from expertree.orchestration.search.registry import RegistryActor
from expertree.orchestration.search.tuning import (
    PER_TRIAL,
    ListedTrials,
    OptunaProposals,
    Proposals,
    TrialSource,
    run_trial,
)
from expertree.orchestration.search.writing import ABOUT, OnRecord, SearchWriter, Upkeep
from expertree.owners import Owner
from expertree.pipeline.build import prepare
from expertree.pipeline.claim import claimed
from expertree.pipeline.follow_training import tracking_folder
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.recorder import TRIALS, Recorder, recorded
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench
from expertree.repeating import repeating
from expertree.scheduling.dispatcher import NAMESPACE
from expertree.search.best import BEST, best_yaml, build_command
from expertree.search.draws import random_trials
from expertree.search.estimate import check_budget, rate_of
from expertree.search.followed import TrackedSearch, sweep_identity
from expertree.search.planning import SearchSetup
from expertree.search.record import Search, Trial
from expertree.search.settings import (
    SearchConfig,
    base_of,
    open_space,
    trial_config,
)
from expertree.search.setup import check_space, make_setup
from expertree.search.space import Space
from expertree.search.state import SearchState
from expertree.search.summary import SearchFacts, SearchStatus, best_trial, summarise
from expertree.storage import Storage
from expertree.tracking.sweep import open_sweep
from expertree.uris import public

_JOURNAL = "study.journal"
_SECONDS_BETWEEN_RECORDS = 2.0
_MAX_RESTARTS = 8
"""Most restarts of a trial whose process dies; a trial only waits, so a restart costs nothing."""


def run_search(config: SearchConfig, spaces: Path, on_record: OnRecord = lambda _: None) -> Search:
    """Run a search, or go on with one that was cut off.

    Args:
        config: Settings of the search.
        spaces: The folder of search spaces.
        on_record: Called with the record whenever it was written.

    Returns:
        The record, which is also in the output folder.

    Raises:
        ExpertreeError: If the search fails; says in one sentence what is wrong and what to do.
        TrainingError: If no trial was completed; the record is written before.
        KeyboardInterrupt: On SIGINT; the record is written before, and nothing is built.
    """
    space = open_space(config.search_space, spaces)
    check_space(config, space)
    if config.search.budget_hours is not None:
        check_budget(config, space, rate_of(trial_config(config, space.overrides({}))))
    material = prepare(load(BuildConfig, base_of(config)))
    output = Storage.open(config.output)
    with (
        claimed(output, Storage.open(config.store), name=config.cluster.owner) as keeper,
        recorded(
            output, "search", config.title, check=keeper.check, config=to_dict(config)
        ) as recorder,
    ):
        about, seconds_before = _about(config, space, output)
        state = SearchState(output, devices_per_lane=config.cluster.devices_per_lane)
        writer = SearchWriter(
            about, output, begin_s=time.time() - seconds_before, on_record=on_record
        )
        writer.tracked = _track(config, space, about)
        try:
            _search(config, space, material, state, writer, recorder=recorder, owner=keeper.owner)
        except KeyboardInterrupt:
            with contextlib.suppress(ExpertreeError):  # the interruption is what is told
                keeper.check()
                _conclude(config, output, writer, is_interrupted=True)
            raise
        return _conclude(config, output, writer)


def _conclude(
    config: SearchConfig, output: Storage, writer: SearchWriter, *, is_interrupted: bool = False
) -> Search:
    """Write the last record and the best tree, which is built if that was asked for.

    Raises:
        TrainingError: If no trial was completed.
    """
    found = SearchState(output, devices_per_lane=config.cluster.devices_per_lane)
    found.refresh()
    trials = [trial for _, trial in sorted(found.trials.items())]
    status = "interrupted" if is_interrupted else _status_of(trials)
    record = writer.write(trials, found.experts(), status)
    best = _write_best(config, output, trials)
    if best is not None and config.search.build_best and not is_interrupted:
        run_build(best)
    if writer.tracked is not None:
        writer.tracked.close(record)
    if best is None and not is_interrupted:
        raise TrainingError(_nothing_completed(trials))
    return record


def _nothing_completed(trials: Sequence[Trial]) -> str:
    """Return what to say of trials of which none was completed."""
    failed = [trial for trial in trials if trial["status"] == "failed"]
    told = failed or trials
    if not told:
        return "the search had no trial; raise search.num_trials"
    first = told[0]
    return (
        f"no trial of the search was completed, {len(failed)} of {len(trials)} failed; trial "
        f"{first['number']}, {first['shape']}, {first['status']}: "
        f"{first['reason'] or 'no reason is known'}; the same command tries them again"
    )


def _search(
    config: SearchConfig,
    space: Space,
    material: Material,
    state: SearchState,
    writer: SearchWriter,
    *,
    recorder: Recorder,
    owner: Owner,
) -> None:
    """Make what the trials share, and run them."""
    output, events = Storage.open(config.output), recorder.events
    again = state.begin_again()
    bench = Workbench(
        store=Storage.open(config.store),
        events=events,
        runner=runner_of(config.cluster, events),
        on_stage=recorder.on_stage,
        owner=owner,
    )
    with bench:
        setup = make_setup(config, space, material, bench, state.notes)
        recorder.view.close()  # each trial gets a line from here on
        bench.runner.open()
        proposals = _proposals(config, space, output, state)
        begin = time.time()
        events.emit("stage_started", stage=TRIALS, cached=False)
        _run_trials(config, space, setup, again, proposals, writer)
        seconds = round(time.time() - begin, 3)
        events.emit("stage_done", stage=TRIALS, seconds=seconds, cached=False)


def _track(config: SearchConfig, space: Space, about: SearchFacts) -> TrackedSearch | None:
    """Open the tracked runs of the search's trials; None if nothing is tracked."""
    folder = tracking_folder(config.tracking, config.output)
    if folder is None:
        return None
    begun = summarise(about, [], [], status="running", seconds=0.0)
    identity = sweep_identity(begun, space.ranges())
    return TrackedSearch(open_sweep(config.tracking, identity, Path(folder)))


def _status_of(trials: Sequence[Trial]) -> SearchStatus:
    """Return how a search ended whose trials have ended or were cut off."""
    if any(trial["status"] in ("waiting", "running") for trial in trials):
        return "interrupted"
    lets_on = [not trial["reached"] or trial["reached"][-1]["goes_on"] for trial in trials]
    out_of_budget = [
        trial["status"] == "stopped" and on for trial, on in zip(trials, lets_on, strict=True)
    ]
    return "stopped" if any(out_of_budget) else "done"


def _start_registry(config: SearchConfig, setup: SearchSetup, name: str, *, begin_s: float) -> Any:  # noqa: ANN401 - see `Handle`
    """Start the registry as an actor; it finds the dispatcher under the name `lanes-{name}`."""
    packed: bytes = cloudpickle.dumps(setup)  # type: ignore[no-untyped-call]
    actor = ray.remote(RegistryActor).options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=1000,
        # Not in a trial's placement group, where its tasks would never find room.
        scheduling_strategy="DEFAULT",
    )
    return actor.remote(
        packed,
        f"lanes-{name}",
        output=Storage.open(config.output),
        fractions=config.search.fractions,
        reduction=config.search.reduction,
        budget_hours=config.search.budget_hours,
        devices_per_lane=config.cluster.devices_per_lane,
        begin_s=begin_s,
    )


def _run_trials(
    config: SearchConfig,
    space: Space,
    setup: SearchSetup,
    again: list[Trial],
    proposals: Proposals,
    writer: SearchWriter,
) -> None:
    settings = config.search
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # whose tables come at any verbosity
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # with which `fit` would return as if done
    name = f"registry-{uuid.uuid4().hex[:8]}"
    lanes = open_lanes(
        (),
        count=num_lanes(config.cluster),
        config=config.cluster,
        directory=Storage.open(config.store).sub("lanes", name),
        name=f"lanes-{name}",
    )
    with lanes as pool, tempfile.TemporaryDirectory(prefix="expertree-tune-") as folder:
        registry = _start_registry(config, setup, name, begin_s=writer.begin_s)
        source = TrialSource(
            again,
            proposals,
            overrides_of=space.overrides,
            registry=name,
            num_rungs=len(settings.fractions),
        )
        tuner = tune.Tuner(
            tune.with_resources(run_trial, PER_TRIAL),
            tune_config=tune.TuneConfig(
                search_alg=source,
                num_samples=len(again) + settings.most_trials(space.size()),
                max_concurrent_trials=settings.concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_MAX_RESTARTS),
            ),
        )
        try:
            upkeep = Upkeep(registry, pool, writer)
            with repeating(upkeep.look, _SECONDS_BETWEEN_RECORDS):
                tuner.fit()
        finally:
            ray.kill(registry)


def _proposals(
    config: SearchConfig, space: Space, output: Storage, state: SearchState
) -> Proposals:
    settings, known = config.search, list(state.trials.values())
    numbers = [trial["number"] for trial in known]
    most = settings.most_trials(space.size())
    if settings.searcher == "grid":
        return ListedTrials(list(itertools.islice(space.grid(), most)), numbers)
    if settings.searcher == "random":
        return ListedTrials(random_trials(space, most, seed=settings.seed), numbers)
    if "://" in output.uri:
        raise ConfigError(
            f"search.searcher=optuna keeps its study in a file, and output={output.where()} is no "
            "folder; give one, or search.searcher=random"
        )
    return OptunaProposals(
        space,
        journal=output.path(_JOURNAL),
        name=space.name,
        seed=settings.seed,
        num_trials=most,
        known=known,
    )


def _about(config: SearchConfig, space: Space, output: Storage) -> tuple[SearchFacts, float]:
    """Return what the record says of the search, and the seconds that earlier starts took.

    Raises:
        ConfigError: If another search is in the folder.
    """
    settings = config.search
    base = base_of(config)
    for name in ("title", "output", "cluster", "tracking", "dry_run", "num_examples", "store"):
        del base[name]
    key = fingerprint(
        [base, to_dict(space), settings.searcher, list(settings.fractions), settings.seed]
    )
    before: Mapping[str, Any] = {
        "key": key,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "num_starts": 0,
        "seconds": 0.0,
    }
    if output.exists(ABOUT):
        before = output.read_json(ABOUT)
        if before["key"] != key:
            raise ConfigError(
                f"{output.where()} holds another search (other space, images, experts or rungs); "
                "give another output, or the same configuration as before to go on with it"
            )
    now = {**before, "num_starts": before["num_starts"] + 1}
    output.write_json(ABOUT, now)
    size = space.size()
    about = SearchFacts(
        title=config.title,
        space=space.name,
        searcher=settings.searcher,
        created=now["created"],
        commit=source_commit(),
        num_starts=now["num_starts"],
        size=size,
        num_trials=settings.most_trials(size),
        fractions=settings.fractions,
        budget_hours=settings.budget_hours,
        best_command=build_command(public(config.output)),
        unit="GPU" if config.cluster.use_gpu else "CPU",
    )
    return about, float(now["seconds"])


def _write_best(
    config: SearchConfig, output: Storage, trials: Sequence[Trial]
) -> BuildConfig | None:
    """Write the best tree's configuration, and return that of its build; None without a tree."""
    best = best_trial(trials)
    if best is None:
        return None
    found = dataclasses.replace(
        trial_config(config, best["overrides"]),
        title=f"{best['shape']}, the best of {config.title[:1].lower()}{config.title[1:]}",
        output=Storage(config.output).sub("best").uri,
    )
    shown = load(BuildConfig, public(to_dict(found)))
    command = build_command(public(config.output))
    output.write_bytes(BEST, best_yaml(shown, best, command=command).encode())
    owner = config.cluster.owner  # under its own name it would take over from this search
    cluster = dataclasses.replace(found.cluster, owner=owner and f"{owner}-best")
    return dataclasses.replace(found, cluster=cluster)
