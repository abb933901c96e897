"""What a run tells the outside while it goes on."""

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
    """Where a run's scalars and images go."""

    backend: str = "null"
    """`null` keeps nothing, `jsonl` writes a file, `wandb` is Weights & Biases."""

    project: str = "expertree"
    """W&B's project."""

    mode: str = "offline"
    """W&B's mode: `offline` needs no account and no network; `wandb sync` sends it later."""

    directory: str | None = None
    """Where runs keep their files: a folder that every node can write. Null: `tracking` in the
    output folder, where that is one."""

    sweep: str | None = None
    """W&B's sweep that a search's trials belong to, made before with `wandb sweep`. Null: `online`
    makes one; W&B gives sweeps their names at its server alone, so `offline` has none until its
    runs are sent (`expertree dashboard`)."""

    images_every_samples: int = 4096
    """Pictures of restored training patches come this often, at checkpoints; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse names that do not exist."""
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
    """What a tracker calls a run.

    Attributes:
        name: For people.
        id: The same when the run is gone on with; empty for a new one each time.
        group: Runs of one search or one tree share it; empty for none.
        sweep: The W&B sweep it belongs to; empty for none.
        config: What the run was made from, as plain data.
    """

    name: str
    id: str = ""
    group: str = ""
    sweep: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Tracker(Protocol):
    """Takes a run's scalars and images. Every backend accepts and refuses the same calls."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record numbers.

        Args:
            step: Where on the run's axis; may repeat and need not grow by one.
            scalars: Numbers by name, a dotted path such as `experts.loss`; NaN is allowed.

        Raises:
            TypeError: A value is not a number.
            ValueError: The step is negative, or the run is finished.
        """
        ...

    def image(self, step: int, name: str, png: bytes) -> None:
        """Record a picture.

        Args:
            step: As in `log`.
            name: As the names of scalars.
            png: The PNG file.

        Raises:
            ValueError: The step is negative, the bytes are no PNG, or the run is finished.
        """
        ...

    def finish(self, error: str = "") -> None:
        """Write what is left and close the run. May be repeated.

        Args:
            error: Why it failed, in a sentence; empty if it did not.
        """
        ...


class Gate:
    """The checks that all backends share: one tracker has one gate."""

    def __init__(self, name: str) -> None:
        """Open the gate of the run with this name."""
        self._name = name
        self._is_open = True

    def scalars(self, step: int, scalars: Mapping[str, object]) -> dict[str, float]:
        """Check a call of `log`; gives plain floats."""
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
        """Check a call of `image`."""
        self._check(step)
        if not png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError(f"run '{self._name}': image '{name}' is not a PNG file")
        return png

    def close(self) -> bool:
        """Close the gate; whether it was open."""
        was_open, self._is_open = self._is_open, False
        return was_open

    def _check(self, step: int) -> None:
        if not self._is_open:
            raise ValueError(f"run '{self._name}' is finished and takes nothing more")
        if step < 0:
            raise ValueError(f"run '{self._name}': step {step} is negative")


class NullTracker:
    """Keeps nothing, but refuses what every tracker refuses."""

    def __init__(self, identity: RunIdentity) -> None:
        """Begin a run."""
        self._gate = Gate(identity.name)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._gate.scalars(step, scalars)

    def image(self, step: int, name: str, png: bytes) -> None:
        """See `Tracker`."""
        self._gate.png(step, name, png)

    def finish(self, error: str = "") -> None:  # noqa: ARG002 - the interface's
        """See `Tracker`."""
        self._gate.close()


def json_number(value: float) -> float | None:
    """A number as JSON has it: NaN and infinity are null."""
    return value if math.isfinite(value) else None
