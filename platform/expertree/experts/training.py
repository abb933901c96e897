"""One expert's training: from patches to a stored network, resumable to the bit."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from expertree.errors import ArtefactError, TrainingError
from expertree.experts.backbones import build_backbone, resolve_backbone
from expertree.experts.batches import Batch, Batches
from expertree.experts.checkpoints import Checkpoint, Checkpoints
from expertree.experts.flat import FlatParameters
from expertree.experts.gradients import Gradients
from expertree.experts.memory import keep_freed_memory
from expertree.experts.patches import PairedPatches
from expertree.experts.published import load_published
from expertree.experts.recipe import ExpertJob, learning_rate_at, sizes_at
from expertree.experts.sampling import draw_batch
from expertree.experts.weights import load_weights, read_card, save_expert
from expertree.experts.workers import ALONE, Workers
from expertree.storage import Storage

OnProgress = Callable[[Mapping[str, Any]], None]

OnCheckpoint = Callable[[int, nn.Module], None]

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
    on_checkpoint: OnCheckpoint | None = None,
    device: str = "cpu",
    workers: Workers = ALONE,
) -> ExpertResult:
    """Train one expert and write it to a directory.

    A training that was interrupted goes on from its newest valid checkpoint in `directory`. On
    a CPU the weights are then the same, bit for bit, as without the interruption. When the loss is
    not finite, the training goes back to its newest checkpoint and on at half the learning rate,
    once. The directory is not committed: that is up to the caller, who knows what the patches were.

    Args:
        job: The network, the recipe, the number of samples.
        patches: The node's samples.
        directory: Receives `expert.safetensors` (or `adapter.safetensors`), `expert.json` and
            `log.json`; checkpoints while the training runs.
        on_progress: Called about once a second, and at the end, with `samples`, `num_samples`,
            `loss` and `samples_per_s`; whatever it raises stops the training.
        on_checkpoint: Called after each checkpoint with the samples seen and the network, which it
            may look at and must leave as it is.
        device: Where to compute.
        workers: This process among those that train the expert together; all of them call this
            with the same job, and the first one writes.

    Returns:
        Numbers about the training.

    Raises:
        TrainingError: If the loss is not finite even at half the rate, the memory is not enough for
            one sample, or there are no patches.
        ArtefactError: If patches or the initial weights cannot be read.
        StorageError: If the directory cannot be written.
    """
    if len(patches) == 0:
        raise TrainingError(f"expert {job.key} has no patches to train on")
    keep_freed_memory()
    checkpoints = Checkpoints(directory, job.fingerprint)
    with _threads(job.recipe.num_threads):
        with _Training(job, patches, torch.device(device), workers) as training:
            training.resume(_newest(checkpoints, workers))
            training.run(
                checkpoints, on_progress or (lambda _: None), on_checkpoint or (lambda *_: None)
            )
        if workers.is_first:
            training.finish(directory)
            checkpoints.clear()
    workers.wait()
    return training.result(read_card(directory).sha256)


class _NotFiniteError(Exception):
    """The loss is not a number any more."""


class _Training:
    """The state of one training, and the steps that advance it."""

    def __init__(
        self, job: ExpertJob, patches: PairedPatches, device: torch.device, workers: Workers
    ) -> None:
        self.job, self.recipe, self.workers = job, job.recipe, workers
        self.patches, self.device = patches, device
        self.batches = Batches(self._draw)
        self.rate_scale = 1.0
        self.notes: list[str] = []
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.batches.close()

    def _begin(self) -> None:
        """The state before the first step."""
        self.network, self.adapter = _beginning(self.job)
        self.network.to(self.device).train()
        self.flat = FlatParameters(self.network)
        self.optimizer = torch.optim.AdamW(
            [self.flat.vector],
            lr=self.recipe.learning_rate,
            betas=self.recipe.betas,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        called = self.network
        if self.recipe.compile:
            called = cast("nn.Module", torch.compile(self.network))
        self.gradients = Gradients(called, self.flat, self.recipe, on_note=self.notes.append)
        self.average = self.flat.vector.detach().clone() if self.recipe.ema_decay > 0 else None
        self.num_seen = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, float]] = []
        self.window_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.window_samples = 0

    def run(
        self, checkpoints: Checkpoints, on_progress: OnProgress, on_checkpoint: OnCheckpoint
    ) -> None:
        """Take the steps that are left."""
        interval = self.recipe.checkpoint_every_samples
        reported, reported_samples = time.perf_counter(), self.num_seen
        started = time.perf_counter()
        while self.num_seen < self.job.num_samples:
            before = self.num_seen
            try:
                self.step()
                due = self.num_seen // interval > before // interval
                checkpoint = self.checkpoint() if due else None
            except _NotFiniteError:
                self._go_back(checkpoints)
                reported_samples = self.num_seen
                continue
            now = time.perf_counter()
            if self.num_seen == self.job.num_samples or now - reported >= _SECONDS_BETWEEN_REPORTS:
                rate = (self.num_seen - reported_samples) / (now - reported)
                on_progress(self.status(rate))
                reported, reported_samples = now, self.num_seen
            if checkpoint is not None and self.workers.is_first:
                checkpoints.save(checkpoint)
                on_checkpoint(self.num_seen, self.network)
            self.seconds += time.perf_counter() - started
            started = time.perf_counter()

    def step(self) -> None:
        """See one batch and move the weights."""
        positions, patch_px = self._plan(self.num_seen)
        after = self.num_seen + len(positions)
        then = self._share(after) if after < self.job.num_samples else None
        lq, gt = self.batches.take(self.workers.share(positions), patch_px, then)
        lq, gt = (part.to(self.device, non_blocking=True) for part in (lq, gt))
        loss = self.gradients.compute(lq, gt, out_of=len(positions))
        self.workers.sum_(self.flat.gradient)
        self.workers.sum_(loss)
        self._move()
        self._note(loss, after)

    def _plan(self, num_seen: int) -> tuple[range, int]:
        """Positions and patch side of the step after some samples."""
        patch_px, batch_size = sizes_at(self.recipe, num_seen, self.job.num_samples)
        return range(num_seen, min(num_seen + batch_size, self.job.num_samples)), patch_px

    def _share(self, num_seen: int) -> tuple[Sequence[int], int]:
        """This worker's part of that step."""
        positions, patch_px = self._plan(num_seen)
        return self.workers.share(positions), patch_px

    def _draw(self, positions: Sequence[int], patch_px: int) -> Batch:
        lq, gt = draw_batch(
            self.patches,
            positions,
            patch_px=patch_px,
            augment=self.recipe.augment,
            seed=self.job.seed,
        )
        return (lq.pin_memory(), gt.pin_memory()) if self.device.type == "cuda" else (lq, gt)

    def _move(self) -> None:
        if self.recipe.grad_clip > 0:
            self.flat.clip_gradients(self.recipe.grad_clip)
        rate = learning_rate_at(self.recipe, self.num_seen, self.job.num_samples)
        self.optimizer.param_groups[0]["lr"] = rate * self.rate_scale
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
            _NotFiniteError: If it is not finite.
        """
        if self.window_samples == 0:
            return self.curve[-1][1]
        mean = float(self.window_loss) / self.window_samples
        if not math.isfinite(mean):
            raise _NotFiniteError
        return mean

    def _go_back(self, checkpoints: Checkpoints) -> None:
        """Go on from the newest checkpoint at half the rate.

        Raises:
            TrainingError: If that was done before.
        """
        found_at = self.num_seen
        rate = self.recipe.learning_rate * self.rate_scale
        if self.rate_scale < 1.0:
            raise TrainingError(
                f"expert {self.job.key}: the loss is not finite after {found_at} of "
                f"{self.job.num_samples} samples, at half of recipe.learning_rate="
                f"{self.recipe.learning_rate} as at all of it; lower that or recipe.grad_clip"
            )
        self._begin()
        self.resume(_newest(checkpoints, self.workers))
        self.rate_scale = 0.5
        self.notes.append(
            f"the loss was not finite after {found_at} samples; went on from {self.num_seen} with "
            f"a learning rate of {rate / 2:g} in place of {rate:g}"
        )

    def status(self, samples_per_s: float) -> dict[str, Any]:
        """What `on_progress` gets; the loss is that of the curve's last point once there is one."""
        loss = self.curve[-1][1] if self.curve else float(self.window_loss) / self.window_samples
        return {
            "samples": self.num_seen,
            "num_samples": self.job.num_samples,
            "loss": loss,
            "samples_per_s": round(samples_per_s, 2),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "waited_share": round(self.batches.waited_s / max(self.seconds, 1e-9), 4),
            "notes": tuple(self.notes),
        }

    def checkpoint(self) -> Checkpoint:
        """The state, to be written.

        Raises:
            _NotFiniteError: If loss or weights are not: what follows is not worth keeping.
        """
        self.mean_loss()
        if not bool(self.flat.vector.isfinite().all()):
            raise _NotFiniteError
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
                "waited_s": self.batches.waited_s,
                "rate_scale": self.rate_scale,
                "notes": self.notes,
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
        progress = checkpoint.progress
        self.num_seen = checkpoint.num_seen
        self.curve = [(samples, loss) for samples, loss in progress["curve"]]
        self.window_samples = progress["window_samples"]
        self.seconds = progress["seconds"]
        self.batches.waited_s = progress["waited_s"]
        self.rate_scale = progress["rate_scale"]
        self.notes[:] = progress["notes"]

    def finish(self, directory: Storage) -> None:
        """Write the expert and the log."""
        if self.average is not None:
            self.flat.vector.data.copy_(self.average)
        weights = self.network.state_dict() if self.job.adapter is None else self.adapter
        save_expert(directory, weights, self.job)
        samples, losses = zip(*self.curve, strict=True)
        log = {
            "curve": {"samples": samples, "loss": losses},
            "num_samples": self.num_seen,
            "seconds": round(self.seconds, 3),
            "samples_per_s": round(self.num_seen / self.seconds, 2),
            "waited_share": round(self.batches.waited_s / self.seconds, 4),
            "notes": self.notes,
        }
        directory.write_json(LOG, log)

    def result(self, sha256: str) -> ExpertResult:
        """Numbers about the training."""
        return ExpertResult(
            key=self.job.key,
            num_samples=self.num_seen,
            loss=self.curve[-1][1],
            seconds=self.seconds,
            sha256=sha256,
        )


def _newest(checkpoints: Checkpoints, workers: Workers) -> Checkpoint | None:
    """The checkpoint to go on from, the same for all workers.

    The first one looks before the others, because whoever finds a damaged one deletes it.
    """
    found = checkpoints.newest_valid() if workers.is_first else None
    workers.wait()
    return found if workers.is_first else checkpoints.newest_valid()


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
