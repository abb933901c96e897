"""The work of a lane that trains an expert; apart, so that a lane imports only what it needs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from torch import nn

from expertree.degradation.fresh import NO_REAL_MAPS, RealMaps
from expertree.embedding import load_extractor, look
from expertree.experts import ExpertJob, PairedPatches, read_patches, train_expert
from expertree.experts.conditions import Look
from expertree.experts.telling import Told
from expertree.experts.training import Hooks
from expertree.owners import Owner
from expertree.pipeline.follow_training import Follower, TrackedRun
from expertree.pipeline.held import held_by_all
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.threads import threads
from expertree.training import CHECKPOINTS, OnCheckpoint, Workers, is_trained


@functools.lru_cache(maxsize=1)
def _looking(extractor: str) -> Look:
    return functools.partial(look, load_extractor(Storage.open(extractor)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertWork:
    """The training of one expert, as work for a lane."""

    job: ExpertJob
    shards: Storage
    files: tuple[str, ...]
    directory: Storage
    spec: Mapping[str, Any]
    device: str
    tracked: TrackedRun | None = None
    maps: RealMaps = NO_REAL_MAPS
    owner: Owner | None = None

    @property
    def look(self) -> Look | None:
        """What finds in crops what the network is told of them; None if it is told nothing."""
        return None if self.job.extractor is None else _looking(self.job.extractor)

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Train the expert and commit its result; do nothing if it is in the store.

        Raises:
            HeldError: If another job is training it.
        """
        with held_by_all(self.directory, self.owner, on_progress, workers) as watched:
            if is_trained(self.directory, workers):
                return
            with threads(1):  # Degrading anew goes on beside the steps.
                self._train_followed(watched, workers)

    def _told(self, network: nn.Module) -> nn.Module:
        return Told(network, self.job.backbone, self.look) if self.look is not None else network

    def _train_followed(self, on_progress: OnProgress, workers: Workers) -> None:
        patches = read_patches(self.shards, self.files, maps=self.maps, look=self.look)
        if self.tracked is None or not workers.is_first:
            self._train(patches, workers, on_progress, None)
            return
        with Follower(self.tracked, patches, self._told) as follower:

            def both(progress: Mapping[str, Any]) -> None:
                follower.on_progress(progress)
                on_progress(progress)

            self._train(patches, workers, both, follower.on_checkpoint)

    def _train(
        self,
        patches: PairedPatches,
        workers: Workers,
        on_progress: OnProgress,
        on_checkpoint: OnCheckpoint | None,
    ) -> None:
        commit = functools.partial(self.directory.commit, dict(self.spec), without=CHECKPOINTS)
        train_expert(
            self.job,
            patches=patches,
            directory=self.directory,
            on_progress=on_progress,
            hooks=Hooks(on_checkpoint=on_checkpoint, commit=commit),
            device=self.device,
            workers=workers,
        )
