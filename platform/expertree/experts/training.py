"""One expert's training: from patches to a stored network, resumable to the bit.

`training.loop` takes the steps; here are what an expert's batches are, and what is written.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from expertree.degradation.fresh import FreshDegradation
from expertree.errors import TrainingError
from expertree.experts.backbones import needs_of
from expertree.experts.batches import Batch
from expertree.experts.learner import ExpertLearner
from expertree.experts.patches import PairedPatches
from expertree.experts.phases import phase_at, rate_share_of
from expertree.experts.recipe import ExpertJob, sizes_at
from expertree.experts.sampling import draw_batch
from expertree.experts.telling import saying
from expertree.storage import Storage
from expertree.training import (
    ALONE,
    Checkpoints,
    OnCheckpoint,
    OnProgress,
    OnWritten,
    Plan,
    Record,
    Workers,
    train,
)

_CURVE_POINTS = 100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The beginning of a training, to be gone on with later.

    Attributes:
        num_samples: Where to stop: after the step that reaches so many.
        snapshot: Receives the expert as it is there, like a finished one.
    """

    num_samples: int
    snapshot: Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """The callbacks of a training for single moments; the first worker calls them.

    Attributes:
        on_checkpoint: Called after each checkpoint; see `training.train`.
        commit: Called when the result is written, to mark it as finished. Its checkpoints are
            deleted after this, so an error here costs the steps since the last one at most.
    """

    on_checkpoint: OnCheckpoint | None = None
    commit: OnWritten = lambda: None


NO_HOOKS = Hooks()


def train_expert(
    job: ExpertJob,
    *,
    patches: PairedPatches,
    directory: Storage,
    on_progress: OnProgress | None = None,
    hooks: Hooks = NO_HOOKS,
    device: str = "cpu",
    workers: Workers = ALONE,
    part: Part | None = None,
) -> Record:
    """Train one expert and write it to a directory.

    A training that was interrupted goes on from its newest valid checkpoint in `directory`. On
    a CPU the weights are then the same, bit for bit, as without the interruption. When the loss is
    not finite, the training goes back to its newest checkpoint and on at half the learning rate,
    once. `hooks` alone commit the result: that is the caller's, who knows what the patches were.

    Args:
        job: The network, the recipe, the number of samples.
        patches: The node's samples; a job with an extractor needs their `look`.
        directory: Receives `expert.safetensors` (or `adapter.safetensors`), `expert.json` and
            `log.json`; checkpoints while the training runs.
        on_progress: Called about once a second, and at the end; see `training.train`.
        hooks: Callbacks for single moments of the training.
        device: Where to compute.
        workers: This process among those that train together, with the same job; the first writes.
        part: Stop early, in a state from which another call goes on as if there had been no stop:
            the learning rate is that of the whole training. Only a checkpoint and the snapshot are
            written. Where `directory` is further already, it is trained anew beside the snapshot.

    Returns:
        The record of the training so far, all attempts together.

    Raises:
        TrainingError: If the loss is not finite even at half the rate, the memory is not enough for
            one sample, there are no patches, or nobody looks at them with the job's extractor.
        ArtefactError: If patches or the initial weights cannot be read.
        StorageError: If the directory cannot be written.
    """
    _check(job, patches)
    checkpoints, target = _checkpoints(job, directory, part, workers), torch.device(device)
    begin = partial(ExpertLearner, job, device=target, workers=workers, look=patches.look)
    learner, record = train(
        _plan(job),
        draw=_drawing(job, patches, workers, target),
        begin=lambda note: begin(on_note=note),
        checkpoints=checkpoints,
        on_progress=on_progress,
        on_checkpoint=hooks.on_checkpoint,
        workers=workers,
        until=None if part is None else part.num_samples,
    )
    result = directory if part is None else part.snapshot
    if workers.is_first:
        learner.finish(result, record)
    workers.wait()
    if workers.is_first:
        _commit(result, hooks, checkpoints)
    return record


def _commit(result: Storage, hooks: Hooks, checkpoints: Checkpoints) -> None:
    """Let the caller mark a result as finished, then delete the checkpoints in its directory."""
    hooks.commit()
    if checkpoints.directory == result:
        checkpoints.clear()


def _check(job: ExpertJob, patches: PairedPatches) -> None:
    """Raise TrainingError if an expert cannot be trained on some patches."""
    if len(patches) == 0:
        raise TrainingError(f"expert {job.key} has no patches to train on")
    if job.extractor is not None and patches.look is None:
        raise TrainingError(
            f"expert {job.key} is told what {job.extractor} sees; give its patches a look of that"
        )


def _checkpoints(
    job: ExpertJob, directory: Storage, part: Part | None, workers: Workers
) -> Checkpoints:
    """Return the checkpoints of a training, the same for all workers.

    They are in its own directory, or in the snapshot's where the training has gone past it.
    """
    of_job = partial(Checkpoints, job_fingerprint=job.fingerprint, earlier=job.earlier_fingerprints)
    own = of_job(directory)
    if part is None:
        return own
    is_past = own.num_seen > _plan(job).end_of_part(part.num_samples)
    return of_job(part.snapshot) if workers.agree_on(is_past) else own


def _plan(job: ExpertJob) -> Plan:
    recipe, num_samples = job.recipe, job.num_samples
    return Plan(
        name=f"expert {job.key}",
        num_samples=num_samples,
        size_at=lambda num_seen: sizes_at(recipe, num_seen, num_samples)[1],
        learning_rate=recipe.learning_rate,
        rate_share_at=partial(rate_share_of, job),
        checkpoint_every=recipe.checkpoint_every_samples,
        curve_every=max(recipe.batch_size, num_samples // _CURVE_POINTS),
        num_threads=recipe.num_threads,
    )


def _drawing(
    job: ExpertJob, patches: PairedPatches, workers: Workers, device: torch.device
) -> Callable[[range], Batch]:
    """Return the function of a step's positions to this worker's share of its batch."""
    recipe = job.recipe
    fresh = FreshDegradation(patches.maps) if recipe.fresh else None
    say = saying(job.backbone, seed=job.seed)

    def draw(positions: range) -> Batch:
        batch = draw_batch(
            patches,
            workers.share(positions),
            patch_px=sizes_at(recipe, positions.start, job.num_samples)[0],
            augment=recipe.augment,
            seed=job.seed,
            fresh=fresh,
            second="second" in needs_of(job.backbone),
        )
        phase, own = phase_at(job, positions.start)
        batch = dataclasses.replace(
            batch,
            condition=say(batch.tasks, workers.share(positions)),
            phase=phase,
            progress=(positions.start - own.start) / len(own),
        )
        return batch.pinned() if device.type == "cuda" else batch

    return draw
