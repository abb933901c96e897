"""The interface of trackers, which record a run's scalars and images."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, Protocol

from expertree.errors import ConfigError

BACKENDS = ("null", "jsonl", "wandb")
MODES = ("offline", "online")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Settings of where a run's scalars and images go."""

    backend: str | None = "null"
    """`null` keeps nothing, `jsonl` writes a file, `wandb` is Weights & Biases."""

    project: str = "expertree"
    """The W&B project."""

    mode: str = "offline"
    """W&B's mode: `offline` needs no account and no network; `wandb sync` sends runs later."""

    directory: str | None = None
    """Folder for the runs' files, which every node can write. Null: `tracking` in the output, which
    must then be a folder."""

    sweep: str | None = None
    """The W&B sweep of a search's trials, made before with `wandb sweep`. Null: `online` makes one;
    `offline` has none until its runs are sent (`expertree dashboard`), because only W&B's server
    names sweeps."""

    images_every_samples: int = 4096
    """Samples between images of restored training patches, taken at checkpoints; 0 for none."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown backend or mode, or a negative number of samples."""
        if self.backend is None:  # what YAML and command lines read in `null`
            object.__setattr__(self, "backend", "null")
        for field, known in (("backend", BACKENDS), ("mode", MODES)):
            value = getattr(self, field)
            if value not in known:
                raise ConfigError(
                    f"tracking.{field} is '{value}'; choose one of {', '.join(known)}"
                )
        if self.images_every_samples < 0:
            raise ConfigError(
                f"tracking.images_every_samples must be at least 0, got {self.images_every_samples}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """The name, id, group and config of a run, for a tracker.

    Attributes:
        name: Name for people.
        id: Id that stays the same when the run is resumed; empty for a new one each time.
        group: Name that runs of one search or one tree share; empty for none.
        sweep: The W&B sweep it belongs to; empty for none.
        config: Configuration of the run, as plain data.
    """

    name: str
    id: str = ""
    group: str = ""
    sweep: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Tracker(Protocol):
    """A recorder of a run's scalars and images. All backends accept and refuse the same calls."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record scalars at a step.

        Args:
            step: Position on the run's axis; may repeat and need not grow by one.
            scalars: Numbers by name, a dotted path such as `experts.loss`; NaN is allowed.

        Raises:
            TypeError: If a value is not a number.
            ValueError: If the step is negative, or the run is finished.
        """
        ...

    def image(self, step: int, name: str, png: bytes) -> None:
        """Record an image at a step.

        Args:
            step: Position on the run's axis, as in `log`.
            name: Name of the image, a dotted path like those of scalars.
            png: The PNG file.

        Raises:
            ValueError: If the step is negative, the bytes are no PNG, or the run is finished.
        """
        ...

    def finish(self, error: str = "") -> None:
        """Write what is left and close the run. May be called again.

        Args:
            error: Reason for a failure, in a sentence; empty if there was none.
        """
        ...


class Gate:
    """The checks that all backends share: one tracker has one gate."""

    def __init__(self, name: str) -> None:
        """Open the gate of the run with this name."""
        self._name = name
        self._is_open = True

    def scalars(self, step: int, scalars: Mapping[str, object]) -> dict[str, float]:
        """Check a call of `log`, and return its scalars as plain floats."""
        self._check(step)
        checked: dict[str, float] = {}
        for name, value in scalars.items():
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(
                    f"run '{self._name}': scalar '{name}' is {value!r}, which is not a number; "
                    "pictures go to image(), settings into the run's config"
                )
            checked[name] = float(value)
        return checked

    def png(self, step: int, name: str, png: bytes) -> bytes:
        """Check a call of `image`, and return its PNG file."""
        self._check(step)
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError(f"run '{self._name}': image '{name}' is not a PNG file")
        return png

    def close(self) -> bool:
        """Close the gate, and return whether it was open."""
        was_open, self._is_open = self._is_open, False
        return was_open

    def _check(self, step: int) -> None:
        if not self._is_open:
            raise ValueError(f"run '{self._name}' is finished and takes nothing more")
        if step < 0:
            raise ValueError(f"run '{self._name}': step {step} is negative")


class NullTracker:
    """A tracker that keeps nothing, but refuses what every tracker refuses."""

    def __init__(self, identity: RunIdentity) -> None:
        """Begin a run."""
        self._gate = Gate(identity.name)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Check the scalars and drop them."""
        self._gate.scalars(step, scalars)

    def image(self, step: int, name: str, png: bytes) -> None:
        """Check the image and drop it."""
        self._gate.png(step, name, png)

    def finish(self, error: str = "") -> None:  # noqa: ARG002 - the interface's
        """Close the run, which takes nothing more."""
        self._gate.close()


def json_number(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return value if math.isfinite(value) else None
