"""Checkpoints on a storage that does not always answer."""

import errno
from typing import Any

import pytest
import torch

from expertree import faults, storage
from expertree.errors import TransientStorageError
from expertree.storage import Storage
from expertree.training.checkpoints import Checkpoint, Checkpoints


class ReadsNothing:
    """A filesystem that lists, writes and deletes, and fails to read."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def open_input_file(self, _: str) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_taken_for_damaged(tmp_path, monkeypatch):
    checkpoints = Checkpoints(Storage.open(tmp_path), "job")
    checkpoints.save(Checkpoint(num_seen=8, tensors={"a": torch.ones(2)}, progress={}))
    resolve = storage._resolve
    with monkeypatch.context() as patch:
        patch.setattr(
            storage, "_resolve", lambda uri: (ReadsNothing(resolve(uri)[0]), resolve(uri)[1])
        )
        soon = faults.Patience(for_s=0.1, first_s=0.01, most_s=0.05)
        with (
            pytest.raises(TransientStorageError, match="after-000000000008"),
            faults.patience(soon),
        ):
            checkpoints.newest_valid()
    found = checkpoints.newest_valid()
    assert found is not None
    assert found.num_seen == 8
