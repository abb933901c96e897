"""Stages: results that are stored by the hash of what made them, and made at most once."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from expertree.config import fingerprint
from expertree.errors import ArtefactError
from expertree.events import EventLog
from expertree.owners import Owner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.held import make_held
from expertree.pipeline.runner import Runner
from expertree.storage import NOTHING_WRITTEN, Storage, Written

logger = logging.getLogger(__name__)

K = TypeVar("K")

VERSIONS: Mapping[str, int] = {
    "degrade": 2,
    "extractor": 1,
    "embed": 2,
    "tree": 1,
    "shard": 1,
    "expert": 1,
    "snapshot": 1,
    "score": 1,
    "classical": 1,
    "router": 7,
    "judge": 2,
    "choices": 1,
    "latency": 1,
    "evaluate": 7,
    "window": 1,
    "bundle": 3,
}
"""Version of each stage's code. Raise it when the same inputs would give another result; any other
edit of the code leaves the stored results of the stage valid."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StageTime:
    """The seconds that a stage took, and whether its result was found in the store."""

    name: str
    seconds: float
    cached: bool


class NotMadeError(Exception):
    """Raised when a dry run needs results that are not in the store.

    Attributes:
        stage: The first stage that would make something.
        experts: Plans of the tree's experts, where the tree is known; see `ExpertPlan`.
    """

    def __init__(self, stage: str, experts: Sequence[Any] = ()) -> None:
        super().__init__(stage)
        self.stage, self.experts = stage, experts


class Workbench:
    """The store, the event log and the runner that a build works with.

    Args:
        store: Root of all stored results.
        events: The run's event log.
        runner: Runner that does the work; closed at the end.
        on_stage: Called as each stage goes on: name, state, units done, units in all.
        owner: Job in whose name results are held while they are made; None where no other job
            uses the store.
        is_dry: Whether to raise `NotMadeError` where something would be made.
    """

    def __init__(
        self,
        *,
        store: Storage,
        events: EventLog,
        runner: Runner,
        on_stage: Callable[[str, str, int, int], None],
        owner: Owner | None = None,
        is_dry: bool = False,
    ) -> None:
        self.is_dry = is_dry
        self.owner = owner
        self.store = store
        self.events = events
        self.runner = runner
        self.times: list[StageTime] = []
        self._waited: set[tuple[str, str]] = set()
        self._on_stage = on_stage

    def __enter__(self) -> Self:
        """Return the workbench, nothing started: a build that finds all results needs no Ray."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the runner."""
        self.runner.close()

    @property
    def cluster(self) -> ClusterConfig:
        """The settings of the resources that the runner may use."""
        return self.runner.cluster

    @property
    def lanes(self) -> Storage:
        """The directory where Ray Train keeps the state of lanes while they run."""
        return self.store.sub("lanes")

    def place(self, stage: str, spec: Mapping[str, Any]) -> Storage:
        """Return the directory where a stage's result with this spec is, or will be, stored."""
        return self.store.sub(stage, stage_key(stage, spec))

    @contextlib.contextmanager
    def timed(self, name: str, *, cached: bool) -> Iterator[Callable[[int, int], None]]:
        """Announce, time and log a stage; yield a function to report units done and in all."""
        begin = time.time()
        self._on_stage(name, "running", 0, 0)
        self.events.emit("stage_started", stage=name, cached=cached)
        try:
            yield lambda done, total: self._on_stage(name, "running", done, total)
        except BaseException as error:
            self._on_stage(name, "failed", 0, 0)
            self.events.emit("stage_failed", stage=name, error=f"{type(error).__name__}: {error}")
            raise
        seconds = time.time() - begin
        self.times.append(StageTime(name=name, seconds=round(seconds, 3), cached=cached))
        self._on_stage(name, "cached" if cached else "done", 0, 0)
        self.events.emit("stage_done", stage=name, seconds=round(seconds, 3), cached=cached)

    def run(
        self,
        stage: str,
        spec: Mapping[str, Any],
        make: Callable[[Storage, Callable[[int, int], None]], Written | None],
    ) -> Storage:
        """Return the result of a stage, from the store or made and committed now.

        Args:
            stage: Name of the stage, a key of `VERSIONS`.
            spec: Everything that the result depends on, as plain data.
            make: Writes the result's files; goes on where files of a killed attempt are. May
                return the hashes of files that it wrote, which are then not read again.
        """

        def make_one(
            results: Mapping[str, Storage], on_done: Callable[[int, int], None]
        ) -> Mapping[Storage, Written]:
            return {results[stage]: make(results[stage], on_done) or NOTHING_WRITTEN}

        return self.run_many(stage, {stage: spec}, make_one)[stage]

    def run_many(
        self,
        stage: str,
        specs: Mapping[K, Mapping[str, Any]],
        make: Callable[
            [Mapping[K, Storage], Callable[[int, int], None]], Mapping[Storage, Written] | None
        ],
    ) -> dict[K, Storage]:
        """Return several results of one stage; those not in the store are made together.

        Args:
            stage: Name of the stage, a key of `VERSIONS`.
            specs: Everything that each result depends on, as plain data.
            make: Writes the files of the missing results; may commit some of them itself, and
                return the hashes of files that it wrote, by result.
        """
        results = {name: self.place(stage, spec) for name, spec in specs.items()}
        missing = {name: result for name, result in results.items() if not result.is_done()}
        if missing and self.is_dry:
            raise NotMadeError(stage)

        def make_some(mine: Mapping[K, Storage], on_done: Callable[[int, int], None]) -> None:
            written = make(mine, on_done) or {}
            for name, result in mine.items():
                if not result.is_done():
                    own = written.get(result, NOTHING_WRITTEN)
                    result.commit(dict(specs[name]), written=own)

        with self.timed(stage, cached=not missing) as on_done:
            if missing:
                make_held(
                    missing,
                    self.owner,
                    lambda mine: make_some(mine, on_done),
                    on_wait=lambda reason: self._wait(stage, reason),
                )
        return results

    def _wait(self, stage: str, reason: str) -> None:
        """Log once what a stage waits for."""
        if (stage, reason) not in self._waited:
            self._waited.add((stage, reason))
            self.events.emit("stage_waits", stage=stage, reason=reason)
            logger.warning("%s waits: %s", stage, reason)


def stage_key(stage: str, spec: Mapping[str, Any]) -> str:
    """Return the key of a result: a hash of the stage, the version of its code, and its spec."""
    return fingerprint({"stage": stage, "version": VERSIONS[stage], "spec": dict(spec)})


def key_of(result: Storage) -> str:
    """Return the key under which a result is stored."""
    return result.name


def sibling(result: Storage, stage: str, key: str) -> Storage:
    """Return the result of a stage by its key, in the same store as another result."""
    return result.above(2).sub(stage, key)


def check_whole(result: Storage) -> None:
    """Check that a result is finished and its files have the hashes they had then.

    Raises:
        ArtefactError: If it is not done, or a file differs from what was committed.
    """
    if not result.is_done():
        raise ArtefactError(f"{result.where()} is not finished")
    result.verify()
