"""One expert's training: from patches to a stored network, resumable to the bit."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expertree.errors import ArtefactError, TrainingError
from expertree.experts.backbones import build_backbone, resolve_backbone
from expertree.experts.checkpoints import Checkpoint, Checkpoints
from expertree.experts.flat import FlatParameters
from expertree.experts.losses import LOSSES
from expertree.experts.memory import keep_freed_memory
from expertree.experts.patches import PairedPatches
from expertree.experts.published import load_published
from expertree.experts.recipe import ExpertJob, learning_rate_at
from expertree.experts.sampling import draw_batch
from expertree.experts.weights import load_weights, read_card, save_expert
from expertree.storage import Storage

OnProgress = Callable[[Mapping[str, Any]], None]

LOG = "log.json"

_CURVE_POINTS = 100
_SECONDS_BETWEEN_REPORTS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertResult:
    """What a training gave.

    Attributes:
        key: Of the job.
        num_samples: Samples seen.
        loss: Mean over the last hundredth of the training.
        seconds: Time in the loop, all attempts that led here together.
        sha256: Of the weights' file.
    """

    key: str
    num_samples: int
    loss: float
    seconds: float
    sha256: str


def train_expert(
    job: ExpertJob,
    *,
    patches: PairedPatches,
    directory: Storage,
    on_progress: OnProgress | None = None,
    device: str = "cpu",
) -> ExpertResult:
    """Train one expert and write it to a directory.

    A training that was interrupted goes on from its newest valid checkpoint in `directory`. On
    a CPU the weights are then the same, bit for bit, as without the interruption. The directory is
    not committed: that is up to the caller, who knows what the patches were.

    Args:
        job: The network, the recipe, the number of samples.
        patches: The node's samples.
        directory: Receives `expert.safetensors` (or `adapter.safetensors`), `expert.json` and
            `log.json`; checkpoints while the training runs.
        on_progress: Called about once a second, and at the end, with `samples`, `num_samples`,
            `loss` and `samples_per_s`; whatever it raises stops the training.
        device: Where to compute.

    Returns:
        Numbers about the training.

    Raises:
        TrainingError: If the loss is not finite, or there are no patches.
        ArtefactError: If patches or the initial weights cannot be read.
        StorageError: If the directory cannot be written.
    """
    if len(patches) == 0:
        raise TrainingError(f"expert {job.key} has no patches to train on")
    keep_freed_memory()
    checkpoints = Checkpoints(directory, job.fingerprint)
    with _threads(job.recipe.num_threads):
        training = _Training(job, patches, torch.device(device))
        training.resume(checkpoints.newest_valid())
        training.run(checkpoints, on_progress or (lambda _: None))
        result = training.finish(directory)
    checkpoints.clear()
    return result


class _Training:
    """The state of one training, and the steps that advance it."""

    def __init__(self, job: ExpertJob, patches: PairedPatches, device: torch.device) -> None:
        self.job, self.recipe = job, job.recipe
        self.patches, self.device = patches, device
        self.network, self.adapter = _beginning(job)
        self.network.to(device).train()
        self.flat = FlatParameters(self.network)
        self.optimizer = torch.optim.AdamW(
            [self.flat.vector],
            lr=self.recipe.learning_rate,
            betas=self.recipe.betas,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        self.average = self.flat.vector.detach().clone() if self.recipe.ema_decay > 0 else None
        self.num_seen = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, float]] = []
        self.window_loss = torch.zeros((), dtype=torch.float64, device=device)
        self.window_samples = 0

    def run(self, checkpoints: Checkpoints, on_progress: OnProgress) -> None:
        """Take the steps that are left."""
        interval = self.recipe.checkpoint_every_samples
        reported, reported_samples = time.perf_counter(), self.num_seen
        while self.num_seen < self.job.num_samples:
            started = time.perf_counter()
            before = self.num_seen
            self.step()
            now = time.perf_counter()
            self.seconds += now - started
            last = self.num_seen == self.job.num_samples
            if last or now - reported >= _SECONDS_BETWEEN_REPORTS:
                rate = (self.num_seen - reported_samples) / (now - reported)
                on_progress(self.status(rate))
                reported, reported_samples = now, self.num_seen
            if self.num_seen // interval > before // interval:
                checkpoints.save(self.checkpoint())

    def step(self) -> None:
        """See one batch and move the weights."""
        last = min(self.num_seen + self.recipe.batch_size, self.job.num_samples)
        positions = range(self.num_seen, last)
        lq, gt = draw_batch(
            self.patches,
            positions,
            patch_px=self.recipe.patch_px,
            augment=self.recipe.augment,
            seed=self.job.seed,
        )
        lq, gt = lq.to(self.device), gt.to(self.device)
        self.flat.clear_gradients()
        loss = LOSSES[self.recipe.loss](self.network(lq), gt)
        loss.backward()  # type: ignore[no-untyped-call]
        self._move()
        self._note(loss.detach(), last)

    def _move(self) -> None:
        if self.recipe.grad_clip > 0:
            self.flat.clip_gradients(self.recipe.grad_clip)
        rate = learning_rate_at(self.recipe, self.num_seen, self.job.num_samples)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if self.average is not None:
            self.average.lerp_(self.flat.vector.detach(), 1.0 - self.recipe.ema_decay)

    def _note(self, loss: Tensor, num_seen: int) -> None:
        """Add a step to the loss curve, whose points are a hundredth of the training apart."""
        count = num_seen - self.num_seen
        self.num_seen = num_seen
        self.window_loss += loss.double() * count
        self.window_samples += count
        width = max(self.recipe.batch_size, self.job.num_samples // _CURVE_POINTS)
        if self.window_samples >= width or num_seen == self.job.num_samples:
            self.curve.append((num_seen, self.mean_loss()))
            self.window_loss.zero_()
            self.window_samples = 0

    def mean_loss(self) -> float:
        """Mean loss since the last point of the curve.

        Raises:
            TrainingError: If it is not finite.
        """
        if self.window_samples == 0:
            return self.curve[-1][1]
        mean = float(self.window_loss) / self.window_samples
        if not math.isfinite(mean):
            raise TrainingError(
                f"expert {self.job.key}: the loss is {mean} after {self.num_seen} of "
                f"{self.job.num_samples} samples; lower recipe.learning_rate (now "
                f"{self.recipe.learning_rate}) or recipe.grad_clip"
            )
        return mean

    def status(self, samples_per_s: float) -> dict[str, Any]:
        """What `on_progress` gets."""
        return {
            "samples": self.num_seen,
            "num_samples": self.job.num_samples,
            "loss": self.mean_loss(),
            "samples_per_s": round(samples_per_s, 2),
        }

    def checkpoint(self) -> Checkpoint:
        """The state, to be written.

        Raises:
            TrainingError: If the loss is not finite: what follows from that is not worth keeping.
        """
        self.mean_loss()
        state = self.optimizer.state[self.flat.vector]
        tensors = {
            "parameters": self.flat.vector.detach(),
            "exp_avg": state["exp_avg"],
            "exp_avg_sq": state["exp_avg_sq"],
            "step": state["step"],
            "window_loss": self.window_loss,
        }
        if self.average is not None:
            tensors["average"] = self.average
        return Checkpoint(
            num_seen=self.num_seen,
            tensors={name: value.cpu() for name, value in tensors.items()},
            progress={
                "curve": self.curve,
                "window_samples": self.window_samples,
                "seconds": self.seconds,
            },
        )

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Continue from a checkpoint."""
        if checkpoint is None:
            return
        tensors = {name: value.to(self.device) for name, value in checkpoint.tensors.items()}
        self.flat.vector.data.copy_(tensors["parameters"])
        self.window_loss = tensors["window_loss"]
        self.optimizer.state[self.flat.vector] = {
            name: tensors[name] for name in ("step", "exp_avg", "exp_avg_sq")
        }
        if self.average is not None:
            self.average = tensors["average"]
        self.num_seen = checkpoint.num_seen
        self.curve = [(samples, loss) for samples, loss in checkpoint.progress["curve"]]
        self.window_samples = checkpoint.progress["window_samples"]
        self.seconds = checkpoint.progress["seconds"]

    def finish(self, directory: Storage) -> ExpertResult:
        """Write the expert and the log."""
        if self.average is not None:
            self.flat.vector.data.copy_(self.average)
        weights = self.network.state_dict() if self.job.adapter is None else self.adapter
        sha256 = save_expert(directory, weights, self.job)
        samples, losses = zip(*self.curve, strict=True)
        log = {
            "curve": {"samples": samples, "loss": losses},
            "num_samples": self.num_seen,
            "seconds": round(self.seconds, 3),
            "samples_per_s": round(self.num_seen / self.seconds, 2),
        }
        directory.write_json(LOG, log)
        return ExpertResult(
            key=self.job.key,
            num_samples=self.num_seen,
            loss=losses[-1],
            seconds=self.seconds,
            sha256=sha256,
        )


def _beginning(job: ExpertJob) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The network before the first step, and the adapter's part of it (nothing without one)."""
    network = _initial_network(job)
    if job.adapter is None:
        return network, {}
    from expertree.experts.lora import attach_adapter  # noqa: PLC0415 - seconds, and few need it

    with _seeded(job.seed):
        return network, attach_adapter(network, job.adapter)


def _initial_network(job: ExpertJob) -> nn.Module:
    """Fresh weights from the job's seed, or those that it starts from."""
    with _seeded(job.seed):
        network = build_backbone(job.backbone, fast=job.adapter is None)
    if job.published is not None:
        load_published(network, job.published)
    if job.init is None:
        return network
    parent = Storage.open(job.init)
    theirs = read_card(parent).backbone
    if theirs != resolve_backbone(job.backbone):
        raise ArtefactError(
            f"expert {job.key} is to start from {parent.uri}, which has another backbone: "
            f"{theirs}, not {job.backbone}"
        )
    load_weights(network, parent)
    return network


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator as from a new one, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
