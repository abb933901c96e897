"""The record of a training: how far it is, its loss curve, its time, and what happened."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expertree.training.checkpoints import Checkpoint

LOG = "log.json"

_WINDOW_LOSS = "window_loss"


class NotFiniteError(Exception):
    """The loss or a weight is not finite any more."""


class Record:
    """What is known of a training besides the state of its network.

    Attributes:
        num_seen: Samples seen.
        seconds: Time in the training loop, in all attempts that led here.
        waited_s: Part of this time in which steps waited for data.
        curve: Samples seen and mean loss since the point before.
        curve_s: Seconds before the last step of each point.
        rate_scale: Factor on the planned learning rate; lower after going back to a checkpoint.
        notes: Events of the training, for the log.
    """

    def __init__(self, *, num_samples: int, curve_every: int) -> None:
        """Start before the first step.

        Args:
            num_samples: Samples that the training will see.
            curve_every: Samples from one point of the curve to the next, at least.
        """
        self._num_samples, self._curve_every = num_samples, curve_every
        self.num_seen = 0
        self.seconds = 0.0
        self.waited_s = 0.0
        self.curve: list[tuple[int, float]] = []
        self.curve_s: list[float] = []
        self.rate_scale = 1.0
        self.notes: list[str] = []
        self._window_loss = torch.zeros((), dtype=torch.float64)
        self._window_samples = 0

    @property
    def is_over(self) -> bool:
        """Whether all samples have been seen."""
        return self.num_seen >= self._num_samples

    @property
    def loss(self) -> float:
        """The loss of the curve's last point, or before it the mean loss; it may be not finite."""
        if self.curve:
            return self.curve[-1][1]
        return float(self._window_loss) / self._window_samples

    def note(self, event: str) -> None:
        """Add an event to the notes."""
        self.notes.append(event)

    def count(self, loss: Tensor, num_samples: int) -> None:
        """Count a step, and add it to the loss curve.

        Args:
            loss: Mean loss of the step.
            num_samples: Samples that it saw.

        Raises:
            NotFiniteError: If a point of the curve is due and is not finite.
        """
        self.num_seen += num_samples
        # Where the losses are, so that not every step waits for its loss.
        self._window_loss = self._window_loss.to(loss.device) + loss.double() * num_samples
        self._window_samples += num_samples
        if self._window_samples >= self._curve_every or self.is_over:
            self.curve.append((self.num_seen, self._mean_loss()))
            self.curve_s.append(round(self.seconds, 3))
            self._window_loss = torch.zeros_like(self._window_loss)
            self._window_samples = 0

    def checkpoint(self, tensors: Mapping[str, Tensor]) -> Checkpoint:
        """Return the record as a checkpoint, together with a network's tensors.

        Raises:
            NotFiniteError: If the loss is not finite: such a state is not worth keeping.
        """
        self._mean_loss()
        all_tensors = {**tensors, _WINDOW_LOSS: self._window_loss}
        return Checkpoint(
            num_seen=self.num_seen,
            tensors={name: value.cpu().contiguous() for name, value in all_tensors.items()},
            progress={
                "curve": self.curve,
                "curve_s": self.curve_s,
                "window_samples": self._window_samples,
                "seconds": self.seconds,
                "waited_s": self.waited_s,
                "rate_scale": self.rate_scale,
                "notes": self.notes,
            },
        )

    def resume(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """Restore the record from a checkpoint; return the network's tensors."""
        tensors = dict(checkpoint.tensors)
        self._window_loss = tensors.pop(_WINDOW_LOSS)
        progress = checkpoint.progress
        self.num_seen = checkpoint.num_seen
        self.curve = [(samples, loss) for samples, loss in progress["curve"]]
        self.curve_s = list(progress.get("curve_s", (0.0,) * len(self.curve)))
        self._window_samples = progress["window_samples"]
        self.seconds = progress["seconds"]
        self.waited_s = progress["waited_s"]
        self.rate_scale = progress["rate_scale"]
        self.notes = list(progress["notes"])
        return tensors

    def log(self) -> dict[str, Any]:
        """Return what `log.json` tells of a training that took a step at least."""
        samples, losses = zip(*self.curve, strict=True)
        return {
            "curve": {"samples": samples, "loss": losses},
            "curve_s": self.curve_s,
            "num_samples": self.num_seen,
            "seconds": round(self.seconds, 3),
            "samples_per_s": round(self.num_seen / self.seconds, 2),
            "waited_share": round(self.waited_s / self.seconds, 4),
            "notes": self.notes,
        }

    def _mean_loss(self) -> float:
        """Return the mean loss since the curve's last point; raise NotFiniteError if not finite."""
        if self._window_samples == 0:
            return self.curve[-1][1]
        mean = float(self._window_loss) / self._window_samples
        if not math.isfinite(mean):
            raise NotFiniteError
        return mean
