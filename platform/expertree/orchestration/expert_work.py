"""Training one expert, as a lane does it. Apart, so that a lane imports only what it needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from expertree.experts import ExpertJob, read_patches, train_expert
from expertree.experts.workers import Workers
from expertree.orchestration.lanes import OnProgress
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertWork:
    """Training one expert, as a lane does it."""

    job: ExpertJob
    shards: Storage
    files: tuple[str, ...]
    directory: Storage
    spec: Mapping[str, Any]
    device: str

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """See `lanes.Work`."""
        if workers.agree_on(self.directory.is_done()):
            return
        patches = read_patches(self.shards, self.files)
        train_expert(
            self.job,
            patches=patches,
            directory=self.directory,
            on_progress=on_progress,
            device=self.device,
            workers=workers,
        )
        if workers.is_first:
            self.directory.commit(dict(self.spec))
