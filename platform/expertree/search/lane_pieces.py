"""The work of a lane for a search: training an expert in parts, and scoring it."""

import dataclasses
import functools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.experts import PairedPatches, read_patches, score_expert, train_expert
from expertree.experts.training import Hooks, Part
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.held import held_by_all
from expertree.pipeline.score import (
    SCORE_BATCH,
    Column,
    open_expert,
    read_to_score,
    write_scores,
)
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.threads import threads
from expertree.training import CHECKPOINTS, Workers, is_trained


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PieceWork:
    """The training of one expert up to a rung, with a snapshot at each rung on the way.

    Attributes:
        expert: Work of the whole training.
        parts: Rungs before the end, in order: samples, directory of the snapshot, its spec.
        in_full: Whether it is trained to its end after them.
        notes: Directory for a note of each piece that was trained.
    """

    expert: ExpertWork
    parts: tuple[tuple[int, Storage, Mapping[str, Any]], ...]
    in_full: bool
    notes: Storage

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Train the pieces that are not stored yet, and commit each."""
        own = self.expert
        with held_by_all(own.directory, own.owner, on_progress, workers) as watched:
            if is_trained(own.directory, workers):
                return
            with threads(1):  # Degrading anew goes on beside the steps.
                self._train_parts(watched, workers)

    def _train_parts(self, on_progress: OnProgress, workers: Workers) -> None:
        own = self.expert
        patches = read_patches(own.shards, own.files, maps=own.maps, look=own.look)
        for num_samples, snapshot, spec in self.parts:
            if not is_trained(snapshot, workers):
                part = Part(num_samples=num_samples, snapshot=snapshot)
                self._train(patches, on_progress, workers, part, spec)
        if self.in_full:
            self._train(patches, on_progress, workers, None, self.expert.spec)

    def _train(
        self,
        patches: PairedPatches,
        on_progress: OnProgress,
        workers: Workers,
        part: Part | None,
        spec: Mapping[str, Any],
    ) -> None:
        result = self.expert.directory if part is None else part.snapshot
        commit = functools.partial(result.commit, dict(spec), without=CHECKPOINTS)
        trained = train_expert(
            self.expert.job,
            patches=patches,
            directory=self.expert.directory,
            on_progress=on_progress,
            hooks=Hooks(commit=commit),
            device=self.expert.device,
            workers=workers,
            part=part,
        )
        if workers.is_first:
            end = self.expert.job.num_samples if part is None else part.num_samples
            key = self.expert.job.key
            note = {"key": key, "samples": end, "seconds": trained.seconds}
            self.notes.write_json(f"{key}-{end:012d}-{uuid.uuid4().hex[:8]}.json", note)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScoreWork:
    """The scoring of one expert on patch sets.

    Attributes:
        expert: Result in the store that holds the expert.
        columns: Columns of scores to make.
        device: Device to compute on.
    """

    expert: Storage
    columns: tuple[Column, ...]
    device: str

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Make the columns that are not stored yet; the first worker does it alone."""
        if not workers.is_first:
            return
        missing = [column for column in self.columns if not column.directory.is_done()]
        if missing:
            with threads(1):
                self._score(missing, on_progress)

    def _score(self, missing: Sequence[Column], on_progress: OnProgress) -> None:
        network = open_expert(self.expert).to(self.device)
        for number, column in enumerate(missing, start=1):
            patches = _patches(column.table)
            write_scores(column, patches, score_expert(network, patches, batch_size=SCORE_BATCH))
            on_progress({"samples": number})


@functools.lru_cache(maxsize=4)
def _patches(table: Storage) -> PairedPatches:
    """Read the patches of a set; kept by the lane, which scores the next expert on them too."""
    return read_to_score(table)
