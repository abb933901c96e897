"""One expert's training: from patches to a stored network, resumable to the bit.

`state.py` is what a training keeps; here are the steps, and when something is written.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import nn

from expertree.degradation.fresh import FreshDegradation
from expertree.errors import PausedError, TrainingError
from expertree.experts.backbones import objective_of
from expertree.experts.batches import Batch, Batches
from expertree.experts.checkpoints import Checkpoint, Checkpoints
from expertree.experts.gradients import Gradients
from expertree.experts.memory import keep_freed_memory
from expertree.experts.patches import PairedPatches
from expertree.experts.recipe import ExpertJob, sizes_at
from expertree.experts.sampling import draw_batch
from expertree.experts.state import NotFiniteError, TrainingState
from expertree.experts.weights import read_card
from expertree.experts.workers import ALONE, Workers
from expertree.storage import Storage

OnProgress = Callable[[Mapping[str, Any]], None]

OnCheckpoint = Callable[[int, nn.Module], None]

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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The beginning of a training, to be gone on with later.

    Attributes:
        num_samples: Where to stop: after the step that reaches so many.
        snapshot: Receives the expert as it is there, like a finished one.
    """

    num_samples: int
    snapshot: Storage


def train_expert(
    job: ExpertJob,
    *,
    patches: PairedPatches,
    directory: Storage,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    device: str = "cpu",
    workers: Workers = ALONE,
    part: Part | None = None,
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
            `loss` and `samples_per_s`; whatever it raises stops the training, `PausedError` after
            a checkpoint.
        on_checkpoint: Called after each checkpoint with the samples seen and the network, which it
            may look at and must leave as it is.
        device: Where to compute.
        workers: This process among those that train the expert together; all of them call this
            with the same job, and the first one writes.
        part: Stop early, in a state from which another call goes on as if there had been no stop:
            the learning rate is that of the whole training. Nothing is written but a checkpoint
            and the snapshot.

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
        with _Training(job, patches, checkpoints, torch.device(device), workers) as training:
            training.run(
                on_progress or (lambda _: None),
                on_checkpoint or (lambda *_: None),
                until=job.num_samples if part is None else part.num_samples,
            )
        result = directory if part is None else part.snapshot
        if workers.is_first:
            training.state.finish(result)
        if workers.is_first and part is None:
            checkpoints.clear()
    workers.wait()
    return _result_of(job, training.state, result)


def _result_of(job: ExpertJob, state: TrainingState, result: Storage) -> ExpertResult:
    return ExpertResult(
        key=job.key,
        num_samples=state.num_seen,
        loss=state.curve[-1][1],
        seconds=state.seconds,
        sha256=read_card(result).sha256,
    )


class _Training:
    """The steps of one training, from its newest checkpoint on."""

    def __init__(
        self,
        job: ExpertJob,
        patches: PairedPatches,
        checkpoints: Checkpoints,
        device: torch.device,
        workers: Workers,
    ) -> None:
        self.job, self.recipe, self.workers = job, job.recipe, workers
        self.patches, self.device, self.checkpoints = patches, device, checkpoints
        self.fresh = FreshDegradation(patches.maps) if self.recipe.fresh else None
        self.batches = Batches(self._draw)
        self.state, self.gradients = self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.batches.close()

    def _begin(self) -> tuple[TrainingState, Gradients]:
        """The state at the newest checkpoint, or before the first step."""
        state = TrainingState(self.job, self.device)
        checkpoint = self._newest()
        if checkpoint is not None:
            state.resume(checkpoint)
        self.batches.waited_s = state.waited_s
        called = state.network
        if self.recipe.compile:
            called = cast("nn.Module", torch.compile(called))
        gradients = Gradients(
            called,
            state.flat,
            self.recipe,
            objective=objective_of(self.job.backbone),
            on_note=state.notes.append,
        )
        return state, gradients

    def _newest(self) -> Checkpoint | None:
        """The checkpoint to go on from, the same for all workers.

        The first one looks before the others, because whoever finds a damaged one deletes it.
        """
        found = self.checkpoints.newest_valid() if self.workers.is_first else None
        self.workers.wait()
        return found if self.workers.is_first else self.checkpoints.newest_valid()

    def run(self, on_progress: OnProgress, on_checkpoint: OnCheckpoint, *, until: int) -> None:
        """Take the steps that are left until some samples have been seen."""
        interval = self.recipe.checkpoint_every_samples
        reported, reported_samples = time.perf_counter(), self.state.num_seen
        started = time.perf_counter()
        while self.state.num_seen < until:
            before = self.state.num_seen
            try:
                self.step()
                stops_early = until <= self.state.num_seen and not self.state.is_over
                due = stops_early or self.state.num_seen // interval > before // interval
                checkpoint = self.state.checkpoint() if due else None
            except NotFiniteError:
                self._go_back()
                reported_samples = self.state.num_seen
                continue
            now = time.perf_counter()
            if self.state.num_seen >= until or now - reported >= _SECONDS_BETWEEN_REPORTS:
                rate = (self.state.num_seen - reported_samples) / (now - reported)
                self._report(on_progress, rate)
                reported, reported_samples = now, self.state.num_seen
            if checkpoint is not None and self.workers.is_first:
                self.checkpoints.save(checkpoint)
                on_checkpoint(self.state.num_seen, self.state.network)
            self.state.seconds += time.perf_counter() - started
            started = time.perf_counter()

    def step(self) -> None:
        """See one batch and move the weights."""
        positions, patch_px = self._plan(self.state.num_seen)
        after = self.state.num_seen + len(positions)
        then = self._share(after) if after < self.job.num_samples else None
        batch = self.batches.take(self.workers.share(positions), patch_px, then)
        self.state.waited_s = self.batches.waited_s
        loss = self.gradients.compute(batch.to(self.device), out_of=len(positions))
        self.workers.sum_(self.state.flat.gradient)
        self.workers.sum_(loss)
        self.state.move()
        self.state.note_step(loss, after)

    def _plan(self, num_seen: int) -> tuple[range, int]:
        """Positions and patch side of the step after some samples."""
        patch_px, batch_size = sizes_at(self.recipe, num_seen, self.job.num_samples)
        return range(num_seen, min(num_seen + batch_size, self.job.num_samples)), patch_px

    def _share(self, num_seen: int) -> tuple[Sequence[int], int]:
        """This worker's part of that step."""
        positions, patch_px = self._plan(num_seen)
        return self.workers.share(positions), patch_px

    def _draw(self, positions: Sequence[int], patch_px: int) -> Batch:
        batch = draw_batch(
            self.patches,
            positions,
            patch_px=patch_px,
            augment=self.recipe.augment,
            seed=self.job.seed,
            fresh=self.fresh,
        )
        return batch.pinned() if self.device.type == "cuda" else batch

    def _report(self, on_progress: OnProgress, samples_per_s: float) -> None:
        """Say how it goes; leave a checkpoint where the answer is to go on elsewhere."""
        state = self.state
        try:
            on_progress(
                {
                    "samples": state.num_seen,
                    "num_samples": self.job.num_samples,
                    "loss": state.shown_loss,
                    "samples_per_s": round(samples_per_s, 2),
                    "learning_rate": state.learning_rate,
                    "waited_share": round(state.waited_s / max(state.seconds, 1e-9), 4),
                    "notes": tuple(state.notes),
                }
            )
        except PausedError:
            # If the loss is not finite here, the checkpoint before is the one to go on from.
            with contextlib.suppress(NotFiniteError):
                self.checkpoints.save(state.checkpoint())
            raise

    def _go_back(self) -> None:
        """Go on from the newest checkpoint at half the rate.

        Raises:
            TrainingError: If that was done before.
        """
        found_at = self.state.num_seen
        rate = self.recipe.learning_rate * self.state.rate_scale
        if self.state.rate_scale < 1.0:
            raise TrainingError(
                f"expert {self.job.key}: the loss is not finite after {found_at} of "
                f"{self.job.num_samples} samples, at half of recipe.learning_rate="
                f"{self.recipe.learning_rate} as at all of it; lower that or recipe.grad_clip"
            )
        del self.state, self.gradients  # the memory may not be enough for two
        self.state, self.gradients = self._begin()
        self.state.rate_scale = 0.5
        self.state.notes.append(
            f"the loss was not finite after {found_at} samples; went on from "
            f"{self.state.num_seen} with a learning rate of {rate / 2:g} in place of {rate:g}"
        )


@contextlib.contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
