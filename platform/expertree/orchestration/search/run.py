"""One run of a search: make what its trials share, run them, and write down what they found."""

import contextlib
import dataclasses
import datetime as dt
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayError

from expertree.config import fingerprint, load, to_dict
from expertree.errors import ConfigError, TrainingError
from expertree.events import EventLog
from expertree.orchestration.cluster import num_lanes
from expertree.orchestration.lanes import LanePool, open_lanes
from expertree.orchestration.run import Recorder, run_build
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
from expertree.pipeline.build import prepare
from expertree.pipeline.follow_training import tracking_folder
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.settings import BuildConfig
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
from expertree.search.write import write_search
from expertree.storage import Storage
from expertree.tracking.sweep import open_sweep

RECORD = "search.json"
_ABOUT = "about.json"
_JOURNAL = "study.journal"
_SECONDS_BETWEEN_RECORDS = 2.0
_SECONDS_BETWEEN_PAGES = 30.0
_MAX_RESTARTS = 8
"""Most restarts of a trial whose process dies; a trial only waits, so a restart costs nothing."""

OnRecord = Callable[[Search], None]


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
    """
    space = open_space(config.search_space, spaces)
    check_space(config, space)
    if config.search.budget_hours is not None:
        check_budget(config, space, rate_of(trial_config(config, space.fixed)))
    material = prepare(load(BuildConfig, base_of(config)))
    output = Storage.open(config.output)
    about, seconds_before = _about(config, space, output)
    state = SearchState(output, workers_per_lane=config.cluster.workers_per_lane)
    again = state.begin_again()
    begin_s = time.time() - seconds_before
    writer = _Writer(about, output, begin_s=begin_s, on_record=on_record)
    writer.tracked = _track(config, space, about)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="expertree-")))
        recorder = Recorder(config.title, EventLog(folder / "events.jsonl"))
        bench = Workbench(
            store=Storage.open(config.store),
            events=EventLog(folder / "events.jsonl"),
            runner=runner_of(config.cluster),
            on_stage=recorder.on_stage,
        )
        stack.enter_context(bench)
        with recorder.view:
            setup = make_setup(config, space, material, bench, state.notes)
        bench.runner.open()
        proposals = _proposals(config, space, output, state)
        _run_trials(config, space, setup, again, proposals, writer)
    found = SearchState(output, workers_per_lane=config.cluster.workers_per_lane)
    found.refresh()
    trials = [trial for _, trial in sorted(found.trials.items())]
    record = writer.write(trials, found.experts(), _status_of(trials))
    _write_best(config, output, trials)
    if writer.tracked is not None:
        writer.tracked.close(record)
    return record


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
        workers_per_lane=config.cluster.workers_per_lane,
        begin_s=begin_s,
    )


def _run_trials(
    config: SearchConfig,
    space: Space,
    setup: SearchSetup,
    again: list[Trial],
    proposals: Proposals,
    writer: "_Writer",
) -> None:
    settings = config.search
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # whose tables come at any verbosity
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
                num_samples=len(again) + settings.num_trials,
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
            upkeep = _Upkeep(registry, pool, writer)
            with repeating(upkeep.look, _SECONDS_BETWEEN_RECORDS):
                tuner.fit()
        finally:
            ray.kill(registry)


class _Writer:
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
        record = summarise(
            self._about, trials, experts, status=status, seconds=time.time() - self.begin_s
        )
        self._output.write_json(RECORD, record)
        about = self._output.read_json(_ABOUT)
        self._output.write_json(_ABOUT, {**about, "seconds": record["seconds"]})
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


class _Upkeep:
    """Writes the record while trials run, and keeps lanes running."""

    def __init__(self, registry: Any, pool: LanePool, writer: _Writer) -> None:  # noqa: ANN401
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
            self._pool.start_missing_lanes(self._pool.room, num_done=self._pool.num_done())
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


def _proposals(
    config: SearchConfig, space: Space, output: Storage, state: SearchState
) -> Proposals:
    settings, known = config.search, list(state.trials.values())
    numbers = [trial["number"] for trial in known]
    if settings.searcher == "grid":
        return ListedTrials(list(space.grid())[: settings.num_trials], numbers)
    if settings.searcher == "random":
        return ListedTrials(random_trials(space, settings.num_trials, seed=settings.seed), numbers)
    if "://" in output.uri:
        raise ConfigError(
            f"search.searcher=optuna keeps its study in a file, and output={config.output} is no "
            "folder; give one, or search.searcher=random"
        )
    return OptunaProposals(
        space,
        journal=output.path(_JOURNAL),
        name=space.name,
        seed=settings.seed,
        num_trials=settings.num_trials,
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
    if output.exists(_ABOUT):
        before = output.read_json(_ABOUT)
        if before["key"] != key:
            raise ConfigError(
                f"{output.path()} holds another search (other space, images, experts or rungs); "
                "give another output, or the same configuration as before to go on with it"
            )
    now = {**before, "num_starts": before["num_starts"] + 1}
    output.write_json(_ABOUT, now)
    size = space.size()
    wanted = settings.num_trials
    if settings.searcher == "grid" and size is not None:
        wanted = min(wanted, size)
    about = SearchFacts(
        title=config.title,
        space=space.name,
        searcher=settings.searcher,
        created=now["created"],
        commit=source_commit(),
        num_starts=now["num_starts"],
        size=size,
        num_trials=wanted,
        fractions=settings.fractions,
        budget_hours=settings.budget_hours,
        best_command=build_command(config.output),
        unit="GPU" if config.cluster.use_gpu else "CPU",
    )
    return about, float(now["seconds"])


def _write_best(config: SearchConfig, output: Storage, trials: list[Trial]) -> None:
    """Write the best tree's configuration, and build it if that was asked for."""
    best = best_trial(trials)
    if best is None:
        return
    found = dataclasses.replace(
        trial_config(config, best["overrides"]),
        title=f"{best['shape']}, the best of {config.title[:1].lower()}{config.title[1:]}",
        output=Storage(config.output).sub("best").uri,
    )
    output.write_bytes(BEST, best_yaml(found, best, command=build_command(config.output)).encode())
    if config.search.build_best:
        run_build(found)
