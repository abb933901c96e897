"""Tracking of a search: each trial is a run of its own, and all belong to one sweep."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from expertree.errors import ArtefactError
from expertree.tracking.backends import is_finished, open_tracker
from expertree.tracking.tracker import RunIdentity, Tracker, TrackingConfig

SWEEP_FILE = "sweep.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SweepIdentity:
    """The id, name and parameters of a search, for a tracker.

    Attributes:
        search: Id of the search, the same when it is resumed; it groups the runs.
        name: Name for people.
        parameters: Searched parameters by dotted key: `values`, or `min` and `max`.
    """

    search: str
    name: str
    parameters: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A search whose trials are tracked, as plain values that can be sent to a trial's process.

    Attributes:
        config: The backend and its settings.
        identity: Id, name and parameters of the search.
        sweep: Id of the sweep at W&B; empty while it has none.
        directory: Folder with a folder for each trial's run; every node can write it.
    """

    config: TrackingConfig
    identity: SweepIdentity
    sweep: str
    directory: Path

    def run_id(self, number: int) -> str:
        """Return the id of a trial's run."""
        return f"{self.identity.search}-{number:04d}"

    def trial(self, number: int, name: str, config: Mapping[str, Any]) -> Tracker:
        """Begin the run of a trial, or begin it again, and return its tracker.

        Args:
            number: Number of the trial, from 0.
            name: Name for people.
            config: Chosen values, scalars by dotted key.

        Raises:
            TypeError: If a value is not a scalar; W&B's panels could not plot it.
        """
        for key, value in config.items():
            if not isinstance(value, str | int | float | bool | None):
                raise TypeError(f"trial {number}: '{key}' is {value!r}, which is not a scalar")
        return open_tracker(
            self.config,
            RunIdentity(
                name=name,
                id=self.run_id(number),
                group=self.identity.search,
                sweep=self.sweep,
                config=config,
            ),
            self._folder(number),
        )

    def unfinished(self, numbers: Iterable[int]) -> list[int]:
        """Return the numbers of those trials that have no complete, finished run file."""
        return [n for n in numbers if not is_finished(self.config, self._folder(n))]

    def _folder(self, number: int) -> Path:
        return self.directory / f"trial-{number:04d}"


def open_sweep(config: TrackingConfig, identity: SweepIdentity, directory: Path) -> Sweep:
    """Begin a sweep, or resume the one that the directory records.

    Args:
        config: The backend and its settings; online, W&B makes the sweep in this call.
        identity: Id, name and parameters of the search.
        directory: A folder that every node can write.

    Raises:
        ConfigError: If W&B is to be used online and there is no key.
        ArtefactError: If the directory belongs to another search.
    """
    sweep = _remembered(identity, directory) or config.sweep or ""
    if config.backend == "wandb" and config.mode == "online" and not sweep:
        from expertree.tracking.wandb import check_key, create_sweep  # noqa: PLC0415 - see backends

        check_key()
        sweep = create_sweep(config, identity.name, identity.parameters)
    if config.backend != "null":
        remember(identity, sweep, directory)
    return Sweep(config=config, identity=identity, sweep=sweep, directory=directory)


def remember(identity: SweepIdentity, sweep: str, directory: Path) -> None:
    """Write the id of a sweep and its search's identity to `sweep.json` in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    record = {"sweep": sweep, **dataclasses.asdict(identity)}
    part = directory / f"{SWEEP_FILE}.part"
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(directory / SWEEP_FILE)


def _remembered(identity: SweepIdentity, directory: Path) -> str:
    file = directory / SWEEP_FILE
    if not file.exists():
        return ""
    record = json.loads(file.read_text())
    if record["search"] != identity.search:
        raise ArtefactError(
            f"{directory} has the runs of search {record['search']}, and this is "
            f"{identity.search}; give another tracking.directory"
        )
    return str(record["sweep"])
