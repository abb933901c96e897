"""The work of a lane that trains an expert; apart, so that a lane imports only what it needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from expertree.degradation.fresh import NO_REAL_MAPS, RealMaps
from expertree.experts import ExpertJob, PairedPatches, read_patches, train_expert
from expertree.pipeline.follow_training import Follower, TrackedRun
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.threads import threads
from expertree.training import OnCheckpoint, Workers


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

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Train the expert and commit its result; do nothing if it is in the store."""
        if workers.agree_on(self.directory.is_done()):
            return
        with threads(1):  # Degrading anew goes on beside the steps.
            self._train_followed(on_progress, workers)

    def _train_followed(self, on_progress: OnProgress, workers: Workers) -> None:
        patches = read_patches(self.shards, self.files, maps=self.maps)
        if self.tracked is None or not workers.is_first:
            self._train(patches, workers, on_progress, None)
            return
        with Follower(self.tracked, patches) as follower:

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
        train_expert(
            self.job,
            patches=patches,
            directory=self.directory,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
            device=self.device,
            workers=workers,
        )
        if workers.is_first:
            self.directory.commit(dict(self.spec))
