"""Write checkpoints of one training, and read the newest one that is not damaged."""

import dataclasses
import hashlib
import logging
from collections.abc import Collection
from typing import Any, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from expertree.errors import ArtefactError
from expertree.storage import Storage
from expertree.training.workers import Workers

logger = logging.getLogger(__name__)

NUM_KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it in case the newest is damaged."""

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in their result's directory; no part of the result."""


_PREFIX = "after-"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state of a training between two steps.

    Attributes:
        num_seen: Samples seen so far.
        tensors: Weights and the optimiser's state.
        progress: The rest of the state as plain data, such as the loss curve and seconds.
    """

    num_seen: int
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training, in a folder of its result's directory.

    The description of a checkpoint (JSON, with the hash of its tensors) is written after the
    tensors, so an interrupted write leaves no checkpoint.
    """

    def __init__(
        self, directory: Storage, job_fingerprint: str, *, earlier: Collection[str] = ()
    ) -> None:
        """Open the checkpoints in a directory.

        Args:
            directory: Directory of the result.
            job_fingerprint: Fingerprint of the job; a checkpoint of another one is refused.
            earlier: Fingerprints that the same job had in earlier versions; they are accepted too.
        """
        self.directory, self._storage = directory, directory.sub(CHECKPOINTS)
        self._job_fingerprint, self._earlier = job_fingerprint, earlier

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then delete all but the newest `NUM_KEPT`.

        Raises:
            StorageError: If it cannot be written; earlier checkpoints are intact.
        """
        data = safetensors.torch.save(checkpoint.tensors)
        name = _name(checkpoint.num_seen)
        self._storage.write_bytes(f"{name}.safetensors", data)
        self._storage.write_json(
            f"{name}.json",
            {
                "job": self._job_fingerprint,
                "num_seen": checkpoint.num_seen,
                "sha256": hashlib.sha256(data).hexdigest(),
                "progress": checkpoint.progress,
            },
        )
        for old in self._names()[NUM_KEPT:]:
            self._delete(old)

    @property
    def num_seen(self) -> int:
        """The number of samples at the newest checkpoint, damaged or not; 0 if there is none."""
        names = self._names()
        return int(names[0].removeprefix(_PREFIX)) if names else 0

    def newest_valid(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged; None if there is none.

        A damaged one is named in the log and deleted.

        Raises:
            ArtefactError: If a checkpoint belongs to another job.
            StorageError: If a checkpoint exists and cannot be read; it is left as it is.
        """
        for name in self._names():
            try:
                return self._read(name)
            except _DamagedError as damage:
                logger.warning("checkpoint %s; the one before it is used, if there is one", damage)
                self._delete(name)
        return None

    def clear(self) -> None:
        """Delete all checkpoints."""
        self._storage.delete()

    def _names(self) -> list[str]:
        """Return the names of the checkpoints that were finished, newest first."""
        return [n.removesuffix(".json") for n in reversed(self._storage.list_files(".json"))]

    def _read(self, name: str) -> Checkpoint:
        path = self._storage.where(name)
        try:
            description = cast("dict[str, Any]", self._storage.read_json(f"{name}.json"))
            data = self._storage.read_bytes(f"{name}.safetensors")
            tensors = safetensors.torch.load(data)
            found = hashlib.sha256(data).hexdigest()
            intact = found == description["sha256"]
            job, num_seen = description["job"], description["num_seen"]
            progress = description["progress"]
        except (ArtefactError, SafetensorError, KeyError, TypeError) as error:
            raise _DamagedError(f"{path} cannot be read ({error})") from error
        if not intact:
            raise _DamagedError(f"{path} has sha256 {found[:12]}, not what was written")
        if job != self._job_fingerprint and job not in self._earlier:
            raise ArtefactError(
                f"{path} is a checkpoint of another job ({job}, not {self._job_fingerprint}); give "
                "each job a directory of its own"
            )
        return Checkpoint(num_seen=num_seen, tensors=tensors, progress=progress)

    def _delete(self, name: str) -> None:
        for suffix in (".json", ".safetensors"):
            if self._storage.exists(name + suffix):
                self._storage.delete(name + suffix)


def is_trained(result: Storage, workers: Workers) -> bool:
    """Return whether a training's result is finished, the same in all workers.

    If so, the first one deletes the checkpoints that an interruption has left there.

    Raises:
        StorageError: If the result cannot be looked at, or they cannot be deleted.
    """
    is_done = workers.agree_on(result.is_done())
    if is_done and workers.is_first:
        result.sub(CHECKPOINTS).delete()
    return is_done


class _DamagedError(Exception):
    """The content of a checkpoint is not what was written."""


def _name(num_seen: int) -> str:
    return f"{_PREFIX}{num_seen:012d}"
