"""Save, read and delete checkpoints of the extractor's training, each a committed directory."""

import safetensors.torch
from torch import Tensor

from expertree.errors import ArtefactError
from expertree.storage import Storage

_FOLDER, _TENSORS, _PROGRESS = "checkpoints", "tensors.safetensors", "progress.json"
_NUM_KEPT = 2


def save_checkpoint(
    directory: Storage, key: str, step: int, tensors: dict[str, Tensor], losses: list[float]
) -> None:
    """Write a checkpoint, then delete all but the newest two.

    Args:
        directory: Directory of the training.
        key: Fingerprint of all that decides the result.
        step: Number of steps taken.
        tensors: Weights and the optimiser's state.
        losses: The loss of each step.
    """
    place = directory.sub(_FOLDER, f"{step:08d}")
    place.write_bytes(_TENSORS, safetensors.torch.save(tensors))
    place.write_json(_PROGRESS, losses)
    place.commit({"key": key, "step": step})
    for name in _names(directory)[:-_NUM_KEPT]:
        directory.sub(_FOLDER, name).delete()


def newest_checkpoint(
    directory: Storage, key: str
) -> tuple[int, dict[str, Tensor], list[float]] | None:
    """Read the newest checkpoint that is whole and was made under the same key.

    Returns:
        Steps taken, tensors, the loss of each step; None if there is no such checkpoint.
    """
    for name in reversed(_names(directory)):
        place = directory.sub(_FOLDER, name)
        try:
            place.verify()
            spec = place.done()["spec"]
            if spec["key"] == key:
                tensors = safetensors.torch.load(place.read_bytes(_TENSORS))
                return int(spec["step"]), tensors, place.read_json(_PROGRESS)
        except ArtefactError:
            # Half-written when the training was killed, or damaged since: the one before counts.
            continue
    return None


def delete_checkpoints(directory: Storage) -> None:
    """Delete all checkpoints of a finished training."""
    directory.sub(_FOLDER).delete()


def _names(directory: Storage) -> list[str]:
    return sorted({name.split("/")[0] for name in directory.sub(_FOLDER).list_files()})
