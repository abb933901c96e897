"""The state of one expert's training: saved, restored, and written as an expert at the end."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from expertree.errors import ArtefactError
from expertree.experts.backbones import build_backbone, start_at_identity
from expertree.experts.checkpoints import Checkpoint
from expertree.experts.flat import FlatParameters
from expertree.experts.optimizers import Optimizer
from expertree.experts.published import load_published
from expertree.experts.recipe import ExpertJob, average_decay_at, rate_share_at
from expertree.experts.weights import load_weights, read_card, save_expert
from expertree.storage import Storage

LOG = "log.json"

_CURVE_POINTS = 100


class NotFiniteError(Exception):
    """The loss or a weight is not finite any more."""


class TrainingState:
    """Weights, optimiser, average and loss curve of one training.

    Attributes:
        network: The network; its trainable weights are views into `flat`.
        flat: These weights and their gradient as vectors.
        num_seen: Samples seen.
        seconds: Time in the training loop, in all attempts that led here.
        waited_s: Part of this time in which steps waited for data.
        curve: Samples seen and mean loss, a hundredth of the training apart.
        rate_scale: Factor on the recipe's learning rate; lower after going back to a checkpoint.
        notes: Events of the training, for the log.
    """

    def __init__(self, job: ExpertJob, device: torch.device) -> None:
        """Make the state before the first step.

        Raises:
            ArtefactError: If the weights that the job starts from cannot be read, or do not fit.
        """
        self._job, self._recipe, self._device = job, job.recipe, device
        self.network, self._adapter = _beginning(job)
        self.network.to(device).train()
        self.flat = FlatParameters(self.network)
        self._optimizer = Optimizer(self.network, self.flat, self._recipe)
        self._average = self.flat.vector.detach().clone() if self._recipe.ema_decay > 0 else None
        self.num_seen = 0
        self.seconds = 0.0
        self.waited_s = 0.0
        self.curve: list[tuple[int, float]] = []
        self._window_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._window_samples = 0
        self.rate_scale = 1.0
        self.notes: list[str] = []

    @property
    def is_over(self) -> bool:
        """Whether all samples have been seen."""
        return self.num_seen >= self._job.num_samples

    @property
    def learning_rate(self) -> float:
        """AdamW's learning rate in the last step."""
        return self._optimizer.learning_rate

    @property
    def shown_loss(self) -> float:
        """The loss of the curve's last point, or before it the mean loss; it may be not finite."""
        if self.curve:
            return self.curve[-1][1]
        return float(self._window_loss) / self._window_samples

    def move(self) -> None:
        """Move the weights along the gradient."""
        if self._recipe.grad_clip > 0:
            self.flat.clip_gradients(self._recipe.grad_clip)
        share = rate_share_at(self._recipe, self.num_seen, self._job.num_samples)
        self._optimizer.step(share * self.rate_scale)
        if self._average is not None:
            decay = average_decay_at(self._recipe, self.num_seen)
            self._average.lerp_(self.flat.vector.detach(), 1.0 - decay)

    def note_step(self, loss: Tensor, num_seen: int) -> None:
        """Count a step, and add it to the loss curve.

        Raises:
            NotFiniteError: If a point of the curve is due and is not finite.
        """
        count = num_seen - self.num_seen
        self.num_seen = num_seen
        self._window_loss += loss.double() * count
        self._window_samples += count
        width = max(self._recipe.batch_size, self._job.num_samples // _CURVE_POINTS)
        if self._window_samples >= width or self.is_over:
            self.curve.append((num_seen, self._mean_loss()))
            self._window_loss.zero_()
            self._window_samples = 0

    def checkpoint(self) -> Checkpoint:
        """Return the state as a checkpoint.

        Raises:
            NotFiniteError: If loss or weights are not finite: such a state is not worth keeping.
        """
        self._mean_loss()
        if not bool(self.flat.vector.isfinite().all()):
            raise NotFiniteError
        tensors = {
            "parameters": self.flat.vector.detach(),
            "window_loss": self._window_loss,
            **self._optimizer.state(),
        }
        if self._average is not None:
            tensors["average"] = self._average
        return Checkpoint(
            num_seen=self.num_seen,
            tensors={name: value.cpu() for name, value in tensors.items()},
            progress={
                "curve": self.curve,
                "window_samples": self._window_samples,
                "seconds": self.seconds,
                "waited_s": self.waited_s,
                "rate_scale": self.rate_scale,
                "notes": self.notes,
            },
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint."""
        tensors = {name: value.to(self._device) for name, value in checkpoint.tensors.items()}
        self.flat.vector.data.copy_(tensors["parameters"])
        self._window_loss = tensors["window_loss"]
        self._optimizer.resume(tensors)
        if self._average is not None:
            self._average = tensors["average"]
        progress = checkpoint.progress
        self.num_seen = checkpoint.num_seen
        self.curve = [(samples, loss) for samples, loss in progress["curve"]]
        self._window_samples = progress["window_samples"]
        self.seconds = progress["seconds"]
        self.waited_s = progress["waited_s"]
        self.rate_scale = progress["rate_scale"]
        self.notes = list(progress["notes"])

    def finish(self, directory: Storage) -> None:
        """Write the expert and the log."""
        if self._average is not None:
            self.flat.vector.data.copy_(self._average)
        weights = self.network.state_dict() if self._job.adapter is None else self._adapter
        save_expert(directory, weights, self._job, num_samples=self.num_seen)
        samples, losses = zip(*self.curve, strict=True)
        log = {
            "curve": {"samples": samples, "loss": losses},
            "num_samples": self.num_seen,
            "seconds": round(self.seconds, 3),
            "samples_per_s": round(self.num_seen / self.seconds, 2),
            "waited_share": round(self.waited_s / self.seconds, 4),
            "notes": self.notes,
        }
        directory.write_json(LOG, log)

    def _mean_loss(self) -> float:
        """Return the mean loss since the curve's last point; raise NotFiniteError if not finite."""
        if self._window_samples == 0:
            return self.curve[-1][1]
        mean = float(self._window_loss) / self._window_samples
        if not math.isfinite(mean):
            raise NotFiniteError
        return mean


def _beginning(job: ExpertJob) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Return the network before the first step, and its adapter's parameters (none without one)."""
    network = _initial_network(job)
    if job.adapter is None:
        return network, {}
    from expertree.experts.lora import attach_adapter  # noqa: PLC0415 - seconds, and few need it

    with _seeded(job.seed):
        return network, attach_adapter(network, job.adapter)


def _initial_network(job: ExpertJob) -> nn.Module:
    """Return a network with fresh weights from the job's seed, or those that the job names."""
    with _seeded(job.seed):
        network = build_backbone(job.backbone, fast=job.adapter is None)
    if job.published is not None:
        load_published(network, job.backbone, job.published)
    elif job.init is None and job.recipe.start == "identity":
        start_at_identity(network, job.backbone)
    if job.init is None:
        return network
    parent = Storage.open(job.init)
    theirs = read_card(parent).backbone
    if theirs != job.backbone:
        raise ArtefactError(
            f"expert {job.key} is to start from {parent.uri}, which has another backbone: "
            f"{theirs}, not {job.backbone}"
        )
    load_weights(network, parent)
    return network


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator while the context lasts, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
