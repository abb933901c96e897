"""An expert as the training loop sees it: network, loss, optimiser and average of weights."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from expertree.errors import ArtefactError
from expertree.experts.backbones import (
    build_backbone,
    objective_of,
    phases_of,
    start_at_identity,
)
from expertree.experts.batches import Batch
from expertree.experts.buffers import common_buffers
from expertree.experts.conditions import Look
from expertree.experts.gradients import Gradients
from expertree.experts.phases import still_spans
from expertree.experts.published import load_published
from expertree.experts.recipe import ExpertJob
from expertree.experts.weights import load_weights, read_card, save_expert
from expertree.storage import Storage
from expertree.training import (
    AVERAGE,
    LOG,
    FlatParameters,
    OnNote,
    Optimizer,
    Record,
    Workers,
    average_decay,
    muon_split,
)

_PARAMETERS, _BUFFER, _PHASE = "parameters", "buffer.", "phase"


class ExpertLearner:
    """An expert between two steps; a `Learner` of the training loop.

    Attributes:
        network: The network; its trainable weights are views into one vector.
    """

    def __init__(
        self,
        job: ExpertJob,
        *,
        device: torch.device,
        workers: Workers,
        on_note: OnNote,
        look: Look | None = None,
    ) -> None:
        """Make the expert before its first step.

        Args:
            job: The network, where it starts, and the recipe.
            device: Where to compute.
            workers: This process among those that train the expert together.
            on_note: Told when the memory is not enough for a whole batch.
            look: What the network is told of the crops that it restores; None tells it nothing.

        Raises:
            ArtefactError: If the weights that the job starts from cannot be read, or do not fit.
        """
        self._job, self._recipe, self._device, self._workers = job, job.recipe, device, workers
        self._look = look
        self.network, self._adapter = _beginning(job)
        # An adapter keeps the root's statistics, as it is stored without any of its own.
        self.network.to(device).train(job.adapter is None)
        self._flat = FlatParameters(self.network)
        phases = phases_of(job.backbone)
        self._still = [
            still_spans(self.network, self._flat, phase) if job.adapter is None else []
            for phase in phases
        ]
        self._rates = [phase.rate if job.adapter is None else 1.0 for phase in phases]
        self._phase = 0
        self._optimizer = self._make_optimizer()
        self._average = self._flat.vector.detach().clone() if job.recipe.ema_decay > 0 else None
        called = self.network
        if self._recipe.compile:
            called = cast("nn.Module", torch.compile(called))
        self._gradients = Gradients(
            called,
            self._flat,
            self._recipe,
            objective=objective_of(job.backbone),
            on_note=on_note,
        )

    def _make_optimizer(self) -> Optimizer:
        recipe, flat = self._recipe, self._flat
        is_muon = recipe.optimizer == "muon"
        matrices, rest = muon_split(self.network, flat) if is_muon else ([], [flat.vector])
        return Optimizer(
            rest,
            matrices=matrices,
            learning_rate=recipe.learning_rate,
            matrix_learning_rate=recipe.matrix_learning_rate,
            weight_decay=recipe.weight_decay,
            betas=recipe.betas,
        )

    def learn(self, batch: Batch, positions: range, rate_share: float) -> Tensor:
        """Move the weights by this worker's share of a batch and those of the others."""
        batch = self._informed(batch.to(self._device))
        with common_buffers(self.network, self._workers):
            loss = self._gradients.compute(batch, out_of=len(positions))
        self._workers.sum_(self._flat.gradient)
        self._workers.sum_(loss)
        self._enter(batch.phase)
        still = self._still[batch.phase]
        kept = [self._flat.vector.data[span].clone() for span in still]
        for span in still:
            self._flat.gradient[span].zero_()
        if self._recipe.grad_clip > 0:
            self._flat.clip_gradients(self._recipe.grad_clip)
        self._optimizer.step(rate_share * self._rates[batch.phase])
        for span, values in zip(still, kept, strict=True):
            self._flat.vector.data[span] = values
        if self._average is not None:
            decay = average_decay(self._recipe.ema_decay, positions.start / self._recipe.batch_size)
            self._average.lerp_(self._flat.vector.detach(), 1.0 - decay)
        return loss

    def _enter(self, phase: int) -> None:
        """Begin a phase with a new optimiser.

        What stood still has averages of nought: with a count of many steps they would be taken at
        their word, and the first steps be several times too long.
        """
        if phase != self._phase:
            self._optimizer, self._phase = self._make_optimizer(), phase

    def _informed(self, batch: Batch) -> Batch:
        """Return a batch with what is seen in its crops, for a network that is told of it."""
        seen = self._job.backbone.seen
        if self._look is None or not seen or len(batch) == 0:
            return batch
        found = {**batch.condition, **self._look(batch.lq, seen)}
        return dataclasses.replace(batch, condition=found)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, their average, the network's buffers, and the optimiser's state."""
        average = {} if self._average is None else {AVERAGE: self._average}
        buffers = {_BUFFER + name: value for name, value in self.network.named_buffers()}
        phase = {_PHASE: torch.tensor(self._phase)} if len(self._still) > 1 else {}
        return {
            _PARAMETERS: self._flat.vector.detach(),
            **self._optimizer.tensors(),
            **average,
            **buffers,
            **phase,
        }

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `tensors` returned."""
        self._flat.vector.data.copy_(tensors[_PARAMETERS])
        if _PHASE in tensors:
            self._enter(int(tensors[_PHASE]))
        self._optimizer.resume(tensors)
        if self._average is not None:
            self._average.copy_(tensors[AVERAGE])
        for name, value in self.network.named_buffers():
            value.copy_(tensors[_BUFFER + name])

    def finish(self, directory: Storage, record: Record) -> None:
        """Write the expert, by the average of its weights, and the log."""
        if self._average is not None:
            self._flat.vector.data.copy_(self._average)
        weights = self.network.state_dict() if self._job.adapter is None else self._adapter
        save_expert(directory, weights, self._job, num_samples=record.num_seen)
        directory.write_json(LOG, record.log())


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
