"""A tracker that writes a file: one JSON object a line, pictures beside it."""

from collections.abc import Mapping
from pathlib import Path

from expertree.events import EventLog, read_events
from expertree.tracking.tracker import Gate, RunIdentity, json_number

SCALARS_FILE = "metrics.jsonl"
IMAGES_FOLDER = "images"


class JsonlTracker:
    """A tracker that appends to `metrics.jsonl`; `events.read_events` reads it back.

    The lines are `run` (name, group, sweep, config), `scalars` (step, values; null is NaN), `image`
    (step, name, the picture's path below the directory) and `finished` (error, or empty).
    """

    def __init__(self, identity: RunIdentity, directory: Path) -> None:
        """Begin a run in a directory of its own, or go on with it."""
        self._gate = Gate(identity.name)
        self._directory = directory
        self._log = EventLog(directory / SCALARS_FILE)
        self._log.emit(
            "run",
            name=identity.name,
            group=identity.group,
            sweep=identity.sweep,
            config=dict(identity.config),
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append the scalars of a step to the file."""
        checked = self._gate.scalars(step, scalars)
        values = {name: json_number(value) for name, value in checked.items()}
        self._log.emit("scalars", step=step, values=values)

    def image(self, step: int, name: str, png: bytes) -> None:
        """Write an image to a file of its own, and append its path."""
        data = self._gate.png(step, name, png)
        path = Path(IMAGES_FOLDER) / f"{name.replace('/', '-')}-{step}.png"
        (self._directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self._directory / path).write_bytes(data)
        self._log.emit("image", step=step, name=name, path=path.as_posix())

    def finish(self, error: str = "") -> None:
        """Append the end of the run, with its error; later calls do nothing."""
        if self._gate.close():
            self._log.emit("finished", error=error)


def is_finished(directory: Path) -> bool:
    """Return whether the run in a directory was finished the last time that it was begun."""
    events = read_events(directory / SCALARS_FILE)
    return bool(events) and events[-1]["event"] == "finished"
