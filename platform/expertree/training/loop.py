"""The training loop: from a plan, a way to draw batches and a learner to a trained network."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from expertree.errors import PausedError, TrainingError
from expertree.memory import keep_freed_memory
from expertree.threads import torch_threads
from expertree.training.ahead import Ahead
from expertree.training.checkpoints import Checkpoint, Checkpoints
from expertree.training.record import NotFiniteError, Record
from expertree.training.workers import ALONE, Workers

B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)
L = TypeVar("L", bound="Learner[Any]")

OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]

OnCheckpoint: TypeAlias = Callable[[int, nn.Module], None]

OnNote: TypeAlias = Callable[[str], None]

OnWritten: TypeAlias = Callable[[], None]
"""A callback for when the files of a result are written, and its checkpoints still there."""

AVERAGE = "average"
"""Name of the average of weights among a learner's tensors, where it becomes the result."""

_SECONDS_BETWEEN_REPORTS = 1.0

_SPEED_SHARE = 0.05
"""Share of the newest second in the speed that is reported, so that it does not jump."""


class Learner(Protocol[B_contra]):
    """A network with its loss and its optimiser, as it is between two steps."""

    @property
    def network(self) -> nn.Module:
        """The network that learns."""

    def learn(self, batch: B_contra, positions: range, rate_share: float) -> Tensor:
        """See one batch and move the weights.

        Args:
            batch: What was drawn for the positions.
            positions: The step's samples in the sequence of all.
            rate_share: Factor on the learning rates.

        Returns:
            The mean loss of the batch.
        """

    def tensors(self) -> Mapping[str, Tensor]:
        """Return all tensors that the next step depends on, by name, for a checkpoint.

        An average of the weights that becomes the result is `AVERAGE`.
        """

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `tensors` returned; they may be on the CPU."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The course of a training, without what is trained.

    Attributes:
        name: What is trained, in messages.
        num_samples: Samples to see, counted with repetition.
        size_at: Function of the samples seen to the samples of the next step.
        learning_rate: The highest rate, `recipe.learning_rate` of the settings.
        rate_share_at: Function of the samples seen to the next step's share of it.
        checkpoint_every: Samples between checkpoints: the most that an interruption can cost.
        curve_every: Samples from one point of the loss curve to the next, at least.
        num_threads: Threads of torch on a CPU.
    """

    name: str
    num_samples: int
    size_at: Callable[[int], int]
    learning_rate: float
    rate_share_at: Callable[[int], float]
    checkpoint_every: int
    curve_every: int
    num_threads: int

    def positions_after(self, num_seen: int) -> range:
        """Return the positions of the next step's samples; none after the last step."""
        return range(num_seen, min(num_seen + self.size_at(num_seen), self.num_samples))

    def end_of_part(self, until: int) -> int:
        """Return the samples seen after the step that reaches `until`, or all of them."""
        num_seen = 0
        while num_seen < min(until, self.num_samples):
            num_seen = self.positions_after(num_seen).stop
        return num_seen


def train(
    plan: Plan,
    *,
    draw: Callable[[range], B],
    begin: Callable[[OnNote], L],
    checkpoints: Checkpoints,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    workers: Workers = ALONE,
    until: int | None = None,
) -> tuple[L, Record]:
    """Take all steps of a training, from its newest valid checkpoint on.

    On a CPU the network is then the same, bit for bit, as without the interruption, if batches
    depend on their positions alone. When the loss is not finite, the training goes back to its
    newest checkpoint and on at half the learning rate, once. Checkpoints are left to the caller to
    delete, when the result is stored.

    Args:
        plan: The course.
        draw: Function of positions to what `Learner.learn` takes; called in a thread of its own,
            while the step before is computed.
        begin: Function that makes the learner as it is before the first step; its argument takes
            a note for the log. Called again on going back.
        checkpoints: Where to go on from, and where to write.
        on_progress: Called about once a second, and at the end, with `samples`, `num_samples`,
            `loss` and `samples_per_s`; whatever it raises stops the training, `PausedError` after
            a checkpoint.
        on_checkpoint: Called after each checkpoint with the samples seen and the network, which it
            may look at and must leave as it is.
        workers: This process among those that train the network together; all of them call this
            alike, and the first one writes.
        until: Samples to stop after, with a checkpoint; all of the plan's by default. The newest
            checkpoint must not be beyond the step that reaches them.

    Returns:
        The learner and the record of its training.

    Raises:
        TrainingError: If the loss is not finite even at half the rate, or a checkpoint is beyond
            `until`.
        StorageError: If a checkpoint cannot be read or written.
        ArtefactError: If the checkpoints belong to another training.
    """
    keep_freed_memory()
    ahead = Ahead(draw)
    with torch_threads(plan.num_threads), contextlib.closing(ahead):
        loop = _Loop(plan, ahead, begin, checkpoints, workers)
        loop.run(
            on_progress or (lambda _: None),
            on_checkpoint or (lambda *_: None),
            until=plan.num_samples if until is None else until,
        )
        return loop.learner, loop.record


class _Loop(Generic[B, L]):
    """The steps of one training."""

    def __init__(
        self,
        plan: Plan,
        ahead: Ahead[B],
        begin: Callable[[OnNote], L],
        checkpoints: Checkpoints,
        workers: Workers,
    ) -> None:
        self.plan, self.ahead, self.begin = plan, ahead, begin
        self.checkpoints, self.workers = checkpoints, workers
        self.learner, self.record = self._resumed()

    def _resumed(self) -> tuple[L, Record]:
        """Return learner and record at the newest checkpoint, or before the first step."""
        record = Record(num_samples=self.plan.num_samples, curve_every=self.plan.curve_every)
        learner = self.begin(record.note)
        checkpoint = self._newest()
        if checkpoint is not None:
            learner.resume(record.resume(checkpoint))
        return learner, record

    def _newest(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, the same for all workers.

        The first one looks before the others, because whoever finds a damaged one deletes it.
        """
        found = self.checkpoints.newest_valid() if self.workers.is_first else None
        self.workers.wait()
        return found if self.workers.is_first else self.checkpoints.newest_valid()

    def run(self, on_progress: OnProgress, on_checkpoint: OnCheckpoint, *, until: int) -> None:
        """Take the steps that are left until some samples have been seen."""
        self._check_is_before(until)
        reported, reported_samples = time.perf_counter(), self.record.num_seen
        speed, is_warm = 0.0, False
        started = time.perf_counter()
        while self.record.num_seen < until:
            taken = self._advance(until)
            if taken is None:
                self._go_back()
                reported_samples = self.record.num_seen
                continue
            rate_share, checkpoint = taken
            now = time.perf_counter()
            is_due = now - reported >= _SECONDS_BETWEEN_REPORTS
            if is_warm and is_due:
                found = (self.record.num_seen - reported_samples) / max(now - reported, 1e-9)
                speed = found if speed == 0.0 else speed + _SPEED_SHARE * (found - speed)
            if self.record.num_seen >= until or is_due:
                self._report(on_progress, speed, rate_share)
            if is_due or not is_warm:
                # The first step sets up what later ones use again: it says nothing of the speed.
                reported, reported_samples, is_warm = now, self.record.num_seen, True
            if checkpoint is not None and self.workers.is_first:
                self.checkpoints.save(checkpoint)
                on_checkpoint(self.record.num_seen, self.learner.network)
            self.record.seconds += time.perf_counter() - started
            started = time.perf_counter()

    def _check_is_before(self, until: int) -> None:
        """Raise TrainingError if more samples have been seen than the steps until there take."""
        num_seen = self.record.num_seen
        if num_seen > until and num_seen > self.plan.end_of_part(until):
            raise TrainingError(
                f"{self.plan.name} is to stop after {until} samples, but has seen {num_seen} at "
                "its newest checkpoint; train this part in another directory"
            )

    def _advance(self, until: int) -> tuple[float, Checkpoint | None] | None:
        """Take a step; return its share of the rate, and a checkpoint if one is due.

        None where the loss is not finite, or weights where they would be kept. The error ends here,
        as it holds what it saw in memory.
        """
        interval, before = self.plan.checkpoint_every, self.record.num_seen
        try:
            rate_share = self._step()
            stops_early = until <= self.record.num_seen and not self.record.is_over
            due = stops_early or self.record.num_seen // interval > before // interval
            if self.record.is_over:
                self._check_weights(self.learner.tensors())
            return rate_share, self._checkpoint() if due else None
        except NotFiniteError:
            return None

    def _step(self) -> float:
        """See one batch and move the weights; return the share of the learning rate."""
        positions = self.plan.positions_after(self.record.num_seen)
        begin = time.perf_counter()
        batch = self.ahead.take(positions, self.plan.positions_after(positions.stop))
        self.record.waited_s += time.perf_counter() - begin
        share = self.plan.rate_share_at(positions.start) * self.record.rate_scale
        loss = self.learner.learn(batch, positions, share)
        self.record.count(loss, len(positions))
        return share

    def _checkpoint(self) -> Checkpoint:
        """Return a checkpoint of this moment; raise NotFiniteError if it is not worth keeping."""
        tensors = self.learner.tensors()
        self._check_weights(tensors)
        return self.record.checkpoint(tensors)

    def _check_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise NotFiniteError unless the learner's weights and their average are finite."""
        weights = [w.detach() for w in self.learner.network.parameters() if w.requires_grad]
        if AVERAGE in tensors:
            weights.append(tensors[AVERAGE])
        if not bool(torch.stack([weight.isfinite().all() for weight in weights]).all()):
            raise NotFiniteError

    def _report(self, on_progress: OnProgress, samples_per_s: float, rate_share: float) -> None:
        """Say how it goes; leave a checkpoint where the answer is to go on elsewhere."""
        record = self.record
        try:
            on_progress(
                {
                    "samples": record.num_seen,
                    "num_samples": self.plan.num_samples,
                    "loss": record.loss,
                    "samples_per_s": round(samples_per_s, 2),
                    "learning_rate": self.plan.learning_rate * rate_share,
                    "waited_share": round(record.waited_s / max(record.seconds, 1e-9), 4),
                    "notes": tuple(record.notes),
                }
            )
        except PausedError:
            # If the loss is not finite here, the checkpoint before is the one to go on from.
            with contextlib.suppress(NotFiniteError):
                self.checkpoints.save(self._checkpoint())
            raise

    def _go_back(self) -> None:
        """Go on from the newest checkpoint at half the rate.

        Raises:
            TrainingError: If that was done before.
        """
        found_at, scale = self.record.num_seen, self.record.rate_scale
        rate = self.plan.learning_rate * scale
        if scale < 1.0:
            raise TrainingError(
                f"{self.plan.name}: the loss is not finite after {found_at} of "
                f"{self.plan.num_samples} samples, at half of recipe.learning_rate="
                f"{self.plan.learning_rate} as at all of it; lower that, or the limit of the "
                "gradient where the recipe has one"
            )
        del self.learner, self.record  # the memory may not be enough for two
        self.learner, self.record = self._resumed()
        self.record.rate_scale = 0.5
        self.record.note(
            f"the loss was not finite after {found_at} samples; went on from "
            f"{self.record.num_seen} with a learning rate of {rate / 2:g} in place of {rate:g}"
        )
