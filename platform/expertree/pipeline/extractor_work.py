"""The work of a lane that trains the extractor; apart, so that it imports only what it needs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from expertree.embedding import ExtractorConfig, train_extractor
from expertree.experts import read_patches
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training import CHECKPOINTS, Workers, is_trained


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractorWork:
    """The training of the extractor, as work for a lane."""

    config: ExtractorConfig
    table: Storage
    directory: Storage
    spec: Mapping[str, Any]
    seed: int
    device: str

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Train the extractor with the lane's only worker, and commit it; once is enough.

        Raises:
            ValueError: If the lane has several workers.
        """
        if workers.count > 1:
            raise ValueError(f"one worker trains the extractor, not {workers.count}")
        if is_trained(self.directory, workers):
            return
        patches = read_patches(self.table, self.table.list_files(".parquet"))
        train_extractor(
            self.config,
            patches,
            patches.captions,
            directory=self.directory,
            seed=self.seed,
            on_progress=on_progress,
            device=self.device,
            commit=functools.partial(self.directory.commit, dict(self.spec), without=CHECKPOINTS),
        )
